"""What /openapi.json says beside what FastAPI reads off the routes: problems, headers, and models that it can't see."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service.api.examples import example
from service.api.problems import Problem
from service.api.refusal import MEDIA_TYPE
from service.errors import BadParameter, ReelserveError

_REF = "#/components/schemas/{model}"
_FASTAPIS_422 = ("HTTPValidationError", "ValidationError")
_REQUEST_ID = "X-Request-ID"
_HEADERS: dict[str, dict[str, Any]] = {
    _REQUEST_ID: {
        "description": "The request's own, where it has 1 to 128 letters, digits, `.`, `_` and `-`; else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "Retry-After": {
        "description": "Seconds, after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Server-Timing": {
        "description": "Each stage of `timing_ms`, as the W3C has it: `decode;dur=12.3, …`, milliseconds.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Path of what was made.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Content-Disposition": {
        "description": "`attachment` with a file name, of a Parquet file (RFC 6266).",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The next page, `<PATH>; rel="next"` (RFC 8288); none on the last one.',
        "schema": {"type": "string"},
    },
}
_models: dict[type[BaseModel], JsonSchemaMode] = {}


def reference(model: type[BaseModel], mode: JsonSchemaMode = "serialization") -> dict[str, Any]:
    """Schema of a model that no parameter and no annotation of a route names: one component, whoever refers to it."""
    _models[model] = mode
    return {"$ref": _REF.format(model=model.__name__)}


def headers(*names: str) -> dict[str, Any]:
    """The field `headers` of a response."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def problems(*errors: type[ReelserveError]) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that may raise these, what `check_names` raises on any, and what nobody foresaw."""
    by_status: defaultdict[int, list[type[ReelserveError]]] = defaultdict(list)
    each: dict[type[ReelserveError], None] = dict.fromkeys([BadParameter, *errors, ReelserveError])
    for error in each:
        by_status[error.status].append(error)
    return {status: _problem(status, of) for status, of in sorted(by_status.items())}


def _problem(status: int, errors: list[type[ReelserveError]]) -> dict[str, Any]:
    retries = any(error.retry_after_seconds for error in errors)
    return {
        "description": "\n".join(f"- `{error.code}`: {error.when()} What to do: {error.remedy}." for error in errors),
        "content": {MEDIA_TYPE: {"schema": reference(Problem), **example(f"problem {status}")}},
        **headers(*(["Retry-After"] if retries else [])),
    }


def describe(app: FastAPI) -> None:
    """Complete what the app says of itself."""
    by_fastapi = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(by_fastapi())
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _say_defaults(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """In words: generated clients send each default, and what a body may say must not stand in the query too."""
    for media in operation["requestBody"]["content"].values():
        body = media["schema"]
        body = schemas[body["$ref"].rpartition("/")[2]] if "$ref" in body else body
        for field in body.get("properties", {}).values():
            _say_default(field, field)
    for parameter in operation["parameters"]:
        _say_default(parameter["schema"], parameter)


def _say_default(schema: dict[str, Any], described: dict[str, Any]) -> None:
    default = schema.pop("default", None)
    if default is not None:
        described["description"] = f"{described['description']} Default: {json.dumps(default)}."


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        responses = operation["responses"]
        if _FASTAPIS_422[0] in str(responses.get("422")):
            del responses["422"]  # a bad parameter is a problem, as all errors are
        for response in responses.values():
            response["headers"] = response.get("headers", {}) | headers(_REQUEST_ID)["headers"]
    _, ours = models_json_schema(list(_models.items()), ref_template=_REF)
    schemas = schema["components"]["schemas"] | ours["$defs"]
    for operation in (path["post"] for path in schema["paths"].values() if "post" in path):
        _say_defaults(operation, schemas)
    schema["components"] |= {
        "schemas": {name: schemas[name] for name in sorted(schemas) if name not in _FASTAPIS_422},
        "headers": _HEADERS,
    }
    return schema
