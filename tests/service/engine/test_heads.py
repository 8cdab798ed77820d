from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.bundle import ModelDocument, StateTensor, Task
from service.engine.heads import Array, Head, sigmoid, softmax, state_size
from service.errors import BundleError
from tests.service.engine.graphs import (
    LSTM_FEATURES,
    LSTM_HIDDEN,
    LSTM_LABELS,
    LSTM_STATE,
    OUTPUT_AXES,
    REORDERED,
    TASKS,
    alone,
    document,
    graph,
    linear,
    lstm_features,
    lstm_head,
    session,
    the_head_that_ships,
)


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
    np.testing.assert_allclose(scores, np.concatenate([clean.scores([window]) for window in windows]), atol=REORDERED)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
def test_padding_changes_no_tick(bidirectional: bool) -> None:
    head = lstm_head("frame", bidirectional=bidirectional)
    windows = [lstm_features(n, n) for n in (16, 1, 7, 16, 3)]
    together = head.scores(windows)
    np.testing.assert_allclose(together, np.concatenate([alone(head, window) for window in windows]), atol=REORDERED)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=REORDERED)


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
    return the_head_that_ships()


def features(head: Head, num_ticks: int, seed: int) -> Array:
    size = next(node.shape[2] for node in head._session.get_inputs() if node.name == "features")
    return np.random.default_rng(seed).normal(size=(num_ticks, size)).astype(np.float32)


def test_padding_changes_no_score(head: Head) -> None:
    windows = [features(head, length, length) for length in (16, 1, 7, 16, 3)]
    together = head.scores(windows)
    assert together.shape == (5, len(head.model.labels))
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, np.concatenate([head.scores([window]) for window in windows]), atol=REORDERED)


def test_a_window_starts_from_the_zero_state(head: Head) -> None:
    window = features(head, 16, 0)
    first = head.scores([window])
    head.scores([features(head, 16, 1)])
    np.testing.assert_array_equal(head.scores([window]), first)


@pytest.mark.parametrize("task", TASKS)
def test_a_state_that_is_carried_makes_pieces_a_whole(task: Task) -> None:
    """Two clips in one call, of unequal pieces: each goes on from its own state."""
    head = lstm_head(task)
    clips = [lstm_features(29, 1), lstm_features(17, 2)]
    states = np.zeros((2, state_size(head.model)), np.float32)
    first, between = head.step([clips[0][:20], clips[1][:3]], states)
    second, after = head.step([clips[0][20:], clips[1][3:]], between)
    assert between.shape == after.shape == (2, 2 * LSTM_HIDDEN)
    assert not states.any()
    if task == "clip":
        found = list(second)
    else:
        found = [np.concatenate([first[:20], second[:9]]), np.concatenate([first[20:], second[9:]])]
    for scores, clip in zip(found, clips, strict=True):
        np.testing.assert_allclose(scores, alone(head, clip), atol=REORDERED)


def test_a_step_from_zero_scores_as_a_window(head: Head) -> None:
    windows = [features(head, length, length) for length in (16, 5)]
    scores, after = head.step(windows, np.zeros((2, state_size(head.model)), np.float32))
    np.testing.assert_array_equal(scores, head.scores(windows))
    assert after[:, -1].tolist() == [16, 5]  # pooled_count


@pytest.mark.parametrize("task", TASKS)
def test_a_state_frozen_to_one_clip_is_found_by_the_warm_up(task: Task) -> None:
    """Outputs are right; hidden_out has one row, whatever the batch."""
    outputs = (
        [helper.make_node("Identity", ["features"], ["outputs"])]
        if task == "frame"
        else [helper.make_node("ReduceMean", ["features", "one"], ["outputs"], keepdims=0)]
    )
    frozen = helper.make_node("Slice", ["hidden", "start", "stop"], ["hidden_out"])
    constants = FROZEN | (ONE if task == "clip" else {})
    blob = graph([*outputs, frozen], constants, 3, [*OUTPUT_AXES[task], 3], [HIDDEN])
    head = Head(session(blob), document(task, 3, state=(HIDDEN,)))
    with pytest.raises(BundleError, match=r"hidden_out \(1, 4\) for features \(2, 2, 3\), not \(2, 4\); export the"):
        head.warm_up(3)


def test_the_warm_up_takes_what_is_right(head: Head) -> None:
    head.warm_up(1280)
    lstm_head("frame").warm_up(LSTM_FEATURES)
    lstm_head("frame", bidirectional=True).warm_up(LSTM_FEATURES)


def test_the_widths_of_a_state() -> None:
    assert state_size(document("clip", LSTM_LABELS, state=LSTM_STATE)) == 2 * LSTM_HIDDEN
    assert state_size(document("clip", LSTM_LABELS)) == 0


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
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1, atol=REORDERED)


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
