"""CORS: which pages of other origins may call, as browsers ask beforehand."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.context import RequestContext
from service.api.problems import answer
from service.errors import PreflightRefused
from service.wording import said

_NETWORK = "access-control-request-private-network"


class Cors(CORSMiddleware):
    """Starlette's, whose refusals are problems, as all errors are."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """As Starlette calls it."""
        response = super().preflight_response(request_headers)
        return response if response.status_code < PreflightRefused.status else self._refused(request_headers, response)

    def _refused(self, asked: Headers, response: Response) -> Response:
        origin, method = asked["origin"], asked["access-control-request-method"]
        faults = []
        if not self.is_allowed_origin(origin):
            faults.append(f"the origin {said(origin)} is none of `cors_origins`; add it to that setting")
        if method not in self.allow_methods:
            faults.append(f"the method {said(method)} is none of {', '.join(self.allow_methods)}; take one of these")
        if _NETWORK in asked:
            faults.append("a page of a public network may not call a private one; serve the page from there too")
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return _Refused(PreflightRefused(f"a page may not ask this: {'; '.join(faults)}"), kept)


class _Refused(Response):
    """Inside a request's context, as all that is answered: with its id, counted."""

    def __init__(self, error: PreflightRefused, headers: dict[str, str]) -> None:
        super().__init__(status_code=error.status)
        self._error = error
        self._kept = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await RequestContext(self._answer)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(self._error, scope["state"]["request_id"], self._kept)(scope, receive, send)
