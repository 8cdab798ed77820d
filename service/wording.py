"""What was asked for, held against what may be: one text for one mistake, in words of the request.

For query, form, JSON and headers, for the flags of commands and for settings. What a parameter may be is read from its
field, so that no text of a validator is ever shown.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from service.errors import BadParameter
from service.redaction import hidden, scrubbed_value

# Of a value or a name in a message.
_MOST_LETTERS = 100
_ALIKE = 0.6
_MOST_NAMES = 20
_BOUNDS = ("ge", "gt", "le", "lt")
_UNITS = ("seconds", "bytes", "pixels", "frames", "ticks", "threads", "items")
# OpenAPI's place for what it has no word for.
UNIT = "x-unit"

P = TypeVar("P", bound=BaseModel)


def parsed(model: type[P], given: Mapping[str, object], spelled: Callable[[str], str] = str) -> P:
    """What was given, as the model has it. spelled: a parameter's name as who asks writes it. Raises BadParameter."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error.errors(), model.model_fields, spelled) from error


def refusal(
    problems: Iterable[ErrorDetails], fields: Mapping[str, FieldInfo], spelled: Callable[[str], str] = str
) -> BadParameter:
    """Of what pydantic found, the first: it is about one of the `fields`, or about a name that is none of them."""
    problem = next(iter(problems))
    name = str(problem["loc"][-1]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return BadParameter(unknown(spelled(name), map(spelled, fields), "the request"), value=cut(name))
    broken = problem.get("ctx", {})
    limit = next((broken[bound] for bound in (*_BOUNDS, "max_length", "min_length") if bound in broken), None)
    value = plain(problem["input"])
    return BadParameter(complaint(spelled(name), problem, fields.get(name)), value=value, limit=limit)


def complaint(name: str, problem: ErrorDetails, field: FieldInfo | None) -> str:
    """The value, what it may be, and so the remedy. name: as who asks writes it."""
    if problem["type"] == "value_error":  # a validator of ours, in words of its own
        words = str(problem["ctx"]["error"])
        return f"{name} is {said(problem['input'])}: {words}" if name else words
    give = "something else" if field is None else wanted(name, field, finite=problem["type"] == "finite_number")
    if problem["type"] == "missing":
        return f"{name} is missing; give {give}"
    return f"{name} is {said(problem['input'])}; give {give}"


def wanted(name: str, field: FieldInfo, *, finite: bool = False) -> str:
    """What a parameter may be, in a few words: `a whole number of ticks, 1 or more`."""
    kinds = _kinds(field)
    if len(kinds) > 1:
        return " or ".join(wanted(name, each) for each in kinds)
    kind, field = kinds[0].annotation, kinds[0]
    bounds = {bound: getattr(each, bound) for each in field.metadata for bound in _BOUNDS if hasattr(each, bound)}
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        adjective = "whole " if kind is int else "finite " if finite else ""
        unit = unit_of(name, field)
        return f"a {adjective}number{f' of {unit}' if unit else ''}{_between(bounds)}"
    if get_origin(kind) is list:
        return "a list"
    return f"a line of text{_letters(field)}"


def noun(name: str, field: FieldInfo) -> str:
    """For the place of a value: its unit, `number`, or `text`."""
    return unit_of(name, field) or ("number" if _kinds(field)[0].annotation in (int, float) else "text")


def unit_of(name: str, field: FieldInfo) -> str | None:
    """Of a number: as its field says, or by the end of its name."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and UNIT in extra:
        return str(extra[UNIT])
    last = name.rstrip("]").replace("-", "_").rpartition("_")[2]
    return last if last in _UNITS else None


def unknown(name: str, known: Iterable[str], place: str, of_items: Collection[str] = ()) -> str:
    """A name that is none of those that there are; with those that look like it, and all, or with where it belongs.

    of_items: names of what each item has for itself.
    """
    if name in of_items:
        return f"{place} has no parameter {name} for all items; {in_the_manifest(name)}"
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=_ALIKE)
    words = [f"did you mean {' or '.join(close)}?"] if close else []
    if not close or len(names) <= _MOST_NAMES:
        words.append(f"it takes {', '.join(names) or 'none'}" if not close else f"It takes {', '.join(names)}")
    return f"{place} has no parameter {cut(name)}; {' '.join(words)}"


def in_the_manifest(name: str) -> str:
    """Where it belongs that each item has for itself."""
    return f"give {name} in the manifest, beside each item's uri"


def as_flag(name: str) -> str:
    """A parameter as commands write it."""
    return f"--{name.replace('_', '-')}"


def repeated(name: str, count: int, place: str = "") -> str:
    """A name that is given several times, of which only one could count."""
    times = "twice" if count == 2 else f"{count} times"
    return f"{name} is given {times}{f' {place}' if place else ''}; give it once"


def said(value: object) -> str:
    """A value as it was written, URLs in it hidden."""
    if value == "":
        return "empty"
    if isinstance(value, str):
        text = hidden(value)
        return repr(text[:_MOST_LETTERS]) + ("…" if len(text) > _MOST_LETTERS else "")
    try:
        return _short(json.dumps(scrubbed_value(value), default=str))
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"


def plain(value: object) -> object:
    """A value for an answer in JSON, which has no infinity, and no room for long ones."""
    if isinstance(value, str):
        return cut(value)
    is_short = isinstance(value, int) and abs(value) < 2**53
    is_finite = isinstance(value, float) and math.isfinite(value)
    return value if value is None or is_short or is_finite else said(value)


def cut(text: str) -> str:
    """A name or a value that is not too long for a message, in letters that UTF-8 has: a URL hidden, control characters
    escaped.
    """
    return _short(hidden(text))


def _short(text: str) -> str:
    short = text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in short)


def _kinds(field: FieldInfo) -> list[FieldInfo]:
    """What it may be, each with its bounds: without what is left out, and of numbers those that hold the others."""
    annotation: Any = field.annotation
    is_union = get_origin(annotation) in (Union, UnionType)
    each = get_args(annotation) if is_union else (annotation,)
    kinds = [FieldInfo.from_annotation(kind) for kind in each if kind is not type(None)]
    for kind in kinds:
        kind.metadata += field.metadata
        kind.json_schema_extra = field.json_schema_extra
    has_numbers = float in {kind.annotation for kind in kinds}
    return [kind for kind in kinds if not (has_numbers and kind.annotation is int)]


def _between(bounds: Mapping[str, float]) -> str:
    least, above, most = bounds.get("ge"), bounds.get("gt"), bounds.get("le")
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    if above is not None:
        return f" above {_number(above)}" + (f", at most {_number(most)}" if most is not None else "")
    if least is not None:
        return f", {_number(least)} or more"
    return f", at most {_number(most)}" if most is not None else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _letters(field: FieldInfo) -> str:
    most = next((each.max_length for each in field.metadata if getattr(each, "max_length", None) is not None), None)
    return f" of 1 to {most} characters" if most is not None else ""
