"""Around every request: its id, and its count in the metrics."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import unexpected
from service.metrics import REQUESTS

log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")


class RequestContext:
    """Pure ASGI: takes `X-Request-ID` when it is well formed, else makes one, and sends it back.

    What no handler caught becomes a problem here, inside the count and the id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.match(asked) else uuid.uuid4().hex
        # A state of its own: BentoML's scope shares one among requests.
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                # The route's template, not the path: a path would be a new series each.
                route = getattr(scope.get("route"), "path", "unmatched")
                REQUESTS.labels(route, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            await unexpected(request_id)(scope, receive, send_with_id)
