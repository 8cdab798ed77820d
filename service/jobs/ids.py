"""Which ids were seen: on disk, as a batch of any size has to fit into memory that doesn't grow with it."""

from __future__ import annotations

import sqlite3
from types import TracebackType


class Ids:
    """A set of ids, each with where it stands; one thread. In a temporary file that nobody sees and nobody keeps."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA cache_size = -4096")  # KiB
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item_id: str) -> bool:
        return self._database.execute("SELECT 1 FROM ids WHERE id = ?", [item_id]).fetchone() is not None

    def num_at(self, place: str) -> int:
        """How many stand there."""
        [[count]] = self._database.execute("SELECT count(*) FROM ids WHERE place = ?", [place]).fetchall()
        return int(count)

    def add(self, item_id: str, place: str) -> str | None:
        """Returns where it stands already, or None where it is new."""
        try:
            self._database.execute("INSERT INTO ids VALUES (?, ?)", [item_id, place])
        except sqlite3.IntegrityError:
            [[first]] = self._database.execute("SELECT place FROM ids WHERE id = ?", [item_id]).fetchall()
            return str(first)
        self._count += 1
        return None

    def close(self) -> None:
        """Forget them."""
        self._database.close()

    def __enter__(self) -> Ids:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
