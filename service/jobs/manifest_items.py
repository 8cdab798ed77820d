"""From a manifest's row to an item: where its video is, what its id is, and which part of it is meant."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.jobs.errors import BadInput
from service.jobs.items import Item, JsonId
from service.jobs.manifests import ManifestRow
from service.jobs.remote import is_url
from service.names import is_escaped, path_of, written
from service.parameters import MOST_SECONDS
from service.redaction import hidden, scrubbed_value


def item_of(row: ManifestRow, folder: Path | None, of_all: Mapping[str, str]) -> Item:
    """folder: relative paths count from there; None: all are URLs. of_all: what is asked of all items at once, by name,
    and how: a row that asks for it would not be heard. Raises BadInput with line and column.
    """
    for name, value in row.cells.items():
        if name in of_all and value not in (None, ""):
            raise BadInput(
                f"{row.at(name)}: {name} is asked of all items alike; give {of_all[name]}, or rename the column",
                value=name,
            )
    uri = _uri(row, folder)
    start, end = _seconds(row, "start_seconds", 0.0), _seconds(row, "end_seconds", math.inf)
    if end <= start:
        raise BadInput(f"{row.at('end_seconds')}: end_seconds {end:g} must be after start_seconds {start:g}")
    return Item.of(_id(row), uri, start, end)


def id_place(row: ManifestRow) -> str:
    """Where its item's id is: without one its URI is it."""
    given = [name for name in ("id", "uri", "path") if row.cells.get(name) not in (None, "")]
    return row.at(given[0])


def _uri(row: ManifestRow, folder: Path | None) -> str:
    given = [name for name in ("uri", "path") if row.cells.get(name) not in (None, "")]
    if not given:
        [name, *_] = [name for name in ("uri", "path") if name in row.cells]
        raise BadInput(f"{row.at(name)}: it is empty; name a video, or delete the line")
    uri = row.cells[given[0]]
    if len(given) == 2 and uri != row.cells["path"]:
        raise BadInput(f"{row.at('path')}: uri names another; leave one of them empty")
    if not isinstance(uri, str):
        raise BadInput(
            f"{row.at(given[0])}: {json.dumps(scrubbed_value(uri))[:80]} is no text; name a path or a URL", value=uri
        )
    is_path = not is_url(uri)
    _check_text(row, given[0], uri, bytes_too=is_path and folder is not None)
    if not is_path:
        return uri
    if folder is None:
        raise BadInput(
            f"{row.at(given[0])}: {uri} is a path, and the manifest came from a URL; name whole URLs", value=uri
        )
    path = folder / path_of(uri)
    if is_escaped(uri) and not os.path.lexists(path) and os.path.lexists(folder / uri):
        path = folder / uri  # its name has a backslash
    return written(path)


def _id(row: ManifestRow) -> JsonId | None:
    value: Any = row.cells.get("id")
    if value == "" and not row.columns:  # a cell of CSV has no other way to be none
        raise BadInput(f"{row.at('id')}: it is empty; give one, or leave it out")
    if isinstance(value, str):
        _check_text(row, "id", value)
    elif isinstance(value, list | dict):
        raise BadInput(
            f"{row.at('id')}: {json.dumps(scrubbed_value(value))[:80]} can't be an id; give a string, a number, true "
            "or false",
            value=value,
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{row.at('id')}: the number is too large; write it as a string")
    given: JsonId | None = value
    return given


def _check_text(row: ManifestRow, name: str, text: str, *, bytes_too: bool = False) -> None:
    """JSON can escape what is no letter. bytes_too: that of a file's name, as Python has it, may be."""
    halves = [letter for letter in text if "\ud800" <= letter <= "\udfff"]
    if bytes_too:
        halves = [letter for letter in halves if not "\udc80" <= letter <= "\udcff"]
    if halves or "\0" in text:
        bad = halves[0] if halves else "\0"
        raise BadInput(f"{row.at(name)}: {hidden(text)!a} has {bad!a}, which no text has; leave it out")


def _seconds(row: ManifestRow, name: str, default: float) -> float:
    value: Any = row.cells.get(name)
    if value is None or value == "":
        return default
    try:
        seconds = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds <= MOST_SECONDS:
        raise BadInput(
            f"{row.at(name)}: {name} {scrubbed_value(value)!r} is no number of seconds from 0 to {MOST_SECONDS:.0f}",
            value=value, limit=MOST_SECONDS,
        )  # fmt: skip
    return seconds
