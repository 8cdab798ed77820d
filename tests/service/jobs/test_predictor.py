"""Whatever goes wrong with an item is its row; only what is wrong with the service ends a batch."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import EngineFailed, EngineLost
from service.jobs.errors import FetchFailed, UriNotAllowed
from service.jobs.items import Item
from service.jobs.predictor import Predictor, opened
from service.jobs.remote import Remote
from service.names import written
from service.spool import Spool


@pytest.fixture
def item(tmp_path: Path) -> Item:
    (tmp_path / "a.mp4").touch()
    return Item("a", str(tmp_path / "a.mp4"))


def predictor(folder: Path, error: Exception) -> Predictor:
    """Of a service that raises this."""

    def predict(*_: object) -> Any:
        raise error

    serving: Any = SimpleNamespace(predict=predict)
    model: Any = None
    return Predictor(serving, model, Remote([], Spool(folder, 1, 1)))


def test_an_error_of_ours(item: Item, tmp_path: Path) -> None:
    row = predictor(tmp_path, EngineFailed("scores are not finite"))(item)
    assert (row.status, row.code, row.message) == ("error", "engine_failed", "scores are not finite")


def test_an_error_that_no_one_foresaw(item: Item, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        row = predictor(tmp_path, ZeroDivisionError("division by zero"))(item)
    assert (row.status, row.code) == ("error", "internal")
    assert "ZeroDivisionError: division by zero" in (row.message or "")
    assert "Traceback" in caplog.text


def test_files_of_any_name(tmp_path: Path) -> None:
    """By path, and by a URL of which `?` and `#` are letters."""
    remote = Remote(["file:///"], Spool(tmp_path / "spool", 1, 1))
    for name in (b"caf\xe9 [b].mp4", b"a#b?c%20.mp4"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.write_bytes(name)
        for uri in (written(path), path.as_uri(), f"file://{tmp_path}/a#b?c%2520.mp4"):
            if "%2520" not in uri or b"%20" in name:
                with opened(uri, remote, threading.Event()) as (file, sha256):
                    assert file.read_bytes() == name
                    assert str(file).encode()
                    assert sha256 == hashlib.sha256(name).hexdigest()


@pytest.mark.parametrize(
    ("uri", "words"),
    [("/dev/zero", "no regular file"), ("file:///a%00b", "null"), ("absent", "No such file"), ("/", "Is a directory")],
)
def test_what_is_no_file_fails_at_once(tmp_path: Path, uri: str, words: str) -> None:
    remote = Remote(["file:///"], Spool(tmp_path / "spool", 1, 1))
    with pytest.raises(FetchFailed, match=words), opened(uri, remote, threading.Event()):
        pass


def test_nothing_climbs_out_behind_what_would_be_a_query(tmp_path: Path) -> None:
    remote = Remote(["file:///open/"], Spool(tmp_path / "spool", 1, 1))
    for uri in ("file:///open/a?/../../etc/passwd", "file:///open/a#/%2e%2e/%2e%2e/etc/passwd"):
        with pytest.raises(UriNotAllowed), opened(uri, remote, threading.Event()):
            pass


def test_an_error_that_names_no_utf8_is_a_row(item: Item, tmp_path: Path) -> None:
    row = predictor(tmp_path, OSError(2, "No such file", os.fsdecode(b"caf\xe9")))(item)
    assert row.to_json().encode()
    row = predictor(tmp_path, EngineFailed(os.fsdecode(b"caf\xe9")))(item)
    assert "udce9" in row.to_json()


def test_an_error_of_the_service(item: Item, tmp_path: Path) -> None:
    with pytest.raises(EngineLost):
        predictor(tmp_path, EngineLost("the device is lost"))(item)
