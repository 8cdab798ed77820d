"""Whatever goes wrong with an item is its row; only what is wrong with the service ends a batch."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import EngineFailed, EngineLost
from service.jobs.items import Item
from service.jobs.predictor import Predictor
from service.jobs.remote import Remote
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


def test_an_error_of_the_service(item: Item, tmp_path: Path) -> None:
    with pytest.raises(EngineLost):
        predictor(tmp_path, EngineLost("the device is lost"))(item)
