"""What routes take, as FastAPI has it from their signatures; what they don't take is refused before they are called."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo

from service.errors import BadParameter
from service.parameters import ClipParameters
from service.wording import cut, refusal, repeated, unknown

# Ours, by their meaning: who sends one with work to do wants it to count.
_HEADERS = ("X-Request-Timeout", "Idempotency-Key")


async def check_names(request: Request) -> None:
    """Raises BadParameter for a parameter of the query that the route does not have, and for one that is given twice.

    The headers that are ours count alike.
    """
    route: APIRoute = request.scope["route"]
    known, where = query_of(route), f"{request.method} {request.url.path}"
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            models = filter(None, (_model(each.field_info) for each in route.dependant.query_params))
            of_items = [each for model in models for each in model.of_items]
            raise BadParameter(unknown(name, known, where, of_items), value=cut(name))
        if count > 1:
            raise BadParameter(repeated(name, count, "in the query"), value=name)
    taken = headers_of(route)
    for name in _HEADERS:
        if (count := len(request.headers.getlist(name))) > 1:
            raise BadParameter(repeated(name, count, "in the headers"), value=name)
        if count and name not in taken and request.method == "POST":
            raise BadParameter(f"{where} takes no {name}; leave it out", value=name)


def refused(request: Request, error: RequestValidationError) -> BadParameter:
    """What FastAPI found wrong, in words of the request."""
    route: APIRoute = request.scope["route"]
    return refusal(error.errors(), query_of(route) | headers_of(route))


def query_of(route: APIRoute) -> dict[str, FieldInfo]:
    """Parameters of a route's query, by name."""
    fields: dict[str, FieldInfo] = {}
    for each in route.dependant.query_params:
        model = _model(each.field_info)
        fields |= {each.alias: each.field_info} if model is None else model.model_fields
    return fields


def _model(field: FieldInfo) -> type[ClipParameters] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, ClipParameters) else None


def headers_of(route: APIRoute) -> dict[str, FieldInfo]:
    """Headers that a route reads, by name."""
    return {each.alias: each.field_info for each in route.dependant.header_params}
