"""Request bodies, streamed: a video goes to its spool file in pieces of at most 1 MiB, never whole into memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from service.api.form import FORM_BYTES, Form, Write
from service.errors import EmptyFile, MalformedUpload, NoFile, UnsupportedUpload, UploadTimeout
from service.settings import Settings
from service.spool import SpoolFile

FIELD = "video"
_PIECE_BYTES = 1024 * 1024
_MAX_PARTS = 32
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


async def receive_video(request: Request, file: SpoolFile, settings: Settings) -> Body:
    """Write the request's video into `file`; returns the body, read to its end.

    multipart/form-data with a file in the field `video` (RFC 7578), or the raw bytes as `video/*` or
    `application/octet-stream`. Raises UnsupportedUpload, NoFile, EmptyFile, MalformedUpload, TooLarge,
    SpoolFull, DiskFull, UploadTimeout, ClientDisconnect.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    body = Body(request.scope, request.receive)
    pieces = body.pieces(settings.upload_idle_seconds, settings.upload_seconds)
    if content_type == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise MalformedUpload("multipart/form-data without a boundary; let your HTTP library set Content-Type")
        video = _OneVideo(file)
        form = Form(options[b"boundary"], video.take, _MAX_PARTS)
        file.reserve(announced(request) - FORM_BYTES)
        async for piece in pieces:
            await asyncio.to_thread(form.feed, piece)
        form.finish()
        video.check()
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

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._names: list[str] = []
        self._found = False

    def take(self, name: str, file_name: str | None) -> Write | None:
        """As `Form` asks. Raises NoFile, MalformedUpload."""
        self._names.append(name)
        if name != FIELD:
            return None
        if file_name is None:
            # A text that names an address is never fetched.
            raise NoFile(f"the field {FIELD!r} holds text, not a file; send the bytes: curl -F {FIELD}=@clip.mp4 URL")
        if self._found:
            raise MalformedUpload(f"the form has more than one file in the field {FIELD!r}; send one a request")
        self._found = True
        return self._file.write

    def check(self) -> None:
        """After the last part. Raises NoFile."""
        if not self._found:
            named = f"; the form has {', '.join(self._names)}" if self._names else ""
            raise NoFile(f"no file in the field {FIELD!r}{named}; send it as: curl -F {FIELD}=@clip.mp4 URL")
