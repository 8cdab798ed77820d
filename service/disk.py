"""A disk that is full, in words."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from service.errors import DiskFull


@contextlib.contextmanager
def full_disk_told(path: Path, remedy: str) -> Iterator[None]:
    """Raises DiskFull in place of an OSError that means it (ENOSPC, EDQUOT)."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no space is left for {path}; free some, or {remedy}", value=str(path)) from error
