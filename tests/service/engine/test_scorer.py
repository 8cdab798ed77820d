from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from service.bundle import Task
from service.engine.heads import Array, Head
from service.engine.scorer import MAX_HEAD_TICKS, PIECE_TICKS, WindowScorer
from service.video.errors import TooManyFrames
from service.video.spec import ClipSpec
from service.video.windows import Window, cover, timeline
from tests.service.engine.graphs import (
    LSTM_FEATURES,
    REORDERED,
    SPEC,
    TASKS,
    Counting,
    alone,
    document,
    graph,
    linear,
    lstm_features,
    lstm_head,
    session,
    the_head_that_ships,
    what_it_saw,
)

SAW = session(what_it_saw())


@st.composite
def clips(draw: st.DrawFn) -> tuple[ClipSpec, list[int]]:
    """A spec, and a clip's chunks: how many ticks each has."""
    window = draw(st.none() | st.integers(1, 24))
    stride = None if window is None else draw(st.integers(1, window))
    chunks = draw(st.lists(st.integers(1, 20), min_size=1, max_size=20))
    return sliding(window, stride), chunks


def sliding(window: int | None, stride: int | None) -> ClipSpec:
    return SPEC.model_copy(update={"window_frames": window, "stride_frames": stride})


def pushed(spec: ClipSpec, chunks: list[int]) -> tuple[WindowScorer, Counting, int]:
    """A scorer that was given the ticks 1, 2, 3, …, its head, and the most rows that it kept between two chunks."""
    head = Counting(SAW, document("clip", 4, spec))
    ticks = np.arange(1, sum(chunks) + 1, dtype=np.float32)[:, None]
    scorer, most = feed(head, ticks, chunks)
    return scorer, head, most


def feed(head: Head, features: Array, chunks: list[int]) -> tuple[WindowScorer, int]:
    """A scorer that was given all features in chunks, and the most rows that it kept between two."""
    scorer = WindowScorer(head)
    most = at = 0
    for count in chunks:
        scorer.push(features[at : at + count])
        at += count
        assert scorer.num_ticks == at
        most = max(most, scorer.num_held)
    return scorer, most


@settings(deadline=None, max_examples=300)
@given(clips())
def test_windows_as_they_come_are_those_of_the_whole_clip(clip: tuple[ClipSpec, list[int]]) -> None:
    spec, chunks = clip
    scorer, _, _ = pushed(spec, chunks)
    found = scorer.finish()
    assert found.num_ticks == sum(chunks)
    assert found.windows == cover(sum(chunks), spec)
    assert found.scores.tolist() == [
        [window.start + 1, window.stop, sum(range(window.start + 1, window.stop + 1)), window.length]
        for window in found.windows
    ]


@settings(deadline=None, max_examples=200)
@given(clips().filter(lambda clip: clip[0].window_frames is not None))
def test_no_more_than_a_window_is_kept(clip: tuple[ClipSpec, list[int]]) -> None:
    spec, chunks = clip
    _, _, most = pushed(spec, chunks)
    assert spec.window_frames is not None
    assert most <= spec.window_frames


def test_memory_does_not_grow_with_the_clip() -> None:
    assert pushed(sliding(16, 8), [8] * 1000)[2] <= 16


def test_a_frame_model_keeps_no_more_features() -> None:
    features = np.zeros((8000, 2), np.float32)
    head = Head(
        session(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))), document("frame", 2, sliding(16, 8))
    )
    assert feed(head, features, [8] * 1000)[1] <= 16


def test_many_windows_at_once_are_scored_in_bounded_batches() -> None:
    scorer, head, _ = pushed(sliding(4, 1), [1000])
    assert len(scorer.finish().windows) == 997
    assert head.largest_batch == 32


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@settings(deadline=None, max_examples=100)
@given(clip=clips(), seed=st.integers(0, 2**32 - 1))
def test_a_frame_model_in_chunks_is_the_whole_clip(
    bidirectional: bool, clip: tuple[ClipSpec, list[int]], seed: int
) -> None:
    spec, chunks = clip
    head = lstm_head("frame", bidirectional=bidirectional, spec=spec)
    features = lstm_features(sum(chunks), seed)
    found = feed(head, features, chunks)[0].finish()

    windows = cover(len(features), spec)
    said: list[list[NDArray[np.float64]]] = [[] for _ in features]
    for window in windows:
        for tick, row in enumerate(alone(head, features[window.start : window.stop]), window.start):
            said[tick].append(row)
    expected = np.array([np.mean(rows, axis=0) for rows in said])
    assert (found.num_ticks, found.windows) == (len(features), windows)
    assert found.scores.dtype == found.mean.dtype == np.float64
    np.testing.assert_allclose(found.scores, expected, atol=REORDERED)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=REORDERED)
    assert found.cells == [Window(tick, 1) for tick in range(len(features))]
    assert found.table.tolist() == found.scores.tolist()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@settings(deadline=None, max_examples=100)
@given(clip=clips(), seed=st.integers(0, 2**32 - 1))
def test_a_clip_model_in_chunks_is_the_whole_clip(
    bidirectional: bool, clip: tuple[ClipSpec, list[int]], seed: int
) -> None:
    spec, chunks = clip
    head = lstm_head("clip", bidirectional=bidirectional, spec=spec)
    features = lstm_features(sum(chunks), seed)
    found = feed(head, features, chunks)[0].finish()

    windows = cover(len(features), spec)
    expected = np.array([alone(head, features[window.start : window.stop]) for window in windows])
    assert (found.num_ticks, found.windows) == (len(features), windows)
    assert found.scores.dtype == found.mean.dtype == np.float64
    np.testing.assert_allclose(found.scores, expected, atol=REORDERED)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=REORDERED)
    stride = len(features) if len(windows) == 1 else spec.stride_frames
    assert stride is not None
    cells, table = timeline(len(features), windows, expected, stride)
    assert found.cells == cells
    np.testing.assert_allclose(found.table, table, atol=REORDERED)


def test_ticks_of_overlapping_windows_are_averaged() -> None:
    """A tick's score is its own number less that of its window's first tick: each window says something else."""
    node = helper.make_node
    nodes = [
        node("Gather", ["features", "zero"], ["first"], axis=1),
        node("Sub", ["features", "first"], ["outputs"]),
    ]
    constants: dict[str, NDArray[np.generic]] = {"zero": np.array([0], np.int64)}
    head = Head(session(graph(nodes, constants, 2, ["batch", "time", 2])), document("frame", 2, sliding(4, 2)))
    scorer = WindowScorer(head)
    scorer.push(np.repeat(np.arange(7, dtype=np.float32)[:, None], 2, axis=1))
    # Windows 0–3, 2–5 and, anchored at the end, 3–6.
    expected = [0, 1, (2 + 0) / 2, (3 + 1 + 0) / 3, (2 + 1) / 2, (3 + 2) / 2, 3]
    assert scorer.finish().scores.tolist() == [[score, score] for score in expected]


@pytest.mark.parametrize("task", TASKS)
def test_finishing_twice_says_the_same(task: Task) -> None:
    scorer, _ = feed(lstm_head(task, spec=sliding(4, 3)), np.ones((9, LSTM_FEATURES), np.float32), [9])
    first, second = scorer.finish(), scorer.finish()
    assert first.windows == second.windows
    assert first.scores.tolist() == second.scores.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_without_ticks_has_no_scores(task: Task) -> None:
    with pytest.raises(ValueError, match="a clip has at least 1"):
        WindowScorer(lstm_head(task)).finish()


@pytest.mark.parametrize("task", TASKS)
def test_a_finished_clip_takes_no_more(task: Task) -> None:
    scorer, _ = feed(lstm_head(task), lstm_features(3, 0), [3])
    scorer.finish()
    with pytest.raises(RuntimeError, match="it takes no more ticks"):
        scorer.push(lstm_features(1, 0))


@pytest.mark.parametrize("task", TASKS)
def test_a_request_s_window_takes_the_place_of_the_model_s(task: Task) -> None:
    features = lstm_features(41, 3)
    scorer = WindowScorer(lstm_head(task, spec=sliding(16, 8)), sliding(10, 5))
    scorer.push(features)
    found = scorer.finish()
    own, _ = feed(lstm_head(task, spec=sliding(10, 5)), features, [41])
    assert found.windows == cover(41, sliding(10, 5))
    assert found.table.tolist() == own.finish().table.tolist()


LENGTHS = (1, PIECE_TICKS - 1, PIECE_TICKS, PIECE_TICKS + 1, 2 * PIECE_TICKS, 1000)


@pytest.mark.parametrize("num_ticks", LENGTHS)
@pytest.mark.parametrize("task", TASKS)
def test_a_whole_clip_in_pieces_is_the_whole(task: Task, num_ticks: int) -> None:
    head, features = lstm_head(task), lstm_features(num_ticks, num_ticks)
    scorer, most = feed(head, features, [37] * (num_ticks // 37) + [num_ticks % 37])
    found = scorer.finish()
    assert most < PIECE_TICKS
    assert found.windows == [Window(0, num_ticks)]
    expected = alone(head, features)
    np.testing.assert_allclose(found.scores, expected if task == "frame" else expected[None], atol=REORDERED)


@pytest.mark.parametrize("num_ticks", LENGTHS)
def test_a_pooled_clip_in_pieces_is_the_whole(num_ticks: int) -> None:
    """The trained head keeps a sum and a count over all ticks; 1e-5 is the certificate's line for streaming."""
    head = the_head_that_ships(sliding(None, None))
    features = np.abs(np.random.default_rng(num_ticks).normal(0, 0.5, (num_ticks, 1280))).astype(np.float32)
    scorer = WindowScorer(head)
    scorer.push(features)
    np.testing.assert_allclose(scorer.finish().scores, head.scores([features]), atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_of_one_piece_is_one_run_to_the_bit(task: Task) -> None:
    head, features = lstm_head(task), lstm_features(PIECE_TICKS, 5)
    scorer, _ = feed(head, features, [100, 100, 56])
    np.testing.assert_array_equal(scorer.finish().scores, head.scores([features]).astype(np.float64))


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(1, 700), max_size=12), num_ticks=st.integers(1, 700), task=st.sampled_from(TASKS))
def test_pieces_do_not_depend_on_how_the_ticks_arrive(cuts: list[int], num_ticks: int, task: Task) -> None:
    head, features = lstm_head(task), lstm_features(num_ticks, 11)
    edges = sorted({0, num_ticks, *(cut for cut in cuts if cut < num_ticks)})
    chunks = [b - a for a, b in zip(edges, edges[1:], strict=False)]
    cut, whole = feed(head, features, chunks)[0].finish(), feed(head, features, [num_ticks])[0].finish()
    assert cut.table.tolist() == whole.table.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_a_head_that_must_know_the_end_takes_no_clip_beyond_its_bound(task: Task) -> None:
    scorer = WindowScorer(lstm_head(task, bidirectional=True))
    scorer.push(np.zeros((MAX_HEAD_TICKS, LSTM_FEATURES), np.float32))
    with pytest.raises(TooManyFrames, match=r"limit is 8192 \(2048 s\): shorten it .* or give a window") as caught:
        scorer.push(np.zeros((1, LSTM_FEATURES), np.float32))
    assert (caught.value.value, caught.value.limit) == (8193, 8192)
    every = WindowScorer(
        lstm_head(task, bidirectional=True), sliding(None, None).model_copy(update={"sample_fps": None})
    )
    with pytest.raises(TooManyFrames, match=r"at least 8193 frames of this one; the limit is 8192: shorten it"):
        every.push(np.zeros((MAX_HEAD_TICKS + 1, LSTM_FEATURES), np.float32))
    windowed = WindowScorer(lstm_head(task, bidirectional=True), sliding(16, 16))
    windowed.push(np.zeros((MAX_HEAD_TICKS + 1, LSTM_FEATURES), np.float32))
    assert windowed.finish().num_ticks == 8193


@pytest.mark.parametrize(
    ("spec", "limit_bytes"),
    # Twice the rows of a push and a window (5 kB each) with their copies in a batch; a film's features are 154 MB.
    [(sliding(16, 8), 12e6), (sliding(16, 1), 12e6), (sliding(256, 128), 16e6), (sliding(None, None), 8e6)],
    ids=["windows", "a window a tick", "long windows", "whole, by its state"],
)
def test_two_hours_take_no_more_memory_than_minutes(spec: ClipSpec, limit_bytes: float) -> None:
    """30 000 ticks of 1280 features through the trained head; what numpy holds, at its peak."""
    head, chunk = the_head_that_ships(spec), np.full((64, 1280), 0.5, np.float32)
    scorer = WindowScorer(head)
    tracemalloc.start()
    for at in range(0, 30_000, 64):
        scorer.push(chunk[: min(64, 30_000 - at)])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < limit_bytes
    assert scorer.finish().num_ticks == 30_000
