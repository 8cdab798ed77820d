"""What a batch is made of: every kind of input, in an order that a resumed batch finds again; bad ones by line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from service.jobs.errors import BadInput, UriNotAllowed
from service.jobs.inputs import Inputs
from service.jobs.items import Item
from service.jobs.remote import Remote
from service.spool import Spool
from tests.service.jobs.rows import failed


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


def test_a_file_whose_name_is_a_pattern(remote: Remote, tmp_path: Path) -> None:
    [path, _] = touch(tmp_path, "take[1].mp4", "take1.mp4")
    assert [item.uri for item in items(remote, path)] == [path]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_manifest(remote: Remote, tmp_path: Path, suffix: str) -> None:
    """Paths count from its own folder; columns of the user's are let through."""
    rows = [
        {"id": "one", "uri": "sub/1.mp4", "start_seconds": 1.5, "end_seconds": 4, "label": "Archery"},
        {"id": "", "uri": "https://videos.example/open/2.mp4", "start_seconds": "", "end_seconds": "", "label": "x, y"},
    ]
    path = tmp_path / f"manifest{suffix}"
    if suffix == ".csv":
        lines = [
            "id,uri,start_seconds,end_seconds,label",
            "one,sub/1.mp4,1.5,4,Archery",
            ',"https://videos.example/open/2.mp4",,,"x, y"',
        ]
        path.write_text("﻿" + "\r\n".join(lines) + "\r\n")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert items(remote, path) == [
        Item("one", str(tmp_path / "sub/1.mp4"), 1.5, 4.0),
        Item("https://videos.example/open/2.mp4", "https://videos.example/open/2.mp4"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", "id,url\n1,a.mp4\n", ["m.csv line 1", "uri (or path)", "id, url"]),
        ("m.csv", "uri,start_second\na.mp4,1\n", ["line 1", "start_second", "did you mean start_seconds"]),
        ("m.csv", "uri,start_seconds\na.mp4,1\nb.mp4,soon\n", ["line 3", "start_seconds 'soon'"]),
        ("m.csv", "uri,start_seconds\na.mp4,-1\n", ["line 2", "start_seconds '-1'"]),
        ("m.csv", "uri,end_seconds\na.mp4,inf\n", ["line 2", "end_seconds 'inf'"]),
        ("m.csv", "uri,start_seconds,end_seconds\na.mp4,5,5\n", ["line 2", "end_seconds 5", "after start_seconds 5"]),
        ("m.csv", "uri,start_seconds\na.mp4\n", ["line 2", "more or fewer"]),
        ("m.csv", "uri\na.mp4,1\n", ["line 2", "more or fewer"]),
        ("m.csv", 'uri\n"a.mp4\n', ["m.csv line", "unexpected end"]),
        ("m.csv", "", ["line 1", "it has none"]),
        ("m.csv", "uri\n", ["names no video"]),
        ("m.jsonl", '{"uri": "a.mp4"}\n{"uri": \n', ["m.jsonl line 2", "Expecting value"]),
        ("m.jsonl", "[1]\n", ["line 1", "a JSON object is wanted"]),
        ("m.jsonl", '{"path": "a.mp4"}\n{"uri": 3}\n', ["line 2", "no uri (or path)"]),
        ("m.jsonl", '{"uri": "a.mp4", "end_secs": 3}\n', ["line 1", "did you mean end_seconds"]),
    ],
)  # fmt: skip
def test_a_bad_manifest_is_named_with_its_line(
    remote: Remote, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput) as caught:
        items(remote, tmp_path / name)
    assert [word for word in words if word not in caught.value.detail] == [], caught.value.detail


def test_bytes_that_are_no_text(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"uri\n\xff\xfe.mp4\n")
    with pytest.raises(BadInput, match=r"m\.csv line \d.*utf-8"):
        items(remote, tmp_path / "m.csv")


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


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"two\nlines.mp4", "two\u2028lines.mp4".encode()])
def test_a_name_that_no_output_can_hold(remote: Remote, tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    with pytest.raises(BadInput, match="one line of UTF-8; rename the file"):
        items(remote, tmp_path)


def test_rows_of_errors_are_a_manifest(remote: Remote, tmp_path: Path) -> None:
    """So that what failed can be tried again."""
    path = tmp_path / "errors.jsonl"
    path.write_text(failed(1).to_json() + "\n" + failed(2).to_json() + "\n")
    assert [(item.id, item.uri) for item in items(remote, path)] == [
        (failed(number).id, str(tmp_path / failed(number).uri)) for number in (1, 2)
    ]
