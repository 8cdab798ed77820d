"""Which clips are worst, what is said of them, and that their frames are those that the network saw."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data.segments import Segment
from models.data.spans import Span
from models.report.mistakes import as_uri, seen_frames, worst_mistakes
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.models.footage import film
from tests.models.report.made import made

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64, window_frames=8, stride_frames=4)


def test_frames_are_those_of_the_decoder_at_their_ticks(tmp_path: Path) -> None:
    """Five pictures a second under eight ticks: some ticks share one."""
    clip = film(tmp_path / "a.mp4", 1, num_frames=10, fps=5.0)
    with DecodePool(num_credits=1) as pool, pool.open(clip, SPEC) as video:
        chunks = [(chunk.frames.copy(), chunk.ticks) for chunk in video.batches(4)]
    every = np.concatenate([np.repeat(frames, ticks, axis=0) for frames, ticks in chunks])
    (tmp_path / "b.mp4").write_text("not a video")
    wanted = np.array([0, 1, 7, len(every) - 1])
    found, why = seen_frames({clip: wanted, tmp_path / "b.mp4": wanted}, SPEC)
    assert [tick for tick, _ in found[clip]] == wanted.tolist()
    for tick, frame in found[clip]:
        np.testing.assert_array_equal(frame, every[tick])
    assert why.keys() == {tmp_path / "b.mp4"}
    assert why[tmp_path / "b.mp4"].startswith("not_a_video: ")
    assert str(tmp_path) not in why[tmp_path / "b.mp4"]


@pytest.mark.parametrize(("size", "shown"), [((320, 200), (160, 100)), ((64, 48), (64, 48)), ((1000, 1), (160, 1))])
def test_a_picture_is_a_small_jpeg(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = np.full((*size, 3), (200, 30, 60), np.uint8)
    head, _, data = as_uri(picture).partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (*shown, 3)
    np.testing.assert_allclose(decoded[0, 0], (60, 30, 200), atol=6)


def test_the_surest_mistake_is_the_worst_and_right_clips_are_none() -> None:
    scores = [[0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.2, 0.8]]
    tested = made("label", ("a", "b"), ("a", "a", "a", "b"), scores)
    worst = worst_mistakes(tested)
    assert [each.name for each in worst] == ["2.mp4", "1.mp4"]
    assert worst[0].facts == [("label", "a (10.0%)"), ("predicted", "b (90.0%)")]
    assert worst[0].frames == []
    assert worst[0].no_frames == "the file is gone"
    assert [each.name for each in worst_mistakes(tested, most=1)] == ["2.mp4"]


def test_several_labels_and_numbers() -> None:
    several = made("labels", ("a", "b"), ("a", "a|b"), [[0.9, 0.2], [0.1, 0.3]])
    [missed] = worst_mistakes(several)
    assert missed.facts == [("labels", "a (10.0%), b (30.0%)"), ("predicted", "none")]
    numbers = made("value", ("speed",), ("1", "2"), [[1.5], [5]])
    assert [each.facts for each in worst_mistakes(numbers)] == [
        [("speed", "2, predicted 5")], [("speed", "1, predicted 1.5")],
    ]  # fmt: skip


def test_ticks_are_shown_as_two_timelines() -> None:
    scores = np.eye(2)[[0, 1, 1, 1, 0, 0, 1, 0]]
    tested = made("tick_label", ("none", "a"), ("",), scores, segments=[[Segment(0.5, 1.0, "a")]])
    [mistake] = worst_mistakes(tested)
    assert mistake.facts == [("wrong", "2 of 8 ticks")]
    assert mistake.tracks["true"] == [Span(0, 2, "none"), Span(2, 4, "a"), Span(4, 8, "none")]
    assert [span.label for span in mistake.tracks["predicted"]] == ["none", "a", "none", "a", "none"]
    [smoothed] = worst_mistakes(tested, shortest_seconds=0.5)
    assert smoothed.tracks["predicted"] == [Span(0, 4, "a"), Span(4, 8, "none")]
