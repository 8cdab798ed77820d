"""`batch` over signed URLs: rows keep apart, resume as documented, and nothing that is written has a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.jobs.items import Item
from service.jobs.keys import Keys
from service.jobs.runner import Shard
from tests.drawn import Drawn
from tests.scripted import Scripted, answer, scripted
from tests.service.jobs.test_command import batch, rows

SECRET = "s3cr3t"  # noqa: S105


@pytest.fixture(scope="module")
def site(clip: Drawn) -> Iterator[Scripted]:
    with scripted() as running:
        running.script = [answer(200, clip.path.read_bytes())]
        running.of = {b"denied": answer(403), b"busy": answer(503, retry_after=0)}
        yield running


def url(site: Scripted, path: str, signature: str = SECRET) -> str:
    return f"{site.url}/{path}&Signature={signature}%2Bx"


def written(folder: Path) -> list[Path]:
    """Files that have the secret, but for the manifests that tests wrote."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("manifest")]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_are_told_apart_and_found_again(tmp_path: Path, site: Scripted, suffix: str) -> None:
    urls = [url(site, "get?id=1"), url(site, "get?id=2"), url(site, "denied?id=3"), url(site, "busy?id=4")]
    lines = ["id,uri", *(f",{each}" for each in urls), f"mine,{urls[0]}", f",{site.url}/plain.mp4"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    words = ["manifest.csv", "--allow", f"{site.url}/", "--out", f"out{suffix}"]
    settings: dict[str, Any] = {"jobs_dir": tmp_path / "jobs"}
    said = batch(tmp_path, *words, url(site, "named?on=the-command-line"), status=1, **settings)
    found = rows(tmp_path / f"out{suffix}")
    keys = Keys([(tmp_path / "jobs" / "secret_key").read_text()])
    expected: dict[str, str | None] = {
        keys.redacted(each): None for each in (urls[0], urls[1], url(site, "named?on=the-command-line"))
    }
    expected |= {"mine": None, f"{site.url}/plain.mp4": None}
    expected |= {
        keys.redacted(urls[2]): "403 Forbidden",
        keys.redacted(urls[3]): "503 Service Unavailable (tried 4 times)",
    }
    assert sorted(row.id_text for row in found) == sorted(expected)
    assert {row.uri for row in found} == {id_ for id_ in expected if id_ != "mine"}
    for row in found:
        assert (row.status == "ok") == (expected[row.id_text] is None)
        assert (row.message or "").endswith(expected[row.id_text] or "")
    again = batch(
        tmp_path, *words, url(site, "named?on=the-command-line"), "--resume", status=1, **settings
    )  # fmt: skip
    assert "7 of 7 are recorded already" in again
    assert SECRET not in said + again
    assert written(tmp_path) == []


def test_ids_decide_what_is_done(tmp_path: Path, site: Scripted) -> None:
    """Signatures change between two runs; what has an id is known by it, what has none is another item."""
    for name, signature in (("manifest-1.csv", f"{SECRET}1"), ("manifest-2.csv", f"{SECRET}2")):
        lines = ["id,uri", f"mine,{url(site, 'a?id=1', signature)}", f",{url(site, 'b?id=2', signature)}"]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    (tmp_path / "manifest-3.csv").write_text(f"uri\n{url(site, 'c?id=3')}\n")
    settings: dict[str, Any] = {"jobs_dir": tmp_path / "jobs"}
    words = ["--allow", f"{site.url}/", "--out", "out.jsonl"]
    batch(tmp_path, "manifest-1.csv", *words, **settings)
    said = batch(tmp_path, "manifest-2.csv", *words, "--resume", **settings)
    assert "1 of 2 are recorded already" in said
    assert len(rows(tmp_path / "out.jsonl")) == 3
    # Under another key the same items would be done once more.
    other = "another key of these tests and long"
    said = batch(tmp_path, "manifest-2.csv", *words, "--resume", status=2, secret_key=other, **settings)
    assert "bad_input" in said
    assert "REELSERVE_SECRET_KEY" in said
    # Not where the key that it was begun with has become a former one: that one goes on.
    began = (tmp_path / "jobs" / "secret_key").read_text()
    rotated = {**settings, "secret_key": f"{other},{began}"}
    said = batch(tmp_path, "manifest-2.csv", "manifest-3.csv", *words, "--resume", **rotated)
    assert "2 of 3 are recorded already" in said
    found = rows(tmp_path / "out.jsonl")
    assert len({row.id for row in found}) == len(found) == 4
    assert found[-1].id == Keys([began]).redacted(url(site, "c?id=3"))
    assert written(tmp_path) == []


def test_what_is_wrong_is_said_without_queries(tmp_path: Path, site: Scripted) -> None:
    settings: dict[str, Any] = {"jobs_dir": tmp_path / "jobs"}
    twice = [url(site, "a?id=1; x=y")] * 2
    said = batch(tmp_path, *twice, "--allow", f"{site.url}/", "--out", "out.jsonl", status=2, **settings)
    assert f"{site.url}/a?redacted stands" not in said
    assert f"id {site.url}/a?redacted=" in said
    said += batch(tmp_path, url(site, "a?id=1"), "--out", "out.jsonl", status=2, **settings)
    assert "uri_not_allowed" in said
    (tmp_path / "file").touch()
    nowhere: dict[str, Any] = {"jobs_dir": tmp_path / "file" / "jobs"}
    said += batch(tmp_path, twice[0], "--allow", f"{site.url}/", "--out", "out.jsonl", status=2, **nowhere)
    assert "REELSERVE_SECRET_KEY" in said
    assert SECRET not in said
    assert "Traceback" not in said


def test_shards_are_the_same_under_any_key() -> None:
    """Machines that share a batch may have keys of their own: no item is lost, none done twice."""
    urls = [f"https://host/get?id={number}" for number in range(50)]
    here, there = Keys(["a key of these tests and long enough"]), Keys(["another one of these tests and long"])
    for item_url in urls:
        item = Item(item_url, item_url)
        assert here.named(item).id != there.named(item).id
        in_shards = [[each.named(item) in Shard(index, 3) for index in range(3)] for each in (here, there)]
        assert in_shards[0] == in_shards[1]
        assert sum(in_shards[0]) == 1
    ids = Item("mine", urls[0])
    assert (here.named(ids) in Shard(0, 3)) == (ids in Shard(0, 3))
