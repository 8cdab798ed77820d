"""What happens around the models of one process."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from service.answers import AnswerOptions
from service.api.predict import _together
from service.bundle import file_sha256
from service.engine.admission import Cost, Work
from service.engine.batcher import FrameBatcher
from service.engine.sessions import DeviceLost
from service.errors import Cancelled, EngineLost, NotReady
from service.fairness import Priority
from service.pipeline import ClipRequest
from service.serving import EXIT_ENGINE_LOST, Serving, _start_threads
from service.settings import Settings
from tests.bundles import copy_of_the_zoo
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

        def lost(sizes: object, encoder: object, num_frames: int) -> None:  # noqa: ARG001  (as the batcher calls it)
            raise DeviceLost("CUDA failure 719: unspecified launch failure")

        monkeypatch.setattr("service.engine.batch_sizes.BatchSizes.encode", lost)
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


def test_models_that_see_other_frames_are_weighed_together_and_timed_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passes over one clip, 4 and 2 frames a second: the deadline is held against both before the first."""
    copy_of_the_zoo(tmp_path, "dense")
    copy_of_the_zoo(tmp_path, "sparse", sample_fps=2.0)
    serving = Serving(Settings(models_dir=tmp_path, models="dense,sparse", feature_cache_bytes=0))
    serving.load()
    judged: list[tuple[Cost, float]] = []

    def judge(work: Work, cost: Cost, timeout_seconds: float, left_seconds: float) -> None:  # noqa: ARG001
        work.cost = cost
        judged.append((cost, timeout_seconds))

    monkeypatch.setattr(serving.shared.admission, "judge", judge)
    try:
        dense, sparse = serving.models_of("dense,sparse")
        clip = replace(request(real_clip("bikes.mp4")), deadline=time.perf_counter() + 600.0)
        alone = [serving.predict(clip, [model])[0] for model in (dense, sparse)]
        (dense_cost, _), (sparse_cost, _) = judged
        judged.clear()
        together = serving.predict(clip, [dense, sparse])
    finally:
        serving.close()
    assert [each.predictions for each in together] == [each.predictions for each in alone]
    assert together[0].receipt.frames_used > together[1].receipt.frames_used
    (first, timeout), (second, no_timeout) = judged
    # Not equal: what the clip's decoding takes was learnt meanwhile.
    assert first.frames == dense_cost.frames
    assert first.machine_seconds > max(dense_cost.machine_seconds, second.machine_seconds)
    assert second.frames == sparse_cost.frames
    assert timeout < math.inf
    assert no_timeout == math.inf, "the second pass was weighed with the first"
    decoded = [each.timing_ms.decode for each in together]
    assert _together([dense, sparse], together).decode == pytest.approx(sum(decoded), abs=0.002)
    assert _together([dense, sparse], together).total == max(each.timing_ms.total for each in together)


def test_a_full_probe_takes_a_place_and_not_that_of_a_short_clip() -> None:
    """Two places, one of them for short clips: a film holds the other, a full walk waits, a look at the header not."""
    serving = Serving(Settings(max_clips_in_progress=2, feature_cache_bytes=0))
    serving.load()
    model, path = serving.model(None), real_clip("bikes.mp4")
    never = threading.Event()
    try:
        with (
            ThreadPoolExecutor(1) as clients,
            serving.shared.slots.place(Priority.INTERACTIVE, is_long=True, check=lambda: None, find_out=lambda: True),
        ):
            walking = clients.submit(serving.probe, path, model, full=True, cancelled=never)
            assert serving.probe(path, model, full=False, cancelled=never).video.refusal is None
            assert not walking.done()
            gone = threading.Event()
            gone.set()
            with pytest.raises(Cancelled):
                serving.probe(path, model, full=True, cancelled=gone)
        assert walking.result().video.refusal is None
    finally:
        serving.close()
