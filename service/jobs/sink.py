"""Where rows go: a JSONL or CSV file that only grows, or a folder of closed Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from service.jobs.errors import BadInput
from service.jobs.items import Row


class Sink(Protocol):
    """One process writes to it. What it holds is what is done: a resumed batch reads it from here."""

    @classmethod
    def opened(cls, path: Path, *, resume: bool, overwrite: bool, shard: tuple[int, int]) -> Sink:
        """As `open_sink` says."""

    def recorded(self) -> Iterator[Row]:
        """Every row that is there, for good; nothing torn."""

    def append(self, row: Row) -> None:
        """After a kill it is there whole, or not at all; after a power cut it may be lost until a second has passed.

        Raises DiskFull: then it is not there.
        """

    def close(self) -> None:
        """Make all rows durable."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_sink(path: Path, *, resume: bool, overwrite: bool, shard: tuple[int, int]) -> Sink:
    """By its suffix: .jsonl, .csv or .parquet. Raises BadInput for another, and for one that exists.

    resume: go on with what is there. overwrite: delete it first. shard: i of n, from 0; n processes may share a folder
    of Parquet files.
    """
    return kind_of(path).opened(path, resume=resume, overwrite=overwrite, shard=shard)


def kind_of(path: Path) -> type[Sink]:
    """By its suffix. Raises BadInput as `open_sink` does, and makes nothing."""
    from service.jobs.lines import CsvSink, JsonlSink
    from service.jobs.parquet import ParquetSink

    kinds: dict[str, type[Sink]] = {".jsonl": JsonlSink, ".csv": CsvSink, ".parquet": ParquetSink}
    if path.parts and path.parts[0].endswith(":"):  # `s3://bucket` as a path
        raise BadInput(f"--out {path}: rows go to a disk of this machine; name a folder here", value=str(path))
    if path.suffix not in kinds:
        raise BadInput(f"--out {path}: the suffix is none of {', '.join(kinds)}", value=str(path))
    if not path.absolute().parent.is_dir():
        raise BadInput(f"--out {path}: there is no folder {path.absolute().parent}", value=str(path))
    return kinds[path.suffix]


REMEDY = "name an output on a larger disk; what is there stays, and --resume goes on"


def exists_error(path: Path) -> BadInput:
    """For an output that is there, and nobody said what to do with it."""
    return BadInput(f"--out {path} exists; go on with it by --resume, or replace it by --overwrite", value=str(path))
