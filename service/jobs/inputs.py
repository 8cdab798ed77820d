"""What a batch is made of: files, folders, patterns, manifests and URLs, listed one by one and never all in memory."""

from __future__ import annotations

import csv
import difflib
import glob
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from service.jobs.errors import BadInput
from service.jobs.items import Item
from service.jobs.remote import Remote, is_url

# What a folder is searched for. A file that is named is taken whatever its name.
VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl"})
_COLUMNS = ("id", "uri", "path", "start_seconds", "end_seconds")
_PATTERN = frozenset("*?[")
_ALIKE = 0.8


@dataclass(frozen=True)
class Found:
    """An item and where it is named: `manifest.csv line 7`."""

    item: Item
    where: str


class Inputs:
    """The inputs of a batch, in order; iterate as often as you like: nothing is remembered."""

    def __init__(self, inputs: Iterable[str], remote: Remote) -> None:
        self._inputs = tuple(inputs)
        self._remote = remote

    def __iter__(self) -> Iterator[Found]:
        """Raises BadInput for what is missing, not allowed, empty or malformed."""
        for text in self._inputs:
            num_found = 0
            for found in self._of(text):
                num_found += 1
                _check_id(found)
                yield found
            if not num_found:
                raise BadInput(f"{text} names no video", value=text)

    def _of(self, text: str) -> Iterator[Found]:
        suffix = PurePosixPath(text).suffix.lower()
        if is_url(text):
            uris = self._remote_manifest(text) if suffix in MANIFEST_SUFFIXES else self._url(text)
        elif _PATTERN & set(text) and not Path(text).exists():
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207
            uris = (Found(Item(path, path), text) for path in matches if not Path(path).is_dir())
        elif Path(text).is_dir():
            uris = (Found(Item(path, path), text) for path in _videos(Path(text)))
        elif not Path(text).is_file():
            raise BadInput(f"{text} is no file, folder or pattern that matches one", value=text)
        elif suffix in MANIFEST_SUFFIXES:
            uris = read_manifest(text, Path(text), Path(text).parent)
        else:
            uris = iter([Found(Item(text, text), text)])
        yield from uris

    def _url(self, text: str) -> Iterator[Found]:
        for url in self._remote.listed(text, _is_named_video, lambda path: True):
            yield Found(Item(url, url), text)

    def _remote_manifest(self, text: str) -> Iterator[Found]:
        with (
            self._remote.reading(text) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines,
        ):
            yield from _manifest(text, lines)


def _is_named_video(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES


def _videos(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """Sorted by path, as the next run must list them alike; nothing hidden, and no link to a folder above."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{folder} can't be listed: {error.strerror}", value=str(folder)) from error
    above = (*above, folder.resolve())
    for path in found:
        if path.is_dir():
            if path.resolve() not in above:
                yield from _videos(path, above)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield str(path)


def _check_id(found: Found) -> None:
    """An id and a URI stand on one line of any output, in UTF-8. Raises BadInput."""
    for text in (found.item.id, found.item.uri):
        if text.splitlines() != [text] or any("\ud800" <= letter <= "\udfff" for letter in text):
            said = ascii(text)
            raise BadInput(f"{found.where}: {said} is not one line of UTF-8; rename the file, or its id", value=said)


def read_manifest(name: str, path: Path, folder: Path | None = None) -> Iterator[Found]:
    """Items of a CSV or JSONL file, which messages call `name`.

    folder: relative paths count from there; None: all are URLs. Raises BadInput with the line.
    """
    with path.open(encoding="utf-8-sig", newline="") as lines:
        yield from _manifest(name, lines, folder)


def _manifest(name: str, lines: Iterable[str], folder: Path | None = None) -> Iterator[Found]:
    """Lines of CSV or JSONL. folder: relative paths count from there; None for a manifest that came from a URL."""
    rows = _csv_rows(name, lines) if name.lower().endswith(".csv") else _json_rows(name, lines)
    for number, row in rows:
        where = f"{name} line {number}"
        uri = row.get("uri") or row.get("path")
        if not isinstance(uri, str) or not uri:
            raise BadInput(f"{where}: no uri (or path); it has {', '.join(row) or 'nothing'}")
        if not is_url(uri):
            if folder is None:
                raise BadInput(
                    f"{where}: {uri} is a path, and the manifest came from a URL; name whole URLs", value=uri
                )
            uri = str(folder / uri)
        start, end = _seconds(where, row, "start_seconds", 0.0), _seconds(where, row, "end_seconds", math.inf)
        if end <= start:
            raise BadInput(f"{where}: end_seconds {end:g} must be after start_seconds {start:g}")
        yield Found(Item(str(row.get("id") or uri), uri, start, end), where)


def _csv_rows(name: str, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_columns(f"{name} line 1", reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                wanted = len(reader.fieldnames or ())
                raise BadInput(f"{name} line {reader.line_num}: line 1 names {wanted} columns, here are more or fewer")
            yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{name} line {reader.line_num + 1}: {error}") from error


def _json_rows(name: str, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    columns: tuple[str, ...] = ()
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise BadInput(f"{name} line {number}: a JSON object is wanted, this is {line.strip()[:80]}")
            if tuple(row) != columns:
                columns = tuple(row)
                _check_columns(f"{name} line {number}", columns)
            yield number, row
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} line {number}: {error}") from error


def _check_columns(where: str, columns: Iterable[str]) -> None:
    """Columns that we don't know are the user's own, unless one looks like a typing error of ours."""
    names = list(columns)
    if not {"uri", "path"} & set(names):
        raise BadInput(f"{where}: no column uri (or path); it has {', '.join(names) or 'none'}", value=names)
    for name in names:
        close = difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=_ALIKE)
        if name not in _COLUMNS and close:
            raise BadInput(
                f"{where}: column {name}: did you mean {close[0]}? Rename it, whichever you mean", value=name
            )


def _seconds(where: str, row: Mapping[str, Any], name: str, default: float) -> float:
    value = row.get(name)
    if value is None or value == "":
        return default
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise BadInput(f"{where}: {name} {value!r} is no number of seconds from 0 on", value=value)
    return seconds
