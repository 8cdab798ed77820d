"""Request bodies, streamed: a video goes to its spool file in pieces of at most 1 MiB, never whole into memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from service.api.asked import FIELD, Asked, P, boundary_of, media_type
from service.api.form import FORM_BYTES, Form, Part, Write
from service.errors import EmptyFile, MalformedUpload, NoFile, UnsupportedUpload, UploadTimeout
from service.settings import Settings
from service.spool import SpoolFile
from service.wording import plain, said

_PIECE_BYTES = 1024 * 1024
# Uploads that are read at the same moment; the sockets of the others wait. When 60 of 5 MB came at once, each turn of
# the event loop read from all of them, and a newcomer was refused after 600 ms. Where nothing comes for `_TURN_SECONDS`
# the turn is given back: a slow client is in nobody's way.
_TURNS = asyncio.Semaphore(2)
_TURN_SECONDS = 0.005


class Body:
    """A request's body as a stream of pieces; remembers whether the end was reached."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        scope["state"]["body"] = self

    async def pieces(self, idle_seconds: float, total_seconds: float) -> AsyncIterator[bytearray]:
        """Pieces of about 1 MiB. Raises ClientDisconnect, UploadTimeout."""
        piece = bytearray()
        until = time.monotonic() + total_seconds
        while not self.ended:
            try:
                async with asyncio.timeout(min(idle_seconds, until - time.monotonic())):
                    piece += await self.receive()
            except TimeoutError as error:
                raise UploadTimeout(
                    f"nothing came for {idle_seconds:g} s, or the upload took longer than {total_seconds:g} s; "
                    "send faster, or raise upload_idle_seconds or upload_seconds"
                ) from error
            if len(piece) >= _PIECE_BYTES:
                yield piece
                piece = bytearray()
        if piece:
            yield piece

    async def disconnected(self) -> None:
        """Returns when the client goes away; only after the end was reached."""
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def receive(self) -> bytes:
        """The next bytes as the server has them. Raises ClientDisconnect."""
        receiving: asyncio.Future[Message] | None = None
        try:
            async with _TURNS:
                receiving = asyncio.ensure_future(self._receive())  # it lets the socket be read
                await asyncio.wait([receiving], timeout=_TURN_SECONDS)
            message = await receiving
        finally:
            if receiving is not None:
                receiving.cancel()  # where this was cancelled; else it is done
        if message["type"] == "http.disconnect":
            self.ended = True
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data


async def receive_video(
    request: Request, file: SpoolFile, settings: Settings, asked: Asked[P], check: Callable[[], object]
) -> Body:
    """Write the request's video into `file`; returns the body, read to its end.

    multipart/form-data with a file in the field `video` (RFC 7578), whose other fields go to `asked`; or the raw bytes
    as `video/*` or `application/octet-stream`. check: called when a form's file begins, as fields before it may be
    wrong. Raises what it raises, UnsupportedUpload, NoFile, EmptyFile, MalformedUpload, BadParameter, TooLarge,
    SpoolFull, DiskFull, UploadTimeout, ClientDisconnect.
    """
    check_encoding(request)
    content_type = media_type(request)
    body = Body(request.scope, request.receive)
    pieces = body.pieces(settings.upload_idle_seconds, settings.upload_seconds)
    if content_type == b"multipart/form-data":
        video = _OneVideo(file, asked, check)
        form = Form(boundary_of(request), video.take)
        file.reserve(announced(request) - FORM_BYTES)
        async for piece in pieces:
            await asyncio.to_thread(form.feed, piece)
        form.finish()
        video.finish()
        asked.close()
    elif content_type.startswith(b"video/") or content_type == b"application/octet-stream":
        file.reserve(announced(request))
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
    elif not content_type and has_no_body(request.scope):
        raise NoFile(f"the request has no body; send the clip: curl -F {FIELD}=@clip.mp4 URL")
    else:
        raise UnsupportedUpload(
            f"Content-Type {content_type.decode('latin-1')!r} is not accepted; send multipart/form-data with a field "
            f"{FIELD!r}, or the raw bytes as video/mp4",
            value=content_type.decode("latin-1"),
        )
    if file.num_bytes == 0:
        raise EmptyFile("the video has 0 bytes; send the whole file", value=0)
    return body


def check_encoding(request: Request) -> None:
    """A body that is packed would be taken for a broken video. Raises UnsupportedUpload."""
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedUpload(
            f"Content-Encoding {said(encoding)} is not accepted; send the bytes as they are, without that header",
            value=plain(encoding),
        )


def has_no_body(scope: Scope) -> bool:
    """By the request's headers."""
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def announced(request: Request) -> int:
    """Bytes of the body by Content-Length; 0 where it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


class _OneVideo:
    """Of a form, the file in the field `video`, into a file of the spool."""

    def __init__(self, file: SpoolFile, asked: Asked[P], check: Callable[[], object]) -> None:
        self._file = file
        self._asked = asked
        self._check = check
        self._name: str | None = None

    def take(self, part: Part) -> Write:
        """As `Form` asks. Raises NoFile, MalformedUpload, BadParameter."""
        if part.name != FIELD or part.file_name is None:
            return self._asked.field(part, has_clip=self._name is not None)
        if self._name is not None:
            raise MalformedUpload(
                f"the form has more than one file in the field {FIELD!r}; send one a request, or all as a job"
            )
        self._name = part.file_name
        self._check()
        return self._file.write

    def finish(self) -> None:
        """After the last part. Raises NoFile."""
        if self._name is None:
            raise NoFile(f"the form has no file in the field {FIELD!r}; send it as: curl -F {FIELD}=@clip.mp4 URL")
        if not self._name and not self._file.num_bytes:
            raise NoFile(f"no file was chosen in the form's field {FIELD!r}: it has no name and no bytes; choose one")
