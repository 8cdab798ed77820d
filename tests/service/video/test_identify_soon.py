"""Headers on which MediaInfo hangs: a loop ends by its CPU time, and a busy machine changes no answer."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest

from service.video import identify_soon
from service.video.container import Container
from service.video.errors import NoSuchStream

READ = Container(format="MPEG-4")


def spend(cpu_seconds: float) -> None:
    until = time.thread_time() + cpu_seconds
    while time.thread_time() < until:
        pass


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify_soon, "_CPU_SECONDS", 0.2)
    monkeypatch.setattr(identify_soon, "_WALL_SECONDS", 1.0)
    monkeypatch.setattr(identify_soon, "_LOOK_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (lambda: None, READ),
        (lambda: time.sleep(0.5), READ),  # as a machine with other work would have it
        (lambda: spend(2.0), Container()),
        (lambda: time.sleep(2.0), Container()),
    ],
)
def test_only_what_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], None], found: Container
) -> None:
    def identify(_file: object, _stream: object) -> Container:
        work()
        return READ

    monkeypatch.setattr(identify_soon, "identify", identify)
    assert identify_soon.identify_soon(io.BytesIO()) == found


def test_a_stream_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def identify(_file: object, _stream: object) -> Container:
        raise NoSuchStream("no such stream")

    monkeypatch.setattr(identify_soon, "identify", identify)
    with pytest.raises(NoSuchStream):
        identify_soon.identify_soon(io.BytesIO())
