"""Methods of a path: HEAD wherever there is GET (RFC 9110, 9.3.2), and what `Allow` says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

_READ = frozenset({"GET", "HEAD"})


class Router(APIRouter):
    """Answers HEAD by what answers GET, as Starlette's routes do, and FastAPI's don't; the server sends no body then.

    It is no operation of its own in /openapi.json.
    """

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options)
        if "GET" in (options.get("methods") or ()):
            super().add_api_route(path, endpoint, **options | {"methods": ["HEAD"], "include_in_schema": False})


def allowed_methods(request: Request) -> list[str]:
    """All that the request's path takes; none where there is no such path."""
    allowed: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path_regex.match(request.scope["path"]):
            allowed |= _READ if isinstance(route.original_route, Mount) else route.methods or set()
    return sorted(allowed)
