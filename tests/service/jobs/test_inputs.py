"""What a batch is made of: every kind of input, in an order that a resumed batch finds again; bad ones by line."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import pytest

from service.jobs.errors import BadInput, UriNotAllowed
from service.jobs.inputs import Inputs
from service.jobs.items import Item
from service.jobs.remote import Remote
from service.names import path_of, written
from service.spool import Spool
from tests.service.jobs.rows import failed

URL = "https://videos.example/open/2.mp4"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(["https://videos.example/open/"], Spool(tmp_path / "spool", 1 << 20, 1 << 20))


def items(remote: Remote, *inputs: str | Path) -> list[Item]:
    return [found.item for found in Inputs(map(str, inputs), remote)]


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_files_folders_and_patterns(remote: Remote, tmp_path: Path) -> None:
    paths = touch(tmp_path, "a/1.mp4", "a/b/2.MKV", "a/b/3.webm", "a/notes.txt", "odd name")
    assert [item.uri for item in items(remote, tmp_path / "a")] == paths[:3]
    assert [item.id for item in items(remote, tmp_path / "odd name", tmp_path / "a/1.mp4")] == [paths[4], paths[0]]
    assert [item.uri for item in items(remote, tmp_path / "a/**/*.[mM]*")] == paths[:2]
    assert items(remote, paths[0])[0].end_seconds == math.inf


def test_manifests_by_their_names_or_by_their_content(remote: Remote, tmp_path: Path) -> None:
    """Paths count from the manifest's own folder; columns of the user's are let through."""
    lines = ["id,uri,start_seconds,end_seconds,label", "one,sub/1.mp4,1.5,4,Archery", f'"",{URL},,,"x, y"']
    for name in ("m.csv", "m", "m.txt", "m.json", "m.csv.gz", "m[1].csv"):
        content = "\n".join(lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert items(remote, tmp_path / name) == [Item("one", str(tmp_path / "sub/1.mp4"), 1.5, 4.0), Item(URL, URL)]
    (tmp_path / "m.mp4").write_bytes(content)  # named as a video, it is one
    assert items(remote, tmp_path / "m.mp4") == [Item(str(tmp_path / "m.mp4"), str(tmp_path / "m.mp4"))]
    assert len(items(remote, tmp_path / "m*.csv")) == 4


@pytest.mark.parametrize("text", ["a.mp4\nb.mp4\n", '["a.mp4", "b.mp4"]', '[{"uri": "a.mp4"}]', '{"items": []}'])
def test_a_text_that_is_no_manifest(remote: Remote, tmp_path: Path, text: str) -> None:
    """It tells what is one; a name of a video is still believed."""
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(BadInput, match=r"list\.txt is a text, and no manifest.* CSV or TSV .* column uri .*JSON lines"):
        items(remote, tmp_path / "list.txt")
    (tmp_path / "list.txt").rename(tmp_path / "list.mp4")
    assert len(items(remote, tmp_path / "list.mp4")) == 1


def test_what_is_missing_or_empty(remote: Remote, tmp_path: Path) -> None:
    touch(tmp_path, "empty/readme.md")
    for name in ("absent.mp4", "absent/*.mp4", "empty"):
        with pytest.raises(BadInput, match=r"names no video|no file, folder or pattern"):
            items(remote, tmp_path / name)


@pytest.mark.parametrize(
    "url",
    [
        "https://videos.example/closed/1.mp4", "https://videos.example/open/../closed/1.mp4", "http://videos.example/open/1.mp4",
        "https://videos.example/open/%2e%2e/closed/1.mp4", "https://videos.example.evil/open/1.mp4",
        "https://user@videos.example/open/1.mp4", "file:///etc/passwd", "s3://bucket/1.mp4",
    ],
)  # fmt: skip
def test_a_url_that_nobody_allowed(remote: Remote, url: str) -> None:
    with pytest.raises(UriNotAllowed, match=r"https://videos\.example/open/"):
        items(remote, url)


def test_links_hidden_files_and_folders_that_match(remote: Remote, tmp_path: Path) -> None:
    paths = touch(tmp_path, "a/1.mp4", "a/b/2.mp4", "a/.hidden.mp4", "a/.trash/3.mp4", "c/4.mp4")
    (tmp_path / "a/b/above").symlink_to(tmp_path / "a")
    (tmp_path / "a/z").symlink_to(tmp_path / "c")
    linked = str(tmp_path / "a/z/4.mp4")
    assert [item.uri for item in items(remote, tmp_path / "a")] == [paths[0], paths[1], linked]
    assert [item.uri for item in items(remote, tmp_path / "a/*")] == [paths[0]]
    assert [item.uri for item in items(remote, tmp_path / "a/.hidden.mp4")] == [paths[2]]


def test_letters_of_any_script(remote: Remote, tmp_path: Path) -> None:
    names = ["at 3.24\u202fPM.mov", "日本 😀.mp4", "ä'\".mp4"]
    touch(tmp_path, *names)
    assert {Path(item.id).name for item in items(remote, tmp_path)} == set(names)


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"two\nlines.mp4", b" x.mp4 ", rb"a\xe9.mp4", b"[b] ::%20#?.mp4"])
def test_names_are_data(remote: Remote, tmp_path: Path, name: bytes) -> None:
    """In a folder, named, in a pattern, and in a manifest that has them as the rows do."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(b"\x1a\x45\xdf\xa3")
    text = written(path)
    for given in (tmp_path, path, tmp_path / "*"):
        assert [(item.id, item.uri) for item in items(remote, given)] == [(text, text)]
    assert path_of(text) == path
    (tmp_path / "m.jsonl").write_text(json.dumps({"uri": written(path.name)}))
    assert [item.uri for item in items(remote, tmp_path / "m.jsonl")] == [text]


@pytest.mark.parametrize("name", ["take[1].mp4", "what?.mp4", "*.mp4", "[!a].mp4"])
def test_what_exists_is_no_pattern(remote: Remote, tmp_path: Path, name: str) -> None:
    [path, _] = touch(tmp_path, name, "take1.mp4")
    assert [item.uri for item in items(remote, path)] == [path]
    touch(tmp_path, f"{name}/a.mp4".replace(".mp4/", "/"))
    folder = str(tmp_path / name.removesuffix(".mp4"))
    assert [item.uri for item in items(remote, folder)] == [f"{folder}/a.mp4"]


def test_inputs_that_are_nothing(remote: Remote, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for text, words in (
        ("", "is no file, folder or pattern"), ("a\0b", "is no file"), ("x" * 5000, "is no file"),
        ("x" * 5000 + "*", "names no video"), (str(tmp_path / "pipe.mp4"), "is no regular file"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            items(remote, text)


def test_rows_of_errors_are_a_manifest(remote: Remote, tmp_path: Path) -> None:
    """So that what failed can be tried again."""
    path = tmp_path / "errors.jsonl"
    path.write_text(failed(1).to_json() + "\n" + failed(2).to_json() + "\n")
    assert [(item.id, item.uri) for item in items(remote, path)] == [
        (failed(number).id, str(tmp_path / failed(number).uri)) for number in (1, 2)
    ]
