from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from models.data import hashes as module
from models.data.hashes import Hashes
from models.errors import FeatureError


def write(path: Path, content: bytes, *, age_seconds: int = 100) -> Path:
    """A file that was last changed so long ago."""
    path.write_bytes(content)
    changed = path.stat().st_mtime_ns - age_seconds * 10**9
    os.utime(path, ns=(changed, changed))
    return path


def hashed(database: Path, *paths: Path) -> list[str | OSError]:
    with Hashes(database) as hashes:
        found = list(hashes.of(paths))
    assert [path for path, _ in found] == list(paths)
    return [sha256 for _, sha256 in found]


def of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / f"{number}", bytes([number])) for number in range(200)]
    wanted = [of(bytes([number])) for number in range(200)]
    assert hashed(tmp_path / "db", *paths) == wanted
    monkeypatch.setattr(module, "_hash", lambda path: pytest.fail(f"{path} is read again"))
    assert hashed(tmp_path / "db", *paths) == wanted


@pytest.mark.parametrize("change", ["content", "time", "inode"])
def test_a_file_that_changed_is_read_again(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "a", b"one")
    was = path.stat().st_mtime_ns
    hashed(tmp_path / "db", path)
    if change == "content":
        write(path, b"longer")
    elif change == "time":
        path.write_bytes(b"two")
        os.utime(path, ns=(was + 1, was + 1))
    else:
        (tmp_path / "b").write_bytes(b"two")
        (tmp_path / "b").replace(path)
        os.utime(path, ns=(was, was))
    assert hashed(tmp_path / "db", path) == [of(path.read_bytes())]


def test_a_file_that_may_still_be_written_to_is_not_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"one", age_seconds=0)
    was = path.stat().st_mtime_ns
    hashed(tmp_path / "db", path)
    path.write_bytes(b"two")
    os.utime(path, ns=(was, was))
    assert hashed(tmp_path / "db", path) == [of(b"two")]


def test_what_cannot_be_read_is_told_and_ends_nothing(tmp_path: Path) -> None:
    gone, there = hashed(tmp_path / "db", tmp_path / "gone", write(tmp_path / "a", b"one"))
    assert isinstance(gone, FileNotFoundError)
    assert there == of(b"one")


def test_names_are_bytes(tmp_path: Path) -> None:
    path = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9'; DROP TABLE hashes; --")), b"one")
    assert hashed(tmp_path / "db", path) == hashed(tmp_path / "db", path) == [of(b"one")]


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Connections of their own, at the same time."""
    paths = [write(tmp_path / f"{number}", bytes([number])) for number in range(100)]
    found: list[list[str | OSError]] = []
    threads = [threading.Thread(target=lambda: found.append(hashed(tmp_path / "db", *paths))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[of(bytes([number])) for number in range(100)]] * 4
    with sqlite3.connect(tmp_path / "db") as connection:
        assert connection.execute("SELECT count(*) FROM hashes").fetchone() == (100,)
    connection.close()


def test_another_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(FeatureError, match=r"db: .*remove the file"), Hashes(tmp_path / "db"):
        pass
