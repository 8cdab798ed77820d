from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle import ModelDocument
from service.engine.heads import Array, Head, WindowScorer, sigmoid, softmax
from service.engine.sessions import open_session
from service.registry import newest_versions
from service.video.spec import ClipSpec
from service.video.windows import cover
from tests.conftest import MODEL, ZOO

SPEC = ClipSpec(sample_fps=4, frame_height=32, frame_width=32)


@dataclass
class FirstLastLength:
    """A fake head whose scores tell exactly which rows it saw: the first, the last, how many."""

    spec: ClipSpec
    largest_batch: int = 0
    model: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.model = SimpleNamespace(spec=self.spec)

    def scores(self, windows: list[Array]) -> Array:
        self.largest_batch = max(self.largest_batch, len(windows))
        for window in windows:
            np.testing.assert_array_equal(np.diff(window[:, 0]), 1)
        return np.array([(window[0, 0], window[-1, 0], len(window)) for window in windows], np.float32)


@st.composite
def clips(draw: st.DrawFn) -> tuple[ClipSpec, list[int]]:
    """A spec, and a clip's chunks: how many ticks each has."""
    window = draw(st.none() | st.integers(1, 24))
    stride = None if window is None else draw(st.integers(1, window))
    chunks = draw(st.lists(st.integers(1, 20), min_size=1, max_size=20))
    return SPEC.model_copy(update={"window_frames": window, "stride_frames": stride}), chunks


def pushed(spec: ClipSpec, chunks: list[int]) -> tuple[WindowScorer, int]:
    """A scorer that was given the ticks 0, 1, 2, …, and the most rows that it kept between two chunks."""
    scorer = WindowScorer(cast(Head, FirstLastLength(spec)))
    ticks = np.arange(sum(chunks), dtype=np.float32)[:, None]
    most = at = 0
    for count in chunks:
        scorer.push(ticks[at : at + count])
        at += count
        assert scorer.num_ticks == at
        most = max(most, len(scorer._rows))
    return scorer, most


@settings(deadline=None, max_examples=300)
@given(clips())
def test_windows_as_they_come_are_those_of_the_whole_clip(clip: tuple[ClipSpec, list[int]]) -> None:
    spec, chunks = clip
    scorer, _ = pushed(spec, chunks)
    windows, scores = scorer.finish()
    assert windows == cover(sum(chunks), spec)
    assert scores.tolist() == [[window.start, window.stop - 1, window.length] for window in windows]


@settings(deadline=None, max_examples=200)
@given(clips().filter(lambda clip: clip[0].window_frames is not None))
def test_no_more_than_a_window_is_kept(clip: tuple[ClipSpec, list[int]]) -> None:
    spec, chunks = clip
    _, most = pushed(spec, chunks)
    assert spec.window_frames is not None
    assert most <= spec.window_frames


def test_memory_does_not_grow_with_the_clip() -> None:
    spec = SPEC.model_copy(update={"window_frames": 16, "stride_frames": 8})
    assert pushed(spec, [8] * 1000)[1] <= 16


def test_many_windows_at_once_are_scored_in_bounded_batches() -> None:
    spec = SPEC.model_copy(update={"window_frames": 4, "stride_frames": 1})
    scorer, _ = pushed(spec, [1000])
    windows, _ = scorer.finish()
    assert len(windows) == 997
    assert cast(FirstLastLength, scorer.head).largest_batch == 32


@pytest.fixture(scope="module")
def head() -> Head:
    """The trained head that ships."""
    [folder] = [folder for folder in newest_versions(ZOO) if folder.parent.name == MODEL]
    document = ModelDocument.model_validate_json(Path(folder / "model.json").read_bytes())
    return Head(open_session(folder / "head.onnx", "onnxruntime-cpu"), document)


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


def test_activations_of_the_largest_logits() -> None:
    largest = np.finfo(np.float32).max
    logits = np.array([[largest, 0, -largest]], np.float32)
    with np.errstate(over="ignore"):  # -max - max: the difference itself, not the score, overflows
        assert softmax(logits).tolist() == [[1, 0, 0]]
    assert sigmoid(logits).tolist() == [[1, 0.5, 0]]
