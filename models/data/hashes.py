"""SHA-256 of files, remembered: a data set is read once, not at every start."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from models.errors import FeatureError

# hashlib lets the interpreter go: some files at once keep a disk busy.
_NUM_THREADS = 4
# So many are written in one transaction: what is lost when the process is killed.
_PER_TRANSACTION = 64
# A file younger than this could be written again without a change of its time (as git's racy entries).
_SETTLED_NS = 2_000_000_000
_WAIT_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode TEXT NOT NULL,
    sha256 TEXT NOT NULL
) WITHOUT ROWID
"""

# Size, time of change, inode: the last as text, as SQLite's integers have a sign.
_State = tuple[int, int, str]


@dataclass(frozen=True)
class _Hashed:
    """state: that the hash is of; None where the file may still be written to."""

    sha256: str
    state: _State | None


class Hashes:
    """Hashes by path, size, time of change and inode, in an SQLite file; processes may share it.

    A hash is believed while all four are as they were. Raises FeatureError where the file is no database of ours.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Hashes:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(self._database, timeout=_WAIT_SECONDS)
            with self._connection:
                self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            self.__exit__(None, None, None)
            raise self._unusable(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def of(self, paths: Sequence[Path]) -> Iterator[tuple[Path, str | OSError]]:
        """Each path with its file's SHA-256, hex, or why it can't be read; in order."""
        with ThreadPoolExecutor(_NUM_THREADS, "hash") as threads:
            for start in range(0, len(paths), _PER_TRANSACTION):
                some = paths[start : start + _PER_TRANSACTION]
                known: dict[Path, str | OSError] = {p: sha256 for p in some if (sha256 := self._remembered(p))}
                asked = [path for path in some if path not in known]
                settled = []
                for path, found in zip(asked, threads.map(_hash, asked), strict=True):
                    known[path] = found if isinstance(found, OSError) else found.sha256
                    if not isinstance(found, OSError) and found.state:
                        settled.append((_key(path), *found.state, found.sha256))
                self._remember(settled)
                for path in some:
                    yield path, known[path]

    def _remembered(self, path: Path) -> str | None:
        try:
            state = _state(path)
        except OSError:  # told when it is hashed
            return None
        try:
            row = self._open.execute(
                "SELECT sha256 FROM hashes WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                (_key(path), *state),
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return str(row[0]) if row else None

    def _remember(self, rows: list[tuple[bytes, int, int, str, str]]) -> None:
        try:
            with self._open:
                self._open.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("the hashes are not open; enter them")
        return self._connection

    def _unusable(self, error: sqlite3.Error) -> FeatureError:
        return FeatureError(f"{self._database}: {error}; remove the file, and all is hashed anew")


def _hash(path: Path) -> _Hashed | OSError:
    try:
        before = _state(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        is_settled = _state(path) == before and time.time_ns() - before[1] > _SETTLED_NS
    except OSError as error:
        return error
    return _Hashed(sha256, before if is_settled else None)


def _state(path: Path) -> _State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, str(found.st_ino)


def _key(path: Path) -> bytes:
    """Names are bytes."""
    return os.fsencode(path.absolute())
