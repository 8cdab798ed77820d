from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import DiskFull, SpoolFull, TooLarge
from service.metrics import SPOOL_BYTES
from service.spool import Spool, SpoolFile


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Files of at most 100 bytes, 150 in all."""
    made = Spool(tmp_path / "deep" / "spool", quota_bytes=150, max_file_bytes=100)
    made.sweep()
    return made


def files(spool: Spool) -> list[Path]:
    return list(spool.folder.iterdir())


def test_a_file_is_written_hashed_and_deleted(spool: Spool) -> None:
    with spool.open() as file:
        for piece in (b"abc", bytearray(b"def"), memoryview(b"xghix")[1:4], b""):
            file.write(piece)
        assert file.path.read_bytes() == b"abcdefghi"
        assert file.sha256 == hashlib.sha256(b"abcdefghi").hexdigest()
        assert file.num_bytes == 9
        assert SPOOL_BYTES._value.get() == 9
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert files(spool) == []
    assert SPOOL_BYTES._value.get() == 0


def test_a_file_goes_whatever_happens(spool: Spool) -> None:
    def fail() -> None:
        with spool.open() as file:
            file.write(bytes(90))
            raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            fail()
    assert files(spool) == []
    with spool.open() as file:
        file.write(bytes(100))  # all quota is back


def test_a_file_may_be_deleted_by_others(spool: Spool) -> None:
    with spool.open() as file:
        file.path.unlink()
    assert files(spool) == []


def test_the_largest_file(spool: Spool) -> None:
    with spool.open() as file:
        file.write(bytes(60))
        file.write(bytes(40))
        with pytest.raises(TooLarge, match=r"more than 100 bytes.*max_upload_bytes") as caught:
            file.write(b"\0")
        assert (caught.value.value, caught.value.limit) == (101, 100)
        assert file.path.stat().st_size == 100


def test_the_quota_is_over_all_files(spool: Spool) -> None:
    with spool.open() as one, spool.open() as other:
        one.write(bytes(100))
        other.write(bytes(50))
        with pytest.raises(SpoolFull, match=r"150 of 150 bytes, 1 more.*spool_quota_bytes") as caught:
            other.write(b"\0")
        assert (caught.value.value, caught.value.limit) == (151, 150)
    with spool.open() as file:
        file.write(bytes(100))


def test_an_announced_length_is_refused_before_a_byte_is_read(spool: Spool) -> None:
    with spool.open() as file, spool.open() as other:
        with pytest.raises(TooLarge):
            file.reserve(101)
        file.reserve(100)
        with pytest.raises(SpoolFull):
            other.reserve(51)
        other.reserve(50)
        file.write(bytes(100))  # what was announced is not counted twice
    with spool.open() as file:
        file.reserve(100)


def test_sweeping_spares_what_another_service_has_open(spool: Spool) -> None:
    with spool.open() as file:
        file.write(b"in flight")
        left = spool.folder / "clip-left"
        left.write_bytes(b"of a killed process")
        Spool(spool.folder, 150, 100).sweep()
        assert file.path.read_bytes() == b"in flight"
        assert not left.exists()


def test_a_folder_that_a_cleaner_took_is_made_again(spool: Spool) -> None:
    spool.folder.rmdir()
    with spool.open() as file:
        file.write(b"x")


def test_the_quota_holds_among_threads(tmp_path: Path) -> None:
    spool = Spool(tmp_path, quota_bytes=1000, max_file_bytes=1000)

    def upload(_: int) -> int:
        with spool.open() as file:
            try:
                for _ in range(30):
                    file.write(bytes(10))
                    assert SPOOL_BYTES._value.get() <= 1000
            except SpoolFull:
                return 0
            return file.num_bytes

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(upload, range(200))) <= {0, 300}
    assert files(spool) == []
    assert SPOOL_BYTES._value.get() == 0


class _FullDisk(io.FileIO):
    """A file whose disk has room for a few bytes more: a fake, as a test can't fill a disk."""

    room = 5
    error = errno.ENOSPC

    def write(self, data: object) -> int:
        if self.room == 0:
            raise OSError(self.error, os.strerror(self.error))
        taken = super().write(memoryview(data)[: self.room])  # type: ignore[arg-type]
        self.room -= taken
        return taken


def on_a_full_disk(file: SpoolFile, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file._file.close()
    full = _FullDisk(file.path, "wb")
    full.error = error
    monkeypatch.setattr(file, "_file", full)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    with spool.open() as file:
        on_a_full_disk(file, error, monkeypatch)
        file.write(b"abc")
        with pytest.raises(DiskFull, match="spool_dir") as caught:
            file.write(b"defg")
        assert caught.value.__cause__ is not None
        assert file.path.read_bytes() == b"abcde", "a short write is carried on"
    assert files(spool) == []
    assert SPOOL_BYTES._value.get() == 0


def test_another_error_of_the_disk_is_not_called_full(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with spool.open() as file:
        on_a_full_disk(file, errno.EIO, monkeypatch)
        with pytest.raises(OSError, match="Input/output error"):
            file.write(b"abcdefg")
    assert files(spool) == []


def test_no_room_for_a_new_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake mkstemp: a disk without a free inode."""

    def mkstemp(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.spool.tempfile.mkstemp", mkstemp)
    with pytest.raises(DiskFull):
        spool.open()


def test_sweep_deletes_what_a_killed_process_left(spool: Spool) -> None:
    left = SpoolFile(spool)
    left.write(b"half a clip")
    left._file.close()  # and no __exit__: killed
    other = spool.folder / "not-ours.txt"
    other.write_text("keep")
    Spool(spool.folder, 150, 100).sweep()
    assert files(spool) == [other]


def test_the_folder_is_private(spool: Spool) -> None:
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
