from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle import Task
from service.engine.head_batcher import HeadBatch, HeadBatcher
from service.engine.heads import Array, Head, state_size
from service.engine.scorer import WindowScorer
from service.errors import BundleError, EngineFailed, EngineLost
from tests.service.engine.graphs import (
    LSTM_FEATURES,
    REORDERED,
    SPEC,
    document,
    linear,
    lstm_features,
    lstm_head,
    session,
    the_head_that_ships,
)

TASKS: tuple[Task, ...] = ("clip", "frame")


class Gated(Head):
    """A real head whose runs wait while the gate is shut, and that says when one has begun."""

    def __init__(self, head: Head) -> None:
        super().__init__(head._session, head.model)
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()
        self.refuse: Callable[[Sequence[Array]], Exception | None] = lambda windows: None
        self.runs: list[int] = []

    def _run(self, windows: Sequence[Array], states: Array, names: list[str]) -> list[Array]:
        self.begun.set()
        assert self.gate.wait(30)
        self.runs.append(len(windows))
        if error := self.refuse(windows):
            raise error
        return super()._run(windows, states, names)


@contextmanager
def together(batcher: HeadBatcher, head: Gated, calls: int) -> Iterator[ThreadPoolExecutor]:
    """Calls that are submitted inside wait for one another: the batcher's thread is held by a call before them."""
    head.begun.clear()
    head.gate.clear()
    with ThreadPoolExecutor(calls + 1) as pool:
        first = pool.submit(batcher.scores, [np.zeros((1, LSTM_FEATURES), np.float32)])
        assert head.begun.wait(30)
        yield pool
        _until(lambda: len(batcher._waiting) == calls)
        head.gate.set()
        first.result()
        head.runs.remove(1)  # its run is not the test's


@pytest.fixture(params=TASKS)
def gated(request: pytest.FixtureRequest) -> Gated:
    return Gated(lstm_head(request.param))


@contextmanager
def batcher_of(head: Head, **options: object) -> Iterator[tuple[HeadBatcher, list[HeadBatch]]]:
    seen: list[HeadBatch] = []
    batcher = HeadBatcher(head, observe=seen.append, **options)  # type: ignore[arg-type]
    yield batcher, seen
    batcher.close()


def test_a_lone_call_runs_at_once_as_the_head_would(gated: Gated) -> None:
    windows = [lstm_features(length, length) for length in (16, 16, 9)]
    expected = lstm_head(gated.model.task).scores(windows)
    with batcher_of(gated) as (batcher, seen):
        assert batcher.model is gated.model
        found = batcher.scores(windows)
    np.testing.assert_array_equal(found, expected)
    assert seen == [HeadBatch(windows=3, ticks=41, padding_ticks=7)]


def test_windows_of_waiting_clips_are_one_run(gated: Gated) -> None:
    clips = [[lstm_features(16, 10 * clip + window) for window in range(clip + 1)] for clip in range(4)]
    with batcher_of(gated) as (batcher, seen), together(batcher, gated, 4) as pool:
        calls = [pool.submit(batcher.scores, windows) for windows in clips]
    for call, windows in zip(calls, clips, strict=True):
        np.testing.assert_allclose(call.result(), lstm_head(gated.model.task).scores(windows), atol=REORDERED)
    assert seen[1:] == [HeadBatch(windows=10, ticks=160, padding_ticks=0)]


def test_steps_and_windows_share_a_run(gated: Gated) -> None:
    plain = lstm_head(gated.model.task)
    window, piece = lstm_features(9, 1), lstm_features(12, 2)
    _, states = plain.step([lstm_features(5, 3)], np.zeros((1, state_size(plain.model)), np.float32))
    with batcher_of(gated) as (batcher, seen), together(batcher, gated, 2) as pool:
        scored, stepped = pool.submit(batcher.scores, [window]), pool.submit(batcher.step, [piece], states)
    expected, after = plain.step([piece], states)
    np.testing.assert_allclose(scored.result(), plain.scores([window]), atol=REORDERED)
    np.testing.assert_allclose(stepped.result()[0], expected, atol=REORDERED)
    np.testing.assert_allclose(stepped.result()[1], after, atol=REORDERED)
    assert seen[1:] == [HeadBatch(windows=2, ticks=21, padding_ticks=3)]


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=6), min_size=1, max_size=6),
    most=st.integers(1, 40),
)
def test_padding_is_at_most_as_much_as_the_content(lengths: list[list[int]], most: int) -> None:
    head = Gated(lstm_head("clip"))
    with batcher_of(head, max_batch_windows=most) as (batcher, seen), together(batcher, head, len(lengths)) as pool:
        calls = [
            pool.submit(batcher.scores, [np.zeros((length, LSTM_FEATURES), np.float32) for length in clip])
            for clip in lengths
        ]
    assert [call.result().shape[0] for call in calls] == [len(clip) for clip in lengths]
    batches = seen[1:]
    assert sum(batch.windows for batch in batches) == sum(map(len, lengths))
    assert sum(batch.ticks for batch in batches) == sum(map(sum, lengths))
    for batch in batches:
        assert batch.padding_ticks <= batch.ticks
        assert batch.windows <= most
        assert batch.ticks + batch.padding_ticks <= 4096


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("task", TASKS)
def test_scores_do_not_depend_on_the_neighbours(task: Task, bidirectional: bool) -> None:
    """600 clips in random mixes of up to eight: the same to float32's rounding of a sum in another order."""
    head, random = lstm_head(task, bidirectional=bidirectional), np.random.default_rng(0)
    clips = [[lstm_features(int(n), int(n)) for n in random.integers(1, 40, random.integers(1, 5))] for _ in range(600)]
    with batcher_of(head) as (batcher, seen), ThreadPoolExecutor(8) as pool:
        for windows, found in zip(clips, pool.map(batcher.scores, clips), strict=True):
            alone = np.concatenate([head.scores([window]) for window in windows])
            np.testing.assert_allclose(found, alone, atol=REORDERED)
    assert max(batch.windows for batch in seen) > 4  # clips did meet


@pytest.mark.parametrize("whole", [False, True], ids=["windows", "whole, by its state"])
def test_clips_scored_side_by_side_are_as_each_alone(whole: bool) -> None:
    """The trained head, through the scorer."""
    spec = None
    if whole:
        spec = SPEC.model_copy(update={"window_frames": None, "stride_frames": None})
    head, random = the_head_that_ships(spec), np.random.default_rng(0)
    clips = [np.abs(random.normal(0, 0.5, (length, 1280))).astype(np.float32) for length in random.integers(1, 600, 24)]

    def scored(clip: Array, scoring: Head | HeadBatcher) -> Array:
        scorer = WindowScorer(scoring)
        for at in range(0, len(clip), 50):
            scorer.push(clip[at : at + 50])
        return scorer.finish().scores.astype(np.float32)

    with batcher_of(head) as (batcher, _), ThreadPoolExecutor(8) as pool:
        for clip, found in zip(clips, pool.map(lambda clip: scored(clip, batcher), clips), strict=True):
            np.testing.assert_allclose(found, scored(clip, head), atol=REORDERED)


def test_what_is_not_finite_stays_with_its_window(gated: Gated) -> None:
    plain, bad, good = lstm_head(gated.model.task), np.full((8, LSTM_FEATURES), np.nan, np.float32), lstm_features(8, 1)
    with batcher_of(gated) as (batcher, seen), together(batcher, gated, 2) as pool:
        poisoned, healthy = pool.submit(batcher.scores, [bad]), pool.submit(batcher.scores, [good])
    np.testing.assert_array_equal(poisoned.result(), plain.scores([bad]))
    np.testing.assert_allclose(healthy.result(), plain.scores([good]), atol=REORDERED)
    assert seen[-1].windows == 2


BAD = np.full((8, LSTM_FEATURES), 7, np.float32)


def holds_bad(windows: Sequence[Array]) -> bool:
    return any(window is BAD for window in windows)


def test_one_bad_item_fails_no_neighbour(gated: Gated) -> None:
    """The real head; only the failure is made up, as no input makes ONNX Runtime fail inside a batch alone."""
    gated.refuse = lambda windows: RuntimeError("CUDNN failure\nat …") if holds_bad(windows) else None
    good = [[lstm_features(8, seed), lstm_features(7, seed)] for seed in range(3)]
    with batcher_of(gated) as (batcher, _), together(batcher, gated, 4) as pool:
        failing = pool.submit(batcher.scores, [lstm_features(8, 9), BAD])
        calls = [pool.submit(batcher.scores, windows) for windows in good]
    for call, windows in zip(calls, good, strict=True):
        np.testing.assert_allclose(call.result(), lstm_head(gated.model.task).scores(windows), atol=REORDERED)
    with pytest.raises(EngineFailed, match="head of small failed on this clip, twice") as caught:
        failing.result()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert sorted(gated.runs) == [2, 2, 2, 2, 8]


def test_features_of_another_size_fail_their_own_clip(gated: Gated) -> None:
    """ONNX Runtime's own refusal."""
    good, wrong = lstm_features(8, 1), np.zeros((8, LSTM_FEATURES + 1), np.float32)
    with batcher_of(gated) as (batcher, _), together(batcher, gated, 2) as pool:
        healthy, failing = pool.submit(batcher.scores, [good]), pool.submit(batcher.scores, [wrong])
    np.testing.assert_array_equal(healthy.result(), lstm_head(gated.model.task).scores([good]))
    with pytest.raises(EngineFailed, match="twice"):
        failing.result()


def test_a_failure_that_passes_is_not_seen(gated: Gated) -> None:
    failures = iter([RuntimeError("once"), None])
    gated.refuse = lambda windows: next(failures)
    window = lstm_features(8, 1)
    with batcher_of(gated) as (batcher, _):
        found = batcher.scores([window])
    np.testing.assert_array_equal(found, lstm_head(gated.model.task).scores([window]))


def test_an_error_of_ours_keeps_its_class(gated: Gated) -> None:
    gated.refuse = lambda windows: BundleError("frozen")
    with batcher_of(gated) as (batcher, _), pytest.raises(BundleError, match="frozen"):
        batcher.scores([lstm_features(8, 1)])


def test_a_lost_device_is_told_once_and_to_all() -> None:
    """CUDA's own words; a CPU has no such error to give."""
    head, told = Gated(lstm_head("clip")), list[EngineLost]()
    head.refuse = lambda windows: RuntimeError("CUDA failure 700: an illegal memory access was encountered")
    with batcher_of(head, lost=told.append) as (batcher, _):
        for _ in range(2):
            with pytest.raises(EngineLost, match=r"head of small is lost \(CUDA failure 700"):
                batcher.scores([lstm_features(8, 1)])
    assert len(told) == 1


def test_a_clip_that_failed_costs_no_more_runs() -> None:
    """Its other windows are in later batches."""
    head = Gated(lstm_head("clip"))
    head.refuse = lambda windows: RuntimeError()
    with batcher_of(head, max_batch_windows=2) as (batcher, _), pytest.raises(EngineFailed):
        batcher.scores([lstm_features(8, seed) for seed in range(9)])
    assert head.runs == [2, 2]


def test_closing_ends_the_thread_and_whoever_waits() -> None:
    head = Gated(lstm_head("clip"))
    batcher = HeadBatcher(head)
    head.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(batcher.scores, [lstm_features(8, 1)])
        assert head.begun.wait(30)
        waiting = pool.submit(batcher.scores, [lstm_features(8, 2)])
        _until(lambda: len(batcher._waiting) == 1)
        closing = pool.submit(batcher.close)
        _until(lambda: batcher._closed)
        head.gate.set()
        closing.result()
        assert running.result().shape == (1, 3)
        with pytest.raises(RuntimeError, match="the head batcher is closed"):
            waiting.result()
    assert not batcher._thread.is_alive()
    batcher.close()
    with pytest.raises(RuntimeError, match="the head batcher is closed"):
        batcher.scores([lstm_features(8, 1)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_ends_the_thread_leaves_nobody_waiting() -> None:
    batcher = HeadBatcher(lstm_head("clip"), observe=lambda batch: sys.exit())
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="the head batcher is closed"):
        pool.submit(batcher.scores, [lstm_features(8, 1)]).result()
    batcher.close()


def test_no_windows_are_no_call() -> None:
    with batcher_of(lstm_head("clip")) as (batcher, _), pytest.raises(ValueError, match="no window to score"):
        batcher.scores([])


def test_a_long_window_runs_alone() -> None:
    """Beyond what a batch may hold."""
    head = Head(session(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))), document("frame", 2))
    windows = [np.ones((5000, 2), np.float32), np.ones((5000, 2), np.float32), np.ones((3, 2), np.float32)]
    with batcher_of(head) as (batcher, seen):
        assert batcher.scores(windows).shape == (10_003, 2)
    assert [batch.windows for batch in seen] == [1, 1, 1]


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.001)
