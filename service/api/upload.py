"""What the routes share that take a video: a slot, the upload in the spool, and work while the client is there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema

from service.api.asked import Asked, P
from service.api.body import Body, receive_video
from service.api.in_flight import InFlight
from service.api.openapi import reference
from service.errors import (
    DiskFull,
    EmptyFile,
    MalformedUpload,
    NoFile,
    Overloaded,
    SpoolFull,
    TooLarge,
    UnsupportedUpload,
    UploadTimeout,
)
from service.settings import Settings
from service.spool import Spool, SpoolFile

# All that `received` raises.
UPLOAD_ERRORS = (
    NoFile, EmptyFile, MalformedUpload, UploadTimeout, TooLarge, UnsupportedUpload, Overloaded, SpoolFull, DiskFull,
)  # fmt: skip
Binary = Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]


def never_null(schema: dict[str, Any]) -> None:
    """Of a form: a field is there or not."""
    for name, said in schema["properties"].items():
        if either := said.pop("anyOf", None):
            schema["properties"][name] = next(each for each in either if each["type"] != "null") | said


class ClipForm(BaseModel):
    """A form with one clip (RFC 7578), before the parameters that are its other fields."""

    model_config = ConfigDict(json_schema_extra=never_null)

    video: Binary = Field(description="The file.")


def request_body(form: type[ClipForm]) -> dict[str, Any]:
    """Media ranges are no media types to generators of clients: `video/*` stands in words."""
    return {
        "required": True,
        "description": "The clip: as the file field `video` of a form, or as the raw body, whose type may also be any "
        "`video/*`. A form may have the query's parameters as fields, each in one of both places.",
        "content": {
            "multipart/form-data": {"schema": reference(form, "validation")},
            "application/octet-stream": {"schema": TypeAdapter(Binary).json_schema()},
        },
    }


_T = TypeVar("_T")
_in_flight = InFlight()


@dataclass(frozen=True)
class Upload:
    """A received video on disk; it is there until `received` is left. cancelled: set when the client goes away."""

    path: Path
    sha256: str
    seconds: float
    body: Body
    cancelled: threading.Event = field(default_factory=threading.Event)

    async def run(self, pool: Executor, work: Callable[[], _T]) -> _T:
        """Do blocking work in the pool; it sees `cancelled`, and is waited for: the file must outlive it."""
        working = asyncio.get_running_loop().run_in_executor(pool, work)
        gone = asyncio.create_task(self.body.disconnected())
        try:
            waited: set[asyncio.Future[Any]] = {working, gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self.cancelled.set()
            return await working
        finally:
            self.cancelled.set()  # the server may be the one that stops
            gone.cancel()


@contextlib.asynccontextmanager
async def received(
    request: Request,
    spool: Spool,
    settings: Settings,
    asked: Asked[P],
    check: Callable[[], object],
    admit: Callable[[], None] = lambda: None,
    backlog_seconds: Callable[[], int] = lambda: 0,
) -> AsyncIterator[Upload]:
    """Take a slot, ask `admit`, then take the request's video: all that can refuse it does so before its body is read.

    asked: takes the fields of a form; check: asked again when the form's file begins, and when the body has ended.
    backlog_seconds: to wait by the work that is accepted, for those who find no slot.

    Raises Overloaded, what `admit` and `check` raise, and the errors of `receive_video`.
    """
    with _in_flight.entered(settings.max_requests_in_flight, backlog_seconds):
        admit()
        async with spooled(spool) as file:
            started = time.perf_counter()
            try:
                body = await receive_video(request, file, settings, asked, check)
            except SpoolFull as error:
                error.retry_after_seconds = _in_flight.retry_after_seconds()
                raise
            yield Upload(file.path, file.sha256, time.perf_counter() - started, body)


@contextlib.asynccontextmanager
async def spooled(spool: Spool) -> AsyncIterator[SpoolFile]:
    """A file of the spool. A disk that is busy held the event loop up for 200 ms when it was made and deleted there."""
    opening = asyncio.get_running_loop().run_in_executor(None, spool.open)
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    try:
        yield file
    finally:
        await asyncio.shield(asyncio.to_thread(file.close))


def _close_late(opening: asyncio.Future[SpoolFile]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()
