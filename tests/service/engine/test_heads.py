from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.bundle import ModelDocument, StateTensor, Task
from service.engine.heads import Array, Head, WindowScorer, sigmoid, softmax
from service.engine.sessions import open_session
from service.errors import BundleError
from service.registry import newest_versions
from service.video.spec import ClipSpec
from service.video.windows import Window, cover, timeline
from tests.conftest import MODEL, ZOO
from tests.service.engine.graphs import (
    LSTM_FEATURES,
    LSTM_HIDDEN,
    LSTM_LABELS,
    LSTM_STATE,
    SPEC,
    Counting,
    document,
    graph,
    linear,
    lstm,
    session,
    what_it_saw,
)

SAW = session(what_it_saw())
TASKS: tuple[Task, ...] = ("clip", "frame")


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
        most = max(most, len(scorer._rows))
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


@cache
def lstm_head(task: Task, bidirectional: bool) -> Head:
    """One session for all examples."""
    state = () if bidirectional else LSTM_STATE
    return Head(
        session(lstm(task, bidirectional=bidirectional)), document(task, LSTM_LABELS, score="softmax", state=state)
    )


def alone(head: Head, window: Array) -> NDArray[np.float64]:
    """(K,) or (T, K): softmax, in float64, of what the graph says of one window without padding."""
    feeds = {"features": window[None], "lengths": np.array([len(window)])}
    feeds |= {state.name: np.zeros((1, state.size), np.float32) for state in head.model.state}
    [outputs] = head._session.run(["outputs"], feeds)
    powers = np.exp(outputs[0].astype(np.float64))
    scores: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return scores


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@settings(deadline=None, max_examples=100)
@given(clip=clips(), seed=st.integers(0, 2**32 - 1))
def test_a_frame_model_in_chunks_is_the_whole_clip(
    bidirectional: bool, clip: tuple[ClipSpec, list[int]], seed: int
) -> None:
    spec, chunks = clip
    shared = lstm_head("frame", bidirectional)
    head = Head(shared._session, shared.model.model_copy(update={"spec": spec}))
    features = np.random.default_rng(seed).normal(size=(sum(chunks), LSTM_FEATURES)).astype(np.float32)
    found = feed(head, features, chunks)[0].finish()

    windows = cover(len(features), spec)
    said: list[list[NDArray[np.float64]]] = [[] for _ in features]
    for window in windows:
        for tick, row in enumerate(alone(head, features[window.start : window.stop]), window.start):
            said[tick].append(row)
    expected = np.array([np.mean(rows, axis=0) for rows in said])
    assert (found.num_ticks, found.windows) == (len(features), windows)
    assert found.scores.dtype == found.mean.dtype == np.float64
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)  # float32 sums in another order in a larger batch
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=1e-6)
    assert found.cells == [Window(tick, 1) for tick in range(len(features))]
    assert found.table.tolist() == found.scores.tolist()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@settings(deadline=None, max_examples=100)
@given(clip=clips(), seed=st.integers(0, 2**32 - 1))
def test_a_clip_model_in_chunks_is_the_whole_clip(
    bidirectional: bool, clip: tuple[ClipSpec, list[int]], seed: int
) -> None:
    spec, chunks = clip
    shared = lstm_head("clip", bidirectional)
    head = Head(shared._session, shared.model.model_copy(update={"spec": spec}))
    features = np.random.default_rng(seed).normal(size=(sum(chunks), LSTM_FEATURES)).astype(np.float32)
    found = feed(head, features, chunks)[0].finish()

    windows = cover(len(features), spec)
    expected = np.array([alone(head, features[window.start : window.stop]) for window in windows])
    assert (found.num_ticks, found.windows) == (len(features), windows)
    assert found.scores.dtype == found.mean.dtype == np.float64
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=1e-6)
    stride = len(features) if len(windows) == 1 else spec.stride_frames
    assert stride is not None
    cells, table = timeline(len(features), windows, expected, stride)
    assert found.cells == cells
    np.testing.assert_allclose(found.table, table, atol=1e-6)


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
    shared = lstm_head(task, False)
    head = Head(shared._session, shared.model.model_copy(update={"spec": sliding(4, 3)}))
    scorer, _ = feed(head, np.ones((9, LSTM_FEATURES), np.float32), [9])
    first, second = scorer.finish(), scorer.finish()
    assert first.windows == second.windows
    assert first.scores.tolist() == second.scores.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_a_clip_without_ticks_has_no_scores(task: Task) -> None:
    with pytest.raises(ValueError, match="a clip has at least 1"):
        WindowScorer(lstm_head(task, False)).finish()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("score", ["softmax", "sigmoid", "none"])
def test_rows_past_a_length_are_never_used(poison: float, score: str) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model = document("frame", 3, score=score)
    clean = Head(session(linear(weight, np.zeros(3, np.float32))), model)
    head = Head(session(linear(weight, np.zeros(3, np.float32), poison=poison)), model)
    windows = [np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32) for n in (4, 1, 9, 9, 2)]
    scores = head.scores(windows)
    assert scores.shape == (4 + 1 + 9 + 9 + 2, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.concatenate([clean.scores([window]) for window in windows]), atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
def test_padding_changes_no_tick(bidirectional: bool) -> None:
    head = lstm_head("frame", bidirectional)
    windows = [np.random.default_rng(n).normal(size=(n, LSTM_FEATURES)).astype(np.float32) for n in (16, 1, 7, 16, 3)]
    together = head.scores(windows)
    np.testing.assert_allclose(together, np.concatenate([alone(head, window) for window in windows]), atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)


IDENTITY = [helper.make_node("Identity", ["features"], ["outputs"])]
MEAN = [helper.make_node("ReduceMean", ["features", "one"], ["outputs"], keepdims=0)]
ONE: dict[str, NDArray[np.generic]] = {"one": np.array([1], np.int64)}
HIDDEN = StateTensor(name="hidden", size=LSTM_HIDDEN)
FORGETFUL = [helper.make_node("Identity", ["hidden"], ["hidden_out"])]


@pytest.mark.parametrize(
    ("blob", "model", "words"),
    [
        (
            graph(IDENTITY, {}, 3, ["batch", "time", 3]), document("clip", 3),
            r"output 'outputs' of head.onnx is float \(batch, time, 3\); model.json \(task clip, 3 labels\) "
            r"needs float \(any, 3\)",
        ),
        (
            graph(MEAN, ONE, 3, ["batch", 3]), document("frame", 3),
            r"output 'outputs' of head.onnx is float \(batch, 3\); model.json \(task frame, 3 labels\) "
            r"needs float \(any, any, 3\)",
        ),
        (graph(IDENTITY, {}, 3, ["batch", "time", 3]), document("frame", 4), r"\(task frame, 4 labels\) needs"),
        (graph(MEAN, ONE, 3, ["batch", 3]), document("clip", 2), r"\(task clip, 2 labels\) needs"),
        (
            graph(IDENTITY, {}, 3, ["batch", "time", 3], lengths="sizes"), document("frame", 3),
            "no input 'lengths', only 'features', 'sizes'",
        ),
        (
            graph(IDENTITY, {}, 3, ["batch", "time", 3], lengths_type=TensorProto.INT32), document("frame", 3),
            r"input 'lengths' of head.onnx is int32 \(batch\); .* needs int64 \(any\)",
        ),
        (
            graph(IDENTITY, {}, 3, ["batch", "time", 3]), document("frame", 3, state=(HIDDEN,)),
            "no input 'hidden', only 'features', 'lengths'",
        ),
        (
            graph(IDENTITY + FORGETFUL, {}, 3, ["batch", "time", 3], [HIDDEN]), document("frame", 3),
            "an input 'hidden' that model.json does not name",
        ),
        (
            graph(IDENTITY + FORGETFUL, {}, 3, ["batch", "time", 3], [HIDDEN]),
            document("frame", 3, state=({"name": "hidden", "size": 9},)),
            r"input 'hidden' of head.onnx is float \(batch, 4\); .* needs float \(any, 9\)",
        ),
    ],
    ids=[
        "ticks for a clip", "a clip for ticks", "fewer labels", "more labels", "no lengths", "lengths of another type",
        "no state", "unknown state", "state of another size",
    ],
)  # fmt: skip
def test_a_graph_that_is_not_the_document_s_is_refused(blob: bytes, model: ModelDocument, words: str) -> None:
    with pytest.raises(BundleError, match=words + ".*; export the bundle again"):
        Head(session(blob), model)


FROZEN: dict[str, NDArray[np.generic]] = {"start": np.array([0], np.int64), "stop": np.array([1], np.int64)}
ONLY_THE_FIRST = helper.make_node("Slice", ["features", "start", "stop"], ["first"])


@pytest.mark.parametrize(
    ("blob", "task", "words"),
    [
        (
            graph(
                [ONLY_THE_FIRST, helper.make_node("ReduceMean", ["first", "one"], ["outputs"], keepdims=0)],
                FROZEN | ONE, 3, ["one", 3],
            ),
            "clip",
            r"outputs \(1, 3\) for features \(2, 4, 3\), not \(2, 3\)",
        ),
        (
            graph(
                [ONLY_THE_FIRST, helper.make_node("Identity", ["first"], ["outputs"])], FROZEN, 3, ["one", "time", 3]
            ),
            "frame",
            r"outputs \(1, 4, 3\) for features \(2, 4, 3\), not \(2, 4, 3\)",
        ),
    ],
    ids=TASKS,
)  # fmt: skip
def test_a_graph_frozen_to_one_clip_gives_no_scores_of_two(blob: bytes, task: Task, words: str) -> None:
    """Its names, ranks and last axis are right."""
    head = Head(session(blob), document(task, 3))
    head.scores([np.zeros((4, 3), np.float32)])
    with pytest.raises(BundleError, match=words):
        head.scores([np.zeros((4, 3), np.float32)] * 2)


@pytest.fixture(scope="module")
def head() -> Head:
    """The trained head that ships."""
    [folder] = [folder for folder in newest_versions(ZOO) if folder.parent.name == MODEL]
    model = ModelDocument.model_validate_json(Path(folder / "model.json").read_bytes())
    return Head(open_session(folder / "head.onnx", "onnxruntime-cpu"), model)


def features(head: Head, num_ticks: int, seed: int) -> Array:
    size = next(node.shape[2] for node in head._session.get_inputs() if node.name == "features")
    return np.random.default_rng(seed).normal(size=(num_ticks, size)).astype(np.float32)


def test_padding_changes_no_score(head: Head) -> None:
    windows = [features(head, length, length) for length in (16, 1, 7, 16, 3)]
    together = head.scores(windows)
    assert together.shape == (5, len(head.model.labels))
    assert together.dtype == np.float32
    # A larger batch sums in another order: float32 leaves some 1e-7 of a score of at most 1.
    np.testing.assert_allclose(together, np.concatenate([head.scores([window]) for window in windows]), atol=1e-6)


def test_a_window_starts_from_the_zero_state(head: Head) -> None:
    window = features(head, 16, 0)
    first = head.scores([window])
    head.scores([features(head, 16, 1)])
    np.testing.assert_array_equal(head.scores([window]), first)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_activations_agree_with_float64(scale: float) -> None:
    logits = (np.random.default_rng(0).normal(size=(200, 12)) * scale).astype(np.float32)
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-wide))
    for found, right in ((softmax(logits), powers / powers.sum(axis=1, keepdims=True)), (sigmoid(logits), expected)):
        assert found.dtype == np.float32
        # Some units in the last place of a score of at most 1.
        np.testing.assert_allclose(found, right, atol=5e-7)
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("activation", [softmax, sigmoid])
def test_activations_go_over_the_last_axis(activation: Callable[[Array], Array]) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    for together, row in zip(activation(logits).reshape(20, 3), logits.reshape(20, 3), strict=True):
        np.testing.assert_array_equal(together, activation(row))


def test_activations_of_the_largest_logits() -> None:
    largest = np.finfo(np.float32).max
    logits = np.array([[largest, 0, -largest]], np.float32)
    with np.errstate(over="ignore"):  # -max - max: the difference itself, not the score, overflows
        assert softmax(logits).tolist() == [[1, 0, 0]]
    assert sigmoid(logits).tolist() == [[1, 0.5, 0]]
