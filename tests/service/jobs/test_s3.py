"""s3:// against a real server: listing, ranges, objects of several parts, and credentials that are wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from service.jobs.errors import BadInput, FetchFailed
from service.jobs.inputs import Inputs
from service.jobs.remote import Remote
from service.spool import Spool
from tests.drawn import Drawn
from tests.s3 import BUCKET, S3, s3
from tests.service.jobs.test_command import batch, rows

PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """Empty, and ours."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir(BUCKET)
    yield system
    system.rm(BUCKET, recursive=True)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(None, Spool(tmp_path / "spool", 1 << 30, 1 << 30))


def fetched(remote: Remote, url: str) -> tuple[int, str]:
    with remote.fetched(url, threading.Event()) as file:
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        return file.num_bytes, file.sha256


def test_a_batch_of_a_bucket(bucket: fsspec.AbstractFileSystem, tmp_path: Path, clip: Drawn) -> None:
    """A folder, a pattern and a manifest, each in the bucket; one object is no video."""
    for name in ("a/1.mp4", "a/b/2.mp4", "c/3.mp4"):
        bucket.put(str(clip.path), f"{BUCKET}/{name}")
    bucket.pipe(f"{BUCKET}/a/broken.mp4", b"This is not a video.")
    bucket.pipe(f"{BUCKET}/a/notes.txt", b"Nor is this.")
    bucket.pipe(f"{BUCKET}/m.csv", f"id,uri,end_seconds\nshort,s3://{BUCKET}/c/3.mp4,1.5\n".encode())
    inputs = [f"s3://{BUCKET}/a", f"s3://{BUCKET}/c/*.mp4", f"s3://{BUCKET}/m.csv"]
    batch(tmp_path, *inputs, "--out", "out.parquet", status=1)
    found = {row.id: row for row in rows(tmp_path / "out.parquet")}
    names = [f"s3://{BUCKET}/{name}" for name in ("a/1.mp4", "a/b/2.mp4", "a/broken.mp4", "c/3.mp4")]
    assert sorted(found) == sorted([*names, "short"])
    assert [found[name].code for name in names] == [None, None, "not_a_video", None]
    assert found[names[0]].predictions == found[names[3]].predictions
    assert list((tmp_path / "spool").iterdir()) == []
    assert "5 of 5 are recorded" in batch(tmp_path, *inputs, "--out", "out.parquet", "--resume", status=1)


def test_an_object_of_several_parts_comes_whole(bucket: fsspec.AbstractFileSystem, remote: Remote) -> None:
    data = np.random.default_rng(0).bytes(4 * PART_BYTES + 12345)
    with bucket.open(f"{BUCKET}/large.mp4", "wb", block_size=PART_BYTES) as file:
        for start in range(0, len(data), PART_BYTES):
            file.write(data[start : start + PART_BYTES])
    assert bucket.info(f"{BUCKET}/large.mp4")["ETag"].strip('"').partition("-")[2] == "5"  # of five parts
    assert fetched(remote, f"s3://{BUCKET}/large.mp4") == (len(data), hashlib.sha256(data).hexdigest())
    bucket.pipe(f"{BUCKET}/empty.mp4", b"")
    assert fetched(remote, f"s3://{BUCKET}/empty.mp4")[0] == 0


def test_more_objects_than_a_page(bucket: fsspec.AbstractFileSystem, remote: Remote) -> None:
    """S3 lists a thousand at a time."""
    names = [f"{number:04d}.mp4" for number in range(1100)]
    bucket.pipe({f"{BUCKET}/many/{name}": b"x" for name in names})
    found = [each.item.uri for each in Inputs([f"s3://{BUCKET}/many/"], remote)]
    assert found == [f"s3://{BUCKET}/many/{name}" for name in names]


def test_a_key_s_letters_are_letters(bucket: fsspec.AbstractFileSystem, remote: Remote) -> None:
    """Of patterns, of chains of file systems, of URLs; of what is there with a pattern's name, that one."""
    keys = ["a::b.mp4", "take[1].mp4", "what?.mp4", "50%.mp4", "a%20b.mp4", "a#b.mp4", "a b+c.mp4", "ü.mp4"]
    for key in keys:
        bucket.call_s3("put_object", Bucket=BUCKET, Key=key, Body=key.encode())
    bucket.pipe(f"{BUCKET}/take1.mp4", b"x")
    bucket.pipe(f"{BUCKET}/whatx.mp4", b"x")
    for key in keys:
        url = f"s3://{BUCKET}/{key}"
        assert [found.item.uri for found in Inputs([url], remote)] == [url]
        assert fetched(remote, url)[0] == len(key.encode())
    assert len(list(Inputs([f"s3://{BUCKET}/take?.mp4"], remote))) == 1


@pytest.mark.usefixtures("bucket")
def test_what_is_not_there(remote: Remote) -> None:
    for url in (f"s3://{BUCKET}/absent.mp4", "s3://no-such-bucket/clips", f"s3://{BUCKET}/absent/*.mp4"):
        with pytest.raises(BadInput, match=r"no file or folder|names no video"):
            list(Inputs([url], remote))
    with pytest.raises(FetchFailed, match=r"absent\.mp4 can't be read"):
        fetched(remote, f"s3://{BUCKET}/absent.mp4")


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials(
    bucket: fsspec.AbstractFileSystem, tmp_path: Path, clip: Drawn, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bucket.put(str(clip.path), f"{BUCKET}/1.mp4")
    monkeypatch.setenv(name, "wrong")
    said = batch(tmp_path, f"s3://{BUCKET}/", "--out", "out.jsonl", status=2)
    for word in ("fetch_failed", f"s3://{BUCKET}/", "AWS_ACCESS_KEY_ID"):
        assert word in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.jsonl").exists()
