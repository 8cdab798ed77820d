"""What is wrong with a recipe, in one line: file or flag, key, value, limit, remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.settings import Setting, flag_of
from service.names import visible

_MOST_LETTERS = 80
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass(frozen=True)
class Origin:
    """Where the values come from. flags: dotted keys that flags gave. names: of keys that were called otherwise."""

    file: Path | None
    flags: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, names: Mapping[str, str]) -> Origin:
        """With these keys called so."""
        return replace(self, names=names)

    def of(self, key: str) -> str:
        """The flag, or the file and its key."""
        name = self.names.get(key, key)
        if name in self.flags:
            return flag_of(name)
        return f"{self.file}: {name}" if self.file else name


def said(error: ValidationError, origin: Origin, known: Mapping[str, Mapping[str, Setting | None]]) -> str:
    """The first fault, and how many there are besides. known: what each table has; the root is the table ''."""
    lines = list(dict.fromkeys(_line(fault, origin, known) for fault in error.errors(include_url=False)))
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return visible(lines[0]) + more


def _line(fault: Any, origin: Origin, known: Mapping[str, Mapping[str, Setting | None]]) -> str:
    location, kind = [str(part) for part in fault["loc"]], fault["type"]
    if kind == "json_invalid":
        if "surrogate" in fault["msg"]:  # a flag's bytes: TOML is UTF-8
            return "the flags are no UTF-8; give names without such bytes"
        return f"{origin.file}: {fault['ctx']['error']}; a recipe has tables, and settings in them"
    where, value = origin.of(".".join(location)), _short(fault["input"])
    table, name = (location[0], location[1]) if len(location) > 1 else ("", location[0])
    if kind == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if kind in _UNKNOWN and len(location) < 3:
        names = list(known[table])
        near = get_close_matches(name, names, 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it."
        there = f"[{table}] has" if table else "a recipe has"
        return f"{where} = {value} is unknown; {remedy} {there} {', '.join(names)}"
    setting = known[table].get(name)
    if setting is None:
        return f"{where} is {value}; it has to be a table: write [{name}], and its settings below"
    if setting.noun == "a table":
        return f"{where} is {value}: {fault['msg']}; it has to be a table of {setting.description}"
    limit = setting.noun if setting.limit == setting.noun else f"{setting.noun}, {setting.limit}"
    if kind == "string_too_short":
        limit = "a string that is not empty"
    default = "" if setting.default is None else f": the default is {_short(setting.default)}"
    return f"{where} is {value}; it has to be {limit}; correct it, or leave it out{default}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
