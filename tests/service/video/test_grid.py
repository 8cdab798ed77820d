from __future__ import annotations

import doctest
import math
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.video import grid as grid_module
from service.video.grid import TOLERANCE_SECONDS, SamplingGrid
from tests.drawn import serving_frames

SAMPLE_FPS = st.sampled_from([1.0, 2.0, 4.0, 5.0, 8.0, 12.5, 24.0, 25.0, 29.97, 30.0, 60.0, 240.0])
STARTS = st.sampled_from([0.0, 0.1, 0.25, 1.0, 2.5])
ENDS = st.sampled_from([0.3, 1.0, 2.5, 7.0, math.inf])


@st.composite
def timestamps(draw: st.DrawFn) -> list[float]:
    """Rising presentation timestamps, whole microseconds, that may start late and stall for up to 1 s."""
    first = draw(st.integers(0, 3_000_000))
    gaps = draw(st.lists(st.integers(100, 50_000) | st.integers(100, 1_000_000), max_size=40))
    return [microseconds / 1e6 for microseconds in accumulate(gaps, initial=first)]


def taken(grid: SamplingGrid, times: list[float]) -> list[int]:
    return [grid.take(t) for t in times]


def spread(counts: list[int]) -> list[int]:
    """The index of the frame that serves each tick, from the number of ticks that each frame serves."""
    return [index for index, count in enumerate(counts) for _ in range(count)]


def assume_no_tie(grid: SamplingGrid, times: list[float]) -> None:
    """A frame exactly 1 ms early falls on either side by the last bit of a float; no rule depends on it."""
    ticks = [grid.tick_seconds(k) for k in range(grid.num_ticks + 1)] if grid.origin_seconds is not None else []
    assume(all(abs(t + TOLERANCE_SECONDS - tick) > 1e-9 for t in times for tick in ticks))


def test_docstring() -> None:
    assert doctest.testmod(grid_module).failed == 0


@given(timestamps(), SAMPLE_FPS, STARTS, ENDS)
def test_every_tick_is_served_once_by_the_first_frame_in_time(
    times: list[float], sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    counts = taken(grid, times)
    assume_no_tie(grid, times)
    assert spread(counts) == serving_frames(times, sample_fps, start, end)


@given(timestamps(), SAMPLE_FPS, STARTS, ENDS)
def test_no_frame_before_the_serving_one_would_do(
    times: list[float], sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    serving = spread(taken(grid, times))
    for tick, index in enumerate(serving):
        due = grid.tick_seconds(tick) - TOLERANCE_SECONDS
        assert times[index] >= due - 1e-9
        assert index == 0 or times[index - 1] < due + 1e-9


@given(timestamps(), SAMPLE_FPS, STARTS, ENDS)
def test_ticks_rise_and_lie_in_the_cut(times: list[float], sample_fps: float, start: float, end: float) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    total = 0
    for t in times:
        promised = grid.due(t)
        assert grid.due(t) == promised, "due() must take nothing"
        assert grid.take(t) == promised
        assert grid.num_ticks == total + promised
        total = grid.num_ticks
    ticks = [grid.tick_seconds(k) for k in range(total)]
    assert all(start <= tick < end for tick in ticks)
    assert all(a < b for a, b in pairwise(ticks))


@given(timestamps(), SAMPLE_FPS, ENDS, ENDS)
def test_a_later_end_gives_no_fewer_ticks(times: list[float], sample_fps: float, one: float, other: float) -> None:
    early, late = (SamplingGrid(sample_fps, end_seconds=end) for end in sorted((one, other)))
    before, after = spread(taken(early, times)), spread(taken(late, times))
    assert after[: len(before)] == before


@given(timestamps(), SAMPLE_FPS, st.integers(2, 5))
def test_a_denser_grid_contains_the_sparse_one(times: list[float], sample_fps: float, factor: int) -> None:
    sparse, dense = SamplingGrid(sample_fps), SamplingGrid(sample_fps * factor)
    few, many = spread(taken(sparse, times)), spread(taken(dense, times))
    assume_no_tie(dense, times)
    assert many[::factor] == few


@given(timestamps(), SAMPLE_FPS, STARTS, ENDS)
def test_nothing_is_due_once_ended(times: list[float], sample_fps: float, start: float, end: float) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    for t in times:
        ended, count = grid.ended(t), grid.take(t)
        assert not (ended and count)
        assert ended == (t >= end - TOLERANCE_SECONDS)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, math.inf, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        (0.4, 1.0, [10, 15, 20]),
        (0.4, 1.04, [10, 15, 20, 25]),
        (0.41, 1.0, [11, 16, 21]),
        (1.9, math.inf, [48]),
        (2.0, math.inf, []),
        (1.0, 0.5, []),
        (0.0, 0.0, []),
    ],
)
def test_start_and_end_trim_exactly(start: float, end: float, expected: list[int]) -> None:
    assert spread(taken(SamplingGrid(5.0, start, end), [i / 25 for i in range(50)])) == expected


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_timestamps_in_whole_milliseconds_miss_no_tick(fps: Fraction) -> None:
    """Matroska rounds to 1 ms: a frame that is due must not be late for that."""
    rounded = [round(float(i / fps), 3) for i in range(600)]
    assert taken(SamplingGrid(float(fps)), rounded) == [1] * 600
    assert taken(SamplingGrid(float(fps / 3)), rounded) == [1, 0, 0] * 200


def test_a_slow_video_repeats_its_frames() -> None:
    assert taken(SamplingGrid(8.0), [0.0, 0.5, 1.0, 1.5]) == [1, 4, 4, 4]


def test_an_hour_does_not_drift() -> None:
    """t_k comes from k, not from adding 1 / sample_fps k times."""
    grid = SamplingGrid(30.0)
    assert taken(grid, [i / 30 for i in range(108_000)]) == [1] * 108_000
    assert grid.tick_seconds(108_000) == 3600.0


def test_the_origin_is_the_first_timestamp_or_the_start() -> None:
    late, cut = SamplingGrid(4.0), SamplingGrid(4.0, start_seconds=2.0)
    late.take(1.5), cut.take(1.5)
    assert (late.tick_seconds(0), cut.tick_seconds(0)) == (1.5, 2.0)


def test_there_is_no_tick_before_the_first_timestamp() -> None:
    with pytest.raises(ValueError, match="no origin before the first timestamp"):
        SamplingGrid(4.0).tick_seconds(0)
