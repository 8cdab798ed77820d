"""Rows as lines of a file that only grows: JSONL, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from pydantic import ValidationError

from service.disk import full_disk_told
from service.jobs.errors import BadInput
from service.jobs.items import Row
from service.jobs.sink import REMEDY, exists_error
from service.names import written

# What a power cut may take; a killed process loses nothing that it wrote.
_SYNC_SECONDS = 1.0
# Of a film's timeline; csv's own limit is 131 072.
csv.field_size_limit(1 << 30)
_JSON_COLUMNS = ("predictions", "segments", "model", "receipt", "timing_ms", "warnings")
# label and score are the best prediction's, for whoever sorts and filters.
COLUMNS = (
    "id", "uri", "start_seconds", "end_seconds", "status", "code", "message", "label", "score", "abstained",
    *_JSON_COLUMNS,
)  # fmt: skip
CSV_HEADER = (",".join(COLUMNS) + "\r\n").encode()


def csv_line(row: Row) -> bytes:
    """A row of `COLUMNS`; what has structure is JSON in its cell. Of all cells only `id` and `uri` have line breaks."""
    said = row.model_dump(mode="json")
    best = row.predictions[0] if row.predictions else None
    cells = {name: "" if said.get(name) is None else " ".join(str(said[name]).splitlines()) for name in COLUMNS}
    cells |= {name: json.dumps(said[name], separators=(",", ":")) for name in _JSON_COLUMNS if said[name] is not None}
    cells |= {"label": best.label if best else "", "score": str(best.score) if best else ""}
    cells |= {"id": row.id_text, "uri": row.uri}
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells[name] for name in COLUMNS)
    return text.getvalue().encode()


class _LineSink:
    """One row a line, appended by one write; a torn last line is cut off before more is appended."""

    header: ClassVar[bytes] = b""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._synced = time.monotonic()

    @classmethod
    def opened(cls, path: Path, *, resume: bool, overwrite: bool, shard: tuple[int, int]) -> Self:  # noqa: ARG003
        """As `open_sink` says. Raises BadInput too where another process writes to it."""
        if path.is_dir():
            raise BadInput(f"--out {path} is a folder; name a file", value=str(path))
        if path.exists() and not (resume or overwrite):
            raise exists_error(path)
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise BadInput(f"--out {path}: another batch writes to it; wait for it, or name another file") from error
        sink = cls(path, file)
        sink._begin(overwrite=overwrite)
        return sink

    def recorded(self) -> Iterator[Row]:
        """Every row, in order. Raises BadInput for a line that is none."""
        with self._path.open("rb") as lines:
            for number, line in self.records(lines):
                if number == 1 and self.header:
                    if line != self.header:
                        raise BadInput(
                            f"{written(self._path)} line 1 is no row of our columns: it is another version's, or "
                            "somebody else's; name another output, or replace it by --overwrite"
                        )
                    continue
                try:
                    yield self.parsed(line)
                except (ValueError, ValidationError, csv.Error) as error:
                    raise BadInput(f"{written(self._path)} line {number} is no row of ours: {error}") from error

    def append(self, row: Row) -> None:
        """Whole, by one write."""
        line = memoryview(self.line(row))
        with full_disk_told(self._path, REMEDY):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while line:  # a disk that fills up takes a part first
                    line = line[self._file.write(line) or 0 :]
            except OSError:
                self._file.truncate(end)
                raise
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def clear(self) -> None:
        """As if it were new."""
        self._begin(overwrite=True)

    def remove(self) -> None:
        """Close it; the file is gone."""
        self._path.unlink()
        self._file.close()

    def close(self) -> None:
        with self._file, full_disk_told(self._path, REMEDY):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self, row: Row) -> bytes:
        raise NotImplementedError

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Each row's bytes, with the number of the line where it begins; the last may be torn."""
        return enumerate(lines, start=1)

    def parsed(self, line: bytes) -> Row:
        raise NotImplementedError

    def _begin(self, *, overwrite: bool) -> None:
        """Empty it, or cut off what a killed process left of a line; then the header, where it is new."""
        end = 0 if overwrite else self._end()
        self._file.truncate(end)
        if end == 0:
            self._file.write(self.header)

    def _end(self) -> int:
        """Where the last whole row ends."""
        return _end_of_lines(self._file)


class JsonlSink(_LineSink):
    """One JSON object a line, all fields of `Row`, the absent ones left out."""

    def line(self, row: Row) -> bytes:
        return row.to_json().encode() + b"\n"

    def parsed(self, line: bytes) -> Row:
        return Row.model_validate_json(line)


class CsvSink(_LineSink):
    """RFC 4180; what has structure is JSON in its cell. Of all cells only `id` and `uri` may have line breaks."""

    header = CSV_HEADER

    def line(self, row: Row) -> bytes:
        return csv_line(row)

    def records(self, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """A line break within quotes ends no row."""
        first, record = 1, b""
        for number, line in enumerate(lines, start=1):
            record += line
            if record.count(b'"') % 2 == 0:
                yield first, record
                first, record = number + 1, b""
        if record:
            yield first, record

    def _end(self) -> int:
        end = 0
        with self._path.open("rb") as lines:
            for number, record in self.records(lines):
                if number == 1 and record != self.header:  # perhaps somebody else's, whose quotes say nothing
                    return _end_of_lines(self._file)
                if record.endswith(b"\n") and record.count(b'"') % 2 == 0:
                    end += len(record)
        return end

    def parsed(self, line: bytes) -> Row:
        [cells] = csv.reader([line.decode()], strict=True)
        said = {
            name: cell for name, cell in zip(COLUMNS, cells, strict=True) if cell and name not in ("label", "score")
        }
        return Row.model_validate({k: json.loads(v) if k in _JSON_COLUMNS else v for k, v in said.items()})


def _end_of_lines(file: BinaryIO, block: int = 1 << 16) -> int:
    """Where the last whole line ends."""
    at = file.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - block)
        file.seek(start)
        data = file.read(at - start)
        if b"\n" in data:
            return start + data.rindex(b"\n") + 1
        at = start
    return 0
