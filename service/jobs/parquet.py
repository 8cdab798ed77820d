"""Rows as a dataset: a folder of closed Parquet files, each written aside, synced and renamed.

Whatever reads Parquet reads the folder, at any time. `SCHEMA` documents it. The rows of the part that is not closed
yet are in a journal of JSON lines in the same folder, hidden from readers: a killed process loses none of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from service.disk import full_disk_told
from service.jobs.errors import BadInput
from service.jobs.items import Row
from service.jobs.lines import JsonlSink
from service.jobs.sink import REMEDY, exists_error
from service.results import LabelScore, ModelName, Receipt, Segment, Timing

_PART_ROWS = 2048
# Who reads the folder meanwhile is behind by no more than this.
_PART_SECONDS = 60.0
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _struct(model: Any) -> pa.DataType:
    """Of a pydantic model whose fields are plain, or plain or None."""
    fields = []
    for name, field in model.model_fields.items():
        kinds = [kind for kind in getattr(field.annotation, "__args__", (field.annotation,)) if kind is not type(None)]
        fields.append(pa.field(name, _TYPES.get(kinds[0], pa.string())))
    return pa.struct(fields)


SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
        pa.field("model", _struct(ModelName)),
        pa.field("predictions", pa.list_(_struct(LabelScore))),
        pa.field("abstained", pa.bool_()),
        pa.field("segments", pa.list_(_struct(Segment))),
        pa.field("receipt", _struct(Receipt)),
        pa.field("timing_ms", _struct(Timing)),
        pa.field("warnings", pa.list_(pa.string())),
    ]
)


class ParquetSink:
    """One process writes; several may share the folder, each with a shard of its own."""

    def __init__(self, folder: Path, name: str, journal: JsonlSink) -> None:
        self._folder = folder
        self._name = name
        self._journal = journal
        self._rows: list[Row] = []
        self._began = time.monotonic()

    @classmethod
    def opened(cls, path: Path, *, resume: bool, overwrite: bool, shard: tuple[int, int]) -> Self:
        """As `open_sink` says. Raises BadInput too for what is no folder of ours, and where another process writes."""
        if path.exists() and not path.is_dir():
            raise BadInput(f"--out {path} is a file; Parquet goes into a folder of parts", value=str(path))
        path.mkdir(exist_ok=True)
        foreign = [each.name for each in path.iterdir() if not each.name.startswith((".part-", "part-"))]
        if foreign:
            raise BadInput(f"--out {path} has files that no batch wrote ({foreign[0]}); name another folder")
        index, count = shard
        name, of_count = f"part-{index:05d}-of-{count:05d}", f"-of-{count:05d}"
        # Other shards of as many may be at work this moment; of another number they have other items.
        ours = [each for each in path.iterdir() if name in each.name or of_count not in each.name]
        if ours and not (resume or overwrite):
            raise exists_error(path)
        left = [each for each in ours if of_count not in each.name and each.suffix == ".jsonl"]
        if left and not overwrite:
            raise BadInput(
                f"--out {path}: a batch of another number of shards was interrupted here ({left[0].name}); go on with "
                "its --shard by --resume first, or replace it by --overwrite"
            )
        _check_columns(each for each in path.glob("part-*.parquet") if not (overwrite and each in ours))
        journal = JsonlSink.opened(path / f".{name}.jsonl", resume=True, overwrite=overwrite, shard=shard)
        for each in ours:
            if each.name != f".{name}.jsonl" and (
                overwrite or (each.name.startswith(".") and each.suffix == ".parquet")
            ):
                each.unlink(missing_ok=True)
        sink = cls(path, name, journal)
        sink._adopt()
        return sink

    def recorded(self) -> Iterator[Row]:
        """Those of all closed parts, whoever wrote them; ours has no journal left when it was opened."""
        for part in self._parts("part-*"):
            yield from _rows(part)

    def append(self, row: Row) -> None:
        """To the journal; to a part when there are enough."""
        self._journal.append(row)
        self._rows.append(row)
        if len(self._rows) >= _PART_ROWS or time.monotonic() - self._began >= _PART_SECONDS:
            self._close_part()

    def close(self) -> None:
        """Nothing stays but closed parts."""
        self._close_part()
        self._journal.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _adopt(self) -> None:
        """Rows that a killed process left in the journal; their part may be there: it died before it cleared them."""
        left = list(self._journal.recorded())
        newest = self._parts(f"{self._name}-*")[-1:]
        if left and not any(row.id_text == left[0].id_text for part in newest for row in _rows(part)):
            self._rows = left
            self._close_part()
        self._journal.clear()

    def _close_part(self) -> None:
        """Nobody sees it before it is whole and on the disk. Raises DiskFull: then its rows stay in the journal."""
        if self._rows:
            name = f"{self._name}-{len(self._parts(f'{self._name}-*')):06d}.parquet"
            aside = self._folder / f".{name}"
            with full_disk_told(self._folder, REMEDY):
                with aside.open("wb") as file:
                    pq.write_table(_table(self._rows), file, compression="zstd")
                    file.flush()
                    os.fsync(file.fileno())
                aside.rename(self._folder / name)
                _sync(self._folder)
            self._journal.clear()
            self._rows = []
        self._began = time.monotonic()

    def _parts(self, pattern: str) -> list[Path]:
        """In the order that they were closed, of each shard."""
        return sorted(self._folder.glob(f"{pattern}.parquet"))


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """All of them into one file, some at a time."""
    upcoming = iter(rows)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := list(islice(upcoming, _PART_ROWS)):
            writer.write_table(_table(group))


def _table(rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist([row.model_dump(mode="json") | {"id": row.id_text} for row in rows], schema=SCHEMA)


def _rows(part: Path) -> Iterator[Row]:
    for batch in pq.ParquetFile(part).iter_batches():
        yield from map(Row.model_validate, batch.to_pylist())


def _check_columns(parts: Iterable[Path]) -> None:
    """Whoever reads a folder takes the columns of all its parts from one. Raises BadInput where they are not ours."""
    for part in parts:
        if not pq.read_schema(part).equals(SCHEMA):
            raise BadInput(
                f"--out {part.parent}: {part.name} has other columns, those of another version; go on with that one, "
                "name another output, or replace it by --overwrite"
            )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
