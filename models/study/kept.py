"""Rows of a study that a file has already: a study that is cut off, or asked for more, goes on behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import DatasetError

Row = dict[str, Any]
# What a file has beside what its rows are of.
_RESULTS = ("rows", "chosen")


def kept_rows(out: Path, of: Mapping[str, Any], command: str) -> list[Row]:
    """The rows of `out`; none where there is no such file.

    of: what the rows are of, as `out` has it beside them. command: what writes it, for errors. Raises DatasetError
    where the file is another's, or its rows are of something else.
    """
    if not out.exists():
        return []
    try:
        held = json.loads(out.read_text(encoding="utf-8"))
        rows: list[Row] = held["rows"]
        there = {name: value for name, value in held.items() if name not in _RESULTS}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{out} is no file of `models {command}`; remove it, or name another with --out") from error
    wanted = json.loads(json.dumps(of))  # tuples are lists there
    for name in {**wanted, **there}:
        if there.get(name) != wanted.get(name):
            raise DatasetError(
                f"{out} is of another {name} ({there.get(name)!r}, now {wanted.get(name)!r}); remove it, or name "
                "another with --out"
            )
    return rows
