from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers import MAX_WINDOW_FRAMES, MAX_WINDOWS_PER_FRAME, Answer, AnswerOptions, answer, spec_with
from service.bundle import Abstention, ModelDocument
from service.engine.clip_scores import ClipScores
from service.errors import BadParameter
from service.results import LabelScore, Segment
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from service.video.windows import Window, cover, timeline
from tests.service.engine.graphs import SPEC, document

REPORT = DecodeReport(
    duration_seconds=9.5, stream_start_seconds=0.0, width=320, height=240, sample_aspect_ratio="1:1", codec="h264",
    decoder="opencv", rotation_degrees=0, mirrored=False, time_base="pts",
    frames_walked=225, frames_decoded=36, frames_used=36, frames_repeated=0, frames_dropped=0,
    frames_damaged=0, first_seconds=0.5, last_seconds=9.23, origin_seconds=0.5, ticks=36,
    ticks_end_seconds=9.48,
)  # fmt: skip
WINDOWED = SPEC.model_copy(update={"window_frames": 16, "stride_frames": 8})
THREE = document("clip", 3, WINDOWED)


def per_tick(rows: list[list[float]]) -> ClipScores:
    """A frame model's scores, one row a tick."""
    table = np.array(rows, np.float64)
    cells = [Window(tick, 1) for tick in range(len(rows))]
    return ClipScores([Window(0, len(rows))], table, cells, table)


def of_labels(labels: str, high: float = 0.8) -> ClipScores:
    """A tick each of a, b or c, of score `high`; the others share the rest."""
    rest = (1 - high) / 2
    return per_tick([[high if label == known else rest for known in "abc"] for label in labels])


def answered(scores: ClipScores, options: AnswerOptions | None = None, model: ModelDocument = THREE) -> Answer:
    return answer(model, scores, REPORT, options or AnswerOptions())


def said(found: Answer) -> list[tuple[str, float, float]]:
    return [(segment.label, segment.start_seconds, segment.end_seconds) for segment in found.segments]


def test_the_best_labels_over_the_clip_come_first_and_ties_by_label_order() -> None:
    scores = per_tick([[0.2, 0.5, 0.3], [0.4, 0.5, 0.3]])
    assert answered(scores).predictions == [
        LabelScore(label="label-1", score=0.5),
        LabelScore(label="label-0", score=0.3),
        LabelScore(label="label-2", score=0.3),
    ]
    assert [best.label for best in answered(scores, AnswerOptions(top_k=1)).predictions] == ["label-1"]


def test_below_its_threshold_a_clip_is_none_of_the_labels() -> None:
    """The score that counts is the one before rounding; all labels are told all the same."""
    shy = THREE.model_copy(update={"abstain": Abstention(threshold=0.5, kept=0.9, kept_accuracy=0.98, clips=40)})
    sure, unsure = per_tick([[0.5, 0.2, 0.3]]), per_tick([[0.4999999, 0.2000001, 0.3]])
    assert [answered(scores, model=shy).abstained for scores in (sure, unsure)] == [False, True]
    assert answered(unsure, model=shy).predictions == answered(unsure).predictions != []
    assert not answered(unsure).abstained, "a model without a threshold names the best"


def test_segments_end_where_the_next_begins_and_the_last_after_the_last_frame() -> None:
    """Four ticks a second from 0.5 s; the last frame is at 9.23 s and counts for a quarter of a second."""
    assert answered(of_labels("aabbb")).segments == [
        Segment(start_seconds=0.5, end_seconds=1.0, label="label-0", score=0.8),
        Segment(start_seconds=1.0, end_seconds=9.48, label="label-1", score=0.8),
    ]


def test_segments_below_the_least_score_are_left_out() -> None:
    scores = per_tick([[0.9, 0.1, 0.0], [0.1, 0.6, 0.3], [0.8, 0.2, 0.0]])
    kept = [("label-0", 0.5, 0.75), ("label-0", 1.0, 9.48)]
    assert said(answered(scores, AnswerOptions(min_score=0.7))) == kept
    assert len(said(answered(scores, AnswerOptions(min_score=0.6)))) == 3
    assert said(answered(scores, AnswerOptions(min_score=0.95))) == []
    assert len(answered(scores, AnswerOptions(min_score=0.95)).predictions) == 3


def test_scores_that_are_no_probabilities_are_kept_unless_a_least_is_asked_for() -> None:
    scores = per_tick([[-3.0, -9.0, -7.0], [-8.0, -1.0, -2.0]])
    assert [segment.score for segment in answered(scores).segments] == [-3.0, -1.0]
    assert [segment.score for segment in answered(scores, AnswerOptions(min_score=-2)).segments] == [-1.0]


def test_short_runs_are_merged_into_a_neighbour() -> None:
    found = answered(of_labels("aaaabaaaccccbb"), AnswerOptions(min_segment_seconds=0.75))
    assert said(found) == [("label-0", 0.5, 2.5), ("label-2", 2.5, 9.48)]
    assert found.segments[0].score == pytest.approx((7 * 0.8 + 0.1) / 8)  # the mean of its label over all its ticks


@pytest.mark.parametrize(("sample_fps", "seconds", "ticks"), [(10, 0.7, 7), (29.97, 1.001001001, 30), (3, 1 / 3, 1)])
def test_a_segment_of_just_the_least_length_stays(sample_fps: float, seconds: float, ticks: int) -> None:
    """0.7 · 10 is above 7 in binary."""
    model = document("frame", 3, SPEC.model_copy(update={"sample_fps": sample_fps}))
    scores = of_labels("a" * 40 + "b" * ticks + "a" * 40)
    assert len(answered(scores, AnswerOptions(min_segment_seconds=seconds), model).segments) == 3
    assert len(answered(scores, AnswerOptions(min_segment_seconds=seconds + 0.01), model).segments) == 1


# A frame model that sees every frame; the last one is gone at 9.48 s.
EVERY = document("frame", 3, SPEC.model_copy(update={"sample_fps": None}))
STARTS = (0.5, 0.533367, 0.566733, 3.1, 3.1001, 4.0, 9.4)


def answered_at(
    scores: ClipScores, starts: tuple[float, ...], options: AnswerOptions | None = None, model: ModelDocument = EVERY
) -> Answer:
    return answer(model, scores, REPORT, options or AnswerOptions(), np.array(starts))


def test_segments_of_frames_are_at_the_frames_own_times() -> None:
    found = said(answered_at(of_labels("aabbbca"), STARTS))
    assert found == [
        ("label-0", 0.5, 0.566733), ("label-1", 0.566733, 4.0), ("label-2", 4.0, 9.4), ("label-0", 9.4, 9.48),
    ]  # fmt: skip


def test_cells_of_a_clip_model_are_so_many_frames() -> None:
    spec = SPEC.model_copy(update={"sample_fps": None, "window_frames": 3, "stride_frames": 2})
    windows = cover(7, spec)
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    clip = ClipScores(windows, scores, *timeline(7, windows, scores, 2))
    found = said(answered_at(clip, STARTS, model=document("clip", 3, spec)))
    assert found == [("label-0", 0.5, 0.566733), ("label-1", 0.566733, 3.1001), ("label-2", 3.1001, 9.48)]


def test_how_long_a_run_of_frames_is_tells_its_time_and_not_their_number() -> None:
    """One frame that is shown for seconds is longer than three that are gone in a tenth."""
    starts = (0.0, 3.0, 3.04, 3.08, 3.12)
    found = said(answered_at(of_labels("abbba"), starts, AnswerOptions(min_segment_seconds=0.5)))
    assert found == [("label-0", 0.0, 9.48)]
    found = said(answered_at(of_labels("baaac"), starts, AnswerOptions(min_segment_seconds=0.5)))
    assert [(start, end) for _, start, end in found] == [(0.0, 3.12), (3.12, 9.48)]
    assert len(said(answered_at(of_labels("abbba"), starts, AnswerOptions(min_segment_seconds=0.12)))) == 3
    assert len(said(answered_at(of_labels("abbba"), starts, AnswerOptions(min_segment_seconds=0.1201)))) == 1


@pytest.mark.parametrize("fps", [30000 / 1001, 25.0, 240.0, 1000.0])
def test_of_frames_too_a_segment_of_just_the_least_length_stays(fps: float) -> None:
    """Wherever it lies: times are told in microseconds."""
    for at in range(4, 60):
        starts = tuple(index / fps for index in range(70))
        scores = of_labels("a" * at + "b" * 3 + "a" * (67 - at))
        assert len(answered_at(scores, starts, AnswerOptions(min_segment_seconds=round(3 / fps, 6))).segments) == 3
        assert len(answered_at(scores, starts, AnswerOptions(min_segment_seconds=3 / fps + 5e-6)).segments) == 1


@pytest.mark.parametrize("seconds", [1e3, 1.7976931348623157e308])
def test_of_frames_too_a_least_length_beyond_the_clip_leaves_one_segment(seconds: float) -> None:
    options = AnswerOptions(min_segment_seconds=seconds)
    assert len(answered_at(of_labels("aabbbca"), STARTS, options).segments) == 1


@pytest.mark.parametrize("seconds", [1e3, 1.7976931348623157e308])
def test_a_least_length_beyond_the_clip_leaves_one_segment(seconds: float) -> None:
    """The largest float has no product with a rate."""
    assert len(answered(of_labels("aaaabbbbcccc"), AnswerOptions(min_segment_seconds=seconds)).segments) == 1


def test_smoothing_takes_out_what_flickers_and_leaves_the_clip_s_own_scores() -> None:
    scores = of_labels("aaabaaacccc")
    options = AnswerOptions(smoothing_cells=3)
    assert said(answered(scores, options)) == [("label-0", 0.5, 2.25), ("label-2", 2.25, 9.48)]
    assert answered(scores, options).predictions == answered(scores).predictions


@st.composite
def timelines(draw: st.DrawFn) -> tuple[ClipScores, AnswerOptions]:
    """A clip model's timeline, and options of any kind."""
    num_ticks, window = draw(st.integers(1, 120)), draw(st.integers(1, 24))
    spec = SPEC.model_copy(update={"window_frames": window, "stride_frames": draw(st.integers(1, window))})
    windows, random = cover(num_ticks, spec), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.integers(0, 4, (len(windows), 3)).astype(np.float64)
    stride = spec.stride_frames if len(windows) > 1 else num_ticks
    assert stride is not None
    options = AnswerOptions(
        min_score=draw(st.none() | st.floats(0, 3)),
        min_segment_seconds=draw(st.floats(0, 10)),
        smoothing_cells=2 * draw(st.integers(0, 10)) + 1,
    )
    return ClipScores(windows, scores, *timeline(num_ticks, windows, scores, stride)), options


@given(timelines())
def test_segments_stay_in_order_and_cover_the_clip_when_none_is_left_out(
    drawn: tuple[ClipScores, AnswerOptions],
) -> None:
    scores, options = drawn
    every = answered(scores, replace(options, min_score=None)).segments
    assert (every[0].start_seconds, every[-1].end_seconds) == (0.5, 9.48)
    for one, after in pairwise(every):
        assert one.end_seconds == after.start_seconds
        assert one.start_seconds < one.end_seconds or after is every[-1]
        assert one.label != after.label
    kept = answered(scores, options).segments
    wanted = -math.inf if options.min_score is None else options.min_score
    rounding = 1e-6  # of the answer's digits
    assert [segment for segment in every if segment.score >= wanted + rounding] == [
        segment for segment in kept if segment.score >= wanted + rounding
    ]
    assert all(segment in every and segment.score >= wanted - rounding for segment in kept)


OVERRIDES = [
    (WINDOWED, None, None, (16, 8)),
    (WINDOWED, 32, None, (32, 8)),
    (WINDOWED, 4, None, (4, 4)),  # the model's stride would leave gaps
    (WINDOWED, None, 16, (16, 16)),
    (WINDOWED, None, 1, (16, 1)),
    (WINDOWED, 20, 5, (20, 5)),
    (WINDOWED, 1024, None, (1024, 16)),  # the model's stride would read a frame 128 times
    (SPEC, None, None, (None, None)),
    (SPEC, 20, None, (20, 20)),
    (SPEC, 20, 3, (20, 3)),
    (SPEC.model_copy(update={"window_frames": 2000, "stride_frames": 10}), 2000, None, (2000, 10)),
]


@pytest.mark.parametrize(("spec", "window", "stride", "wanted"), OVERRIDES)
def test_a_request_s_window_and_stride(
    spec: ClipSpec, window: int | None, stride: int | None, wanted: tuple[int | None, int | None]
) -> None:
    found = spec_with(spec, AnswerOptions(window_frames=window, stride_frames=stride))
    assert (found.window_frames, found.stride_frames) == wanted
    assert found.pixels_sha256 == spec.pixels_sha256
    assert ClipSpec.model_validate(found.model_dump()) == found


REFUSED = [
    (SPEC, None, 4, "stride is 4, and the model sees a clip whole.* give a window too"),
    (WINDOWED, None, 17, "stride 17 is more than the window's 16 ticks.* give a stride of at most 16"),
    (WINDOWED, 8, 9, "stride 9 is more than the window's 8 ticks.* give a stride of at most 8"),
    (WINDOWED, 1025, None, "window is 1025 ticks, the limit is 1024; give a shorter one"),
    (WINDOWED, 256, 3, "a tick is read by 86 windows, the limit is 64; give a stride of at least 4"),
]


@pytest.mark.parametrize(("spec", "window", "stride", "words"), REFUSED)
def test_windows_that_are_refused(spec: ClipSpec, window: int | None, stride: int | None, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        spec_with(spec, AnswerOptions(window_frames=window, stride_frames=stride))


@given(
    own=st.none() | st.tuples(st.integers(1, 1500), st.integers(1, 1500)).filter(lambda pair: pair[1] <= pair[0]),
    window=st.integers(1, MAX_WINDOW_FRAMES),
)
def test_a_window_alone_is_never_refused(own: tuple[int, int] | None, window: int) -> None:
    spec = SPEC if own is None else SPEC.model_copy(update={"window_frames": own[0], "stride_frames": own[1]})
    found = spec_with(spec, AnswerOptions(window_frames=window))
    assert found.window_frames == window
    assert found.stride_frames is not None
    most = MAX_WINDOWS_PER_FRAME if own is None else max(MAX_WINDOWS_PER_FRAME, math.ceil(own[0] / own[1]))
    assert math.ceil(window / found.stride_frames) <= most


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 0}, "top_k is 0; the least is 1"),
        ({"window_frames": 0}, "window is 0; the least is 1"),
        ({"stride_frames": -1}, "stride is -1; the least is 1"),
        ({"smoothing_cells": 0}, "smoothing is 0; the least is 1"),
        ({"smoothing_cells": 4}, "smoothing is 4, and an even mean has no centre; give 5"),
        ({"min_score": math.nan}, "min_score is nan; give a number"),
        ({"min_segment_seconds": -0.5}, "min_segment_seconds is -0.5; give 0 or more seconds"),
        ({"min_segment_seconds": math.inf}, "min_segment_seconds is inf"),
        ({"min_segment_seconds": math.nan}, "min_segment_seconds is nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        AnswerOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("spec", "own"), [(WINDOWED, "windows of 16"), (SPEC, "whole clips")])
def test_another_window_than_the_model_s_is_told(spec: ClipSpec, own: str) -> None:
    model = document("clip", 3, spec)
    assert answered(of_labels("ab"), AnswerOptions(window_frames=32), model).warnings == [
        f"windows of 32 ticks, where the model was trained on {own}: how right it is on these is not known"
    ]
    for options in (AnswerOptions(), AnswerOptions(window_frames=spec.window_frames), AnswerOptions(stride_frames=2)):
        assert answered(of_labels("ab"), options, model).warnings == []
