"""JSON bodies, strictly: each name once, finite numbers, no unknown name, and mistakes in words of the request."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import BadParameter
from service.jobs.errors import BadInput
from service.wording import complaint, cut, plain, repeated, said, unknown

M = TypeVar("M", bound=BaseModel)


def json_object(text: bytes) -> dict[str, Any]:
    """A body that is a JSON object (RFC 8259). Raises BadInput, and BadParameter for a name that comes twice.

    NaN and Infinity are no JSON; they are read all the same, so that the complaint can name whose value they are.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise BadInput("the JSON body is nested too deeply; send an object with the list `items`") from error
    except ValueError as error:  # of its syntax, its letters, or a number of thousands of digits
        raise BadInput(f"the body is no JSON: {error}; send an object with the list `items`") from error
    if not isinstance(value, dict):
        raise BadInput(f"the JSON body is {said(value)}; send an object with the list `items`")
    return value


def parsed_items(kind: type[M], items: object) -> list[M]:
    """The list `items` of a body. Raises BadInput, which names the first that is wrong."""
    if not isinstance(items, list):
        have = "is missing" if items is None else f"is {said(items)}"
        raise BadInput(f"items {have}; give a list of objects with {', '.join(kind.model_fields)}")
    return [_item(kind, f"items[{number}]", item) for number, item in enumerate(items)]


def _item(kind: type[M], place: str, item: object) -> M:
    if not isinstance(item, dict):
        raise BadInput(
            f"{place} is {said(item)}; give an object with {', '.join(kind.model_fields)}", value=plain(item)
        )
    for name in item:  # before the one that is then missing
        if name not in kind.model_fields:
            raise BadInput(unknown(name, kind.model_fields, place), value=cut(name))
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        value = None if problem["type"] == "missing" else plain(problem["input"])
        raise BadInput(complaint(f"{place}.{name}", problem, kind.model_fields[name]), value=value) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadParameter(repeated(cut(name), count, "in one object of the JSON body"), value=cut(name))
    return found
