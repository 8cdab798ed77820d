"""What happens around the models of one process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.answers import AnswerOptions
from service.bundle import file_sha256
from service.engine.batcher import FrameBatcher
from service.engine.sessions import DeviceLost
from service.errors import EngineLost, NotReady
from service.pipeline import ClipRequest
from service.serving import EXIT_ENGINE_LOST, Serving, _start_threads
from service.settings import Settings
from tests.real_clips import real_clip


def request(path: Path) -> ClipRequest:
    return ClipRequest(path, file_sha256(path), AnswerOptions())


def test_threads_are_started_at_once_and_stay() -> None:
    with ThreadPoolExecutor(12, thread_name_prefix="early") as pool:
        _start_threads(pool, 12)
        assert sum(thread.name.startswith("early") for thread in threading.enumerate()) == 12
        assert pool.submit(lambda: 1).result() == 1


def test_a_pool_that_is_closed_meanwhile_holds_nobody() -> None:
    pool = ThreadPoolExecutor(4)
    pool.shutdown()
    _start_threads(pool, 4)


def test_a_lost_device_makes_the_service_unready_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made up: no GPU is here to be lost, so the encoder says what one would say."""
    left: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    monkeypatch.setattr("service.serving.os._exit", leave)
    monkeypatch.setattr("service.serving._LAST_WORDS_SECONDS", 0.01)
    serving = Serving(Settings(feature_cache_bytes=0))
    serving.load()
    try:
        model = serving.model(None)
        assert isinstance(model.batcher, FrameBatcher)

        def lost(encoder: object, size: int) -> None:  # noqa: ARG001  (as the batcher calls it)
            raise DeviceLost("CUDA failure 719: unspecified launch failure")

        monkeypatch.setattr("service.engine.batcher._timed", lost)
        with pytest.raises(EngineLost, match="launch failure"):
            serving.predict(request(real_clip("bikes.mp4")), [model])
        assert "launch failure" in (serving.problem() or "")
        assert gone.wait(60)
        assert left == [EXIT_ENGINE_LOST]
    finally:
        serving.close()


def test_a_service_that_stops_says_so() -> None:
    serving = Serving(Settings(feature_cache_bytes=0))
    serving.load()
    model = serving.model(None)
    serving.shared.stopping.set()
    with pytest.raises(NotReady, match="stops"):
        serving.predict(request(real_clip("bikes.mp4")), [model])
    serving.close()
