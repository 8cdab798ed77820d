"""Manifests: CSV, TSV or JSON lines, each also gzipped. Read line by line, and never more than one row in memory."""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.jobs.errors import BadInput
from service.jobs.manifest_lines import GZIP, Lines, opened_text
from service.redaction import hidden

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
COLUMNS = ("id", "uri", "path", "start_seconds", "end_seconds")
HEAD_BYTES = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_ALIKE = 0.8
csv.field_size_limit(1 << 30)  # rows are bounded above


@dataclass(frozen=True)
class ManifestRow:
    """One row. where: `m.csv line 7`, its first line; columns: the place of each of a CSV row's cells, from 1."""

    where: str
    cells: Mapping[str, Any]
    columns: Mapping[str, int]

    def at(self, name: str) -> str:
        """Where a cell is."""
        if name in self.columns:
            return f"{self.where}, column {self.columns[name]} ({name})"
        return f"{self.where}, {name}"


def is_named_manifest(name: str) -> bool:
    """By the end of its name, in either case, `.gz` or not."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def is_manifest(head: bytes) -> bool:
    """By its first `HEAD_BYTES`: text whose first line is an object, or a list of columns, with uri or path."""
    try:
        if head.startswith(GZIP):
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except (UnicodeDecodeError, zlib.error):
        return False
    line = re.split("[\r\n]", text.lstrip(), maxsplit=1)[0]
    if _CONTROL.search(text) or not line:
        return False
    try:
        columns = json.loads(line) if line.startswith("{") else _cells(line, _delimiter(line))
    except (ValueError, RecursionError, csv.Error):
        return False
    return not {"uri", "path"}.isdisjoint(columns)


def rows_of(name: str, file: io.BufferedReader) -> Iterator[ManifestRow]:
    """Its rows. name: for messages, and where the content leaves a choice. Raises BadInput with line and column."""
    text = opened_text(file)
    lines = Lines(name, text)
    try:
        first = next((line for line in lines if line.strip()), "")
        again = _again(first, lines)
        if first.lstrip().startswith("{") or _is_json_by_name(name):
            yield from _json_rows(again, lines)
        else:
            yield from _csv_rows(first, again, lines)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{name} after line {lines.number}: the gzip data are damaged ({error})") from error
    finally:
        text.close()


def _again(first: str, lines: Iterable[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines


def _is_json_by_name(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def _csv_rows(header: str, upcoming: Iterator[str], lines: Lines) -> Iterator[ManifestRow]:
    preferred = "\t" if lines.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    delimiter = _delimiter(header, preferred)
    kept: list[str] = []
    reader = csv.reader(_keeping(upcoming, kept), delimiter=delimiter, strict=True)
    columns: dict[str, int] = {}
    while True:
        kept.clear()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise BadInput(f"{lines.where}{_bad_quote(''.join(kept), delimiter)} ({error})") from error
        if not cells:
            continue
        if not columns:
            columns = _columns(lines.where, cells, ", column {}")
        elif len(cells) != len(columns):
            raise BadInput(
                f"{lines.where}, column {min(len(cells), len(columns)) + 1}: the first line names {len(columns)} "
                f"columns, here are {len(cells)}; a cell that holds {delimiter!r} wants quotes"
            )
        else:
            yield ManifestRow(lines.where, dict(zip(columns, cells, strict=True)), columns)
        lines.next_row()
    if not columns:
        _columns(lines.where, [])


def _json_rows(upcoming: Iterator[str], lines: Lines) -> Iterator[ManifestRow]:
    known: tuple[str, ...] = ()
    for line in upcoming:
        if not line.strip():
            continue
        where = f"{lines.name} line {lines.number}"
        try:
            row = json.loads(line.rstrip("\r\n"), parse_constant=_Constant, object_pairs_hook=_strict)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}, column {error.colno}: {error.msg}; one JSON object a line is wanted") from error
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: {error}") from error
        if not isinstance(row, dict):
            raise BadInput(f"{where}: a JSON object is wanted, this is {hidden(line.strip())[:80]}")
        if tuple(row) != known:
            _columns(where, row)
            known = tuple(row)
        yield ManifestRow(where, row, {})
        lines.next_row()


def _delimiter(header: str, preferred: str = ",") -> str:
    """The one that makes a column uri or path of it."""
    found = [(delimiter, _cells(header, delimiter)) for delimiter in (preferred, ",", ";", "\t", "|")]
    fits = [delimiter for delimiter, cells in found if not {"uri", "path"}.isdisjoint(cells)]
    return fits[0] if fits else max(found, key=lambda each: len(each[1]))[0]


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _keeping(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    for line in lines:
        kept.append(line)
        yield line


def _bad_quote(row: str, delimiter: str) -> str:
    """Which one, where it can be told, in words."""
    at = 0
    while row[at : at + 1] == '"' or (at := row.find(f'{delimiter}"', at) + 1):
        whole = re.compile(r'"(?:[^"]|"")*"').match(row, at)
        what = f", column {at + 1}" if "\n" not in row[:at] else ""
        if whole is None:
            return f"{what}: the quote that opens here is never closed"
        at = whole.end()
        if row[at : at + 1] not in (delimiter, "\r", "\n", ""):
            return f"{what}: a quote within these quotes is not doubled"
        at += len(delimiter)
    return ""


def _columns(where: str, names: Iterable[str], place: str = "") -> dict[str, int]:
    """Their places, from 1, which messages say by `place`.

    Those that we don't know are the user's own, unless one looks like a typing error of ours. Raises BadInput for such,
    for two of one name, and where none says where the video is.
    """
    columns: dict[str, int] = {}
    names = list(names)
    if {"uri", "path"}.isdisjoint(names) and any("://" in name for name in names):  # pieces of one are as secret as it
        raise BadInput(f"{where}: a URL stands where names of columns belong; name a column uri (or path)")
    for number, name in enumerate(names, start=1):
        if name in columns:
            said = where + place.format(number)
            raise BadInput(f"{said}: there is a column {hidden(name)} already; rename one", value=name)
        columns[name] = number
    for name, number in columns.items():
        close = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=_ALIKE)
        if name not in COLUMNS and close:
            said = where + place.format(number)
            raise BadInput(
                f"{said}: {hidden(name)!r}: did you mean {close[0]}? Rename it, whichever you mean", value=name
            )
    if {"uri", "path"}.isdisjoint(columns):
        raise BadInput(f"{where}: no column uri (or path); it has {', '.join(columns) or 'none'}", value=list(columns))
    return columns


@dataclass(frozen=True)
class _Constant:
    """NaN or Infinity, until it is known whose value it is."""

    name: str


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError for a name that is there twice, and for a constant that JSON does not have."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{hidden(twice)} stands there twice; name it once")
    for name, value in pairs:
        if constant := _constant_in(value):
            raise ValueError(f"{hidden(name)} is {constant.name}, which is no number of JSON; leave it out")
    return found


def _constant_in(value: object) -> _Constant | None:
    """Objects in there were looked at before."""
    if isinstance(value, list):
        return next(filter(None, map(_constant_in, value)), None)
    return value if isinstance(value, _Constant) else None
