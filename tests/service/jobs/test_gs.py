"""gs:// against an emulator of Google Cloud Storage, as `gcp-storage-emulator` carries it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import httpx
import pytest

from service.jobs.errors import BadInput, FetchFailed
from service.jobs.inputs import Inputs
from service.jobs.remote import Remote
from service.spool import Spool
from tests.drawn import Drawn
from tests.ports import free_port
from tests.server import wait_until
from tests.service.jobs.test_command import batch, rows


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty one."""
    port = free_port()
    emulator = Path(sys.executable).with_name("gcp-storage-emulator")
    words = [
        str(emulator),
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
        "--default-bucket",
        "clips",
    ]
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: answers(url), "the emulator")
            yield "gs://clips"
        finally:
            process.kill()
            fsspec.filesystem("gs").clear_instance_cache()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/storage/v1/b/clips", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_batch_of_a_bucket(bucket: str, tmp_path: Path, clip: Drawn) -> None:
    system = fsspec.filesystem("gs")
    for name in ("a/1.mp4", "a/b/2.mp4", "c/3.mp4"):
        system.put(str(clip.path), f"{bucket}/{name}")
    system.pipe(f"{bucket}/m.csv", f"id,uri,end_seconds\nshort,{bucket}/c/3.mp4,1.5\n".encode())
    inputs = [f"{bucket}/a", f"{bucket}/c/*.mp4", f"{bucket}/m.csv"]
    batch(tmp_path, *inputs, "--out", "out.jsonl")
    found = {row.id: row for row in rows(tmp_path / "out.jsonl")}
    assert sorted(found) == [f"{bucket}/a/1.mp4", f"{bucket}/a/b/2.mp4", f"{bucket}/c/3.mp4", "short"]
    assert {row.status for row in found.values()} == {"ok"}


def test_names_of_objects_are_data(bucket: str, tmp_path: Path) -> None:
    """Also what fsspec takes for a version of the object, or for a chain of file systems."""
    system, remote = fsspec.filesystem("gs"), Remote(None, Spool(tmp_path / "spool", 1 << 30, 1 << 30))
    for name in ("take[1].mp4", "a::b.mp4", "a#12", "50%.mp4"):
        system.pipe(f"{bucket}/odd/{name}", name.encode())
        url = f"{bucket}/odd/{name}"
        assert [each.item.uri for each in Inputs([url], remote)] == [url]
        with remote.fetched(url, threading.Event()) as file:
            assert file.path.read_bytes() == name.encode()


def test_what_is_not_there(bucket: str, tmp_path: Path) -> None:
    remote = Remote(None, Spool(tmp_path / "spool", 1 << 30, 1 << 30))
    for url in (f"{bucket}/absent.mp4", "gs://no-such-bucket/clips", f"{bucket}/absent/*.mp4"):
        with pytest.raises(BadInput, match=r"no file or folder|names no video"):
            list(Inputs([url], remote))
    with (
        pytest.raises(FetchFailed, match=r"absent\.mp4 can't be read"),
        remote.fetched(f"{bucket}/absent.mp4", threading.Event()),
    ):
        pass
