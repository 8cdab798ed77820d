"""The spool: uploads in flight, on disk, under a quota; each file is deleted when its request ends."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from service.disk import full_disk_told
from service.errors import SpoolFull, TooLarge
from service.metrics import SPOOL_BYTES

_PREFIX = "clip-"
_REMEDY = "set spool_dir to a larger disk"


class Spool:
    """A folder with a byte quota over all files in it. One process owns it."""

    def __init__(self, folder: Path, quota_bytes: int, max_file_bytes: int) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.max_file_bytes = max_file_bytes
        self._used = 0
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Create the folder (mode 0700), prove that it can be written, and delete what a killed process left in it.

        Each file in use is locked by its process: a second service on the same folder loses nothing.
        """
        with self.open():
            for left in self.folder.glob(f"{_PREFIX}*"):
                with contextlib.suppress(FileNotFoundError, BlockingIOError), left.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()

    def open(self) -> SpoolFile:
        """A new empty file; use it as a context manager."""
        return SpoolFile(self)

    def reserve(self, num_bytes: int) -> None:
        """Count bytes that are announced or about to be written. Raises SpoolFull."""
        with self._lock:
            if self._used + num_bytes > self.quota_bytes:
                raise self._full(num_bytes)
            self._used += num_bytes
            SPOOL_BYTES.set(self._used)

    def release(self, num_bytes: int) -> None:
        """Give counted bytes back."""
        with self._lock:
            self._used -= num_bytes
            SPOOL_BYTES.set(self._used)

    def check_file(self, num_bytes: int) -> None:
        """Raises TooLarge when one file has more than `max_file_bytes`."""
        if num_bytes > self.max_file_bytes:
            raise TooLarge(
                f"the upload has more than {self.max_file_bytes} bytes; send a shorter or smaller clip, or raise "
                "max_upload_bytes",
                value=num_bytes,
                limit=self.max_file_bytes,
            )

    def _full(self, num_bytes: int) -> SpoolFull:
        return SpoolFull(
            f"uploads in flight hold {self._used} of {self.quota_bytes} bytes, {num_bytes} more do not fit; try again "
            "later, or raise spool_quota_bytes",
            value=self._used + num_bytes,
            limit=self.quota_bytes,
        )


class SpoolFile:
    """One upload: written once, hashed on the way, deleted on exit whatever happened."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._digest = hashlib.sha256()
        self.num_bytes = 0
        self._reserved = 0
        with full_disk_told(spool.folder, _REMEDY):
            spool.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a cleaner of /tmp may have been there
            descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=spool.folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = Path(name)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def reserve(self, num_bytes: int) -> None:
        """Take room for what Content-Length announces, before a byte is read. Raises TooLarge, SpoolFull."""
        self._spool.check_file(num_bytes)
        if num_bytes > self._reserved:
            self._spool.reserve(num_bytes - self._reserved)
            self._reserved = num_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; blocks. Raises TooLarge, SpoolFull, DiskFull."""
        self.reserve(self.num_bytes + len(data))
        self.num_bytes += len(data)
        self._digest.update(data)
        view = memoryview(data)
        with full_disk_told(self._spool.folder, _REMEDY):
            while view:
                view = view[self._file.write(view) :]

    @property
    def sha256(self) -> str:
        """Of what was written, hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Delete it and give its bytes back; blocks on the disk."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._spool.release(self._reserved)

    def __enter__(self) -> SpoolFile:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
