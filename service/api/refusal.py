"""An answer that comes before the request's body: sent at once, then the upload is read on, so that it is seen."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.body import Body, has_no_body

MEDIA_TYPE = "application/problem+json"
# A client that is cut off while it sends sees a reset instead of the answer; most send all before they read.
_LINGER_BYTES = 64 * 1024 * 1024
_LINGER_SECONDS = 10.0
_LINGER_IDLE_SECONDS = 1.0


class Refusal(JSONResponse):
    """A problem. While the upload goes on it is sent whole at once, and the rest of the upload is thrown away.

    An announced rest of at most 64 MiB is the server's to discard, as it does cheaply before the next request. Of any
    other the connection lingers (RFC 9112, 9.6): it is read for at most 10 s or 64 MiB, until nothing comes for 1 s.
    """

    media_type = MEDIA_TYPE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: Body | None = scope["state"].get("body")
        if has_no_body(scope) or (body is not None and body.ended) or _is_discarded(scope):
            await super().__call__(scope, receive, send)
            return
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self.status_code != HTTPStatus.REQUEST_TIMEOUT:  # that one was waited for long enough
            await _linger(body or Body(scope, receive))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_discarded(scope: Scope) -> bool:
    """Whether the server will read what comes after the answer, to its announced end.

    A client that waits for `100 Continue` will send nothing, so that its next request would be taken for the body.
    """
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    return length.isdecimal() and int(length) <= _LINGER_BYTES and "expect" not in headers


async def _linger(body: Body) -> None:
    left, loop = _LINGER_BYTES, asyncio.get_running_loop()
    until = loop.time() + _LINGER_SECONDS
    try:
        async with asyncio.timeout(_LINGER_IDLE_SECONDS) as idle:
            while not body.ended and left > 0:
                left -= len(await body.receive())
                idle.reschedule(min(until, loop.time() + _LINGER_IDLE_SECONDS))
    except (TimeoutError, ClientDisconnect):
        return
