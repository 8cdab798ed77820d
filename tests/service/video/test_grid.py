from __future__ import annotations

import doctest
import math
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.video import grid as grid_module
from service.video.grid import TOLERANCE_SECONDS, Grid, SamplingGrid
from tests.drawn import serving_frames

SAMPLE_FPS = st.sampled_from([1.0, 2.0, 4.0, 5.0, 8.0, 12.5, 24.0, 25.0, 29.97, 30.0, 60.0, 240.0])
STARTS = st.sampled_from([0.0, 0.1, 0.25, 1.0, 2.5])
ENDS = st.sampled_from([0.3, 1.0, 2.5, 7.0, math.inf])
# How long the last frame is shown.
HOLDS = st.sampled_from([1 / 240, 0.04, 0.5, 3.0])


@st.composite
def timestamps(draw: st.DrawFn) -> list[float]:
    """Rising presentation timestamps, whole microseconds, that may start late and stall for up to 1 s."""
    first = draw(st.integers(0, 3_000_000))
    gaps = draw(st.lists(st.integers(100, 50_000) | st.integers(100, 1_000_000), max_size=40))
    return [microseconds / 1e6 for microseconds in accumulate(gaps, initial=first)]


def taken(grid: Grid, times: list[float], shown_until: float) -> list[int]:
    return [grid.take(since, until) for since, until in pairwise([*times, shown_until])]


def spread(counts: list[int]) -> list[int]:
    """The index of the frame that serves each tick, from the number of ticks that each frame serves."""
    return [index for index, count in enumerate(counts) for _ in range(count)]


def assume_no_tie(grid: SamplingGrid, times: list[float]) -> None:
    """A frame exactly 1 ms late falls on either side by the last bit of a float; no rule depends on it."""
    ticks = [grid.tick_seconds(k) for k in range(grid.num_ticks + 1)] if grid.origin_seconds is not None else []
    assume(all(abs(t - TOLERANCE_SECONDS - tick) > 1e-9 for t in times for tick in ticks))


def test_docstring() -> None:
    assert doctest.testmod(grid_module).failed == 0


@given(timestamps(), HOLDS, SAMPLE_FPS, STARTS, ENDS)
def test_every_tick_is_served_once_by_the_frame_that_is_shown(
    times: list[float], hold: float, sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    shown_until = times[-1] + hold
    counts = taken(grid, times, shown_until)
    assume_no_tie(grid, [*times, shown_until, end])
    assert spread(counts) == serving_frames(times, sample_fps, start, end, shown_until=shown_until)


@given(timestamps(), HOLDS, SAMPLE_FPS, STARTS, ENDS)
def test_the_serving_frame_has_come_and_the_next_has_not(
    times: list[float], hold: float, sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    ends = [*times[1:], times[-1] + hold]
    for tick, index in enumerate(spread(taken(grid, times, ends[-1]))):
        at = grid.tick_seconds(tick)
        assert times[index] <= at + TOLERANCE_SECONDS + 1e-9
        assert ends[index] > at + TOLERANCE_SECONDS - 1e-9


@given(timestamps(), HOLDS, SAMPLE_FPS, STARTS, ENDS)
def test_ticks_rise_and_lie_in_the_cut(
    times: list[float], hold: float, sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    total = 0
    for since, until in pairwise([*times, times[-1] + hold]):
        promised = grid.due(since, until)
        assert grid.due(since, until) == promised, "due() must take nothing"
        assert grid.take(since, until) == promised
        assert grid.num_ticks == total + promised
        total = grid.num_ticks
    ticks = [grid.tick_seconds(k) for k in range(total)]
    assert all(start <= tick < min(end, times[-1] + hold) for tick in ticks)
    assert all(a < b for a, b in pairwise(ticks))


@given(timestamps(), HOLDS, SAMPLE_FPS, ENDS, ENDS)
def test_a_later_end_gives_no_fewer_ticks(
    times: list[float], hold: float, sample_fps: float, one: float, other: float
) -> None:
    early, late = (SamplingGrid(sample_fps, end_seconds=end) for end in sorted((one, other)))
    shown_until = times[-1] + hold
    before, after = spread(taken(early, times, shown_until)), spread(taken(late, times, shown_until))
    assert after[: len(before)] == before


@given(timestamps(), HOLDS, SAMPLE_FPS)
def test_a_longer_hold_of_the_last_frame_only_adds_ticks_to_it(
    times: list[float], hold: float, sample_fps: float
) -> None:
    short, long = SamplingGrid(sample_fps), SamplingGrid(sample_fps)
    few, many = taken(short, times, times[-1] + hold), taken(long, times, times[-1] + hold + 1.0)
    assert many[:-1] == few[:-1]
    assert many[-1] - few[-1] == pytest.approx(sample_fps, abs=1)


@given(timestamps(), HOLDS, SAMPLE_FPS, st.integers(2, 5))
def test_a_denser_grid_contains_the_sparse_one(times: list[float], hold: float, sample_fps: float, factor: int) -> None:
    sparse, dense = SamplingGrid(sample_fps), SamplingGrid(sample_fps * factor)
    shown_until = times[-1] + hold
    few, many = spread(taken(sparse, times, shown_until)), spread(taken(dense, times, shown_until))
    assume_no_tie(dense, [*times, shown_until])
    assert many[::factor] == few


@given(timestamps(), HOLDS, SAMPLE_FPS, STARTS, ENDS)
def test_nothing_is_due_once_exhausted(
    times: list[float], hold: float, sample_fps: float, start: float, end: float
) -> None:
    grid = SamplingGrid(sample_fps, start, end)
    assert not grid.exhausted, "it has no origin yet"
    for since, until in pairwise([*times, times[-1] + hold]):
        was, count = grid.exhausted, grid.take(since, until)
        assert not (was and count)
        assert grid.exhausted == (grid.tick_seconds(grid.num_ticks) >= end - TOLERANCE_SECONDS)


def test_a_held_frame_keeps_its_ticks_whatever_comes_after_it() -> None:
    """A screen recording: at 0, 6, 12 and 12.2 s; the next frame must not reach back into the hold."""
    assert taken(SamplingGrid(1.0), [0.0, 6.0, 12.0, 12.2], 12.4) == [6, 6, 1, 0]


def test_a_cut_that_begins_in_a_hold_is_served_by_it() -> None:
    assert taken(SamplingGrid(2.0, 2.0, 5.0), [0.0, 6.0, 12.0], 12.2) == [6, 0, 0]


def test_a_frame_that_comes_within_a_millisecond_of_a_tick_serves_it() -> None:
    assert taken(SamplingGrid(1.0), [0.0, 1.0009, 2.0011], 2.5) == [1, 2, 0]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, math.inf, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        (0.4, 1.0, [10, 15, 20]),
        (0.4, 1.04, [10, 15, 20, 25]),
        (0.41, 1.0, [10, 15, 20]),
        (1.9, math.inf, [47]),
        (2.0, math.inf, []),
        (1.0, 0.5, []),
        (0.0, 0.0, []),
    ],
)
def test_start_and_end_trim_exactly(start: float, end: float, expected: list[int]) -> None:
    assert spread(taken(SamplingGrid(5.0, start, end), [i / 25 for i in range(50)], 2.0)) == expected


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_timestamps_in_whole_milliseconds_miss_no_tick(fps: Fraction) -> None:
    """Matroska rounds to 1 ms: a frame that is due must not be late for that."""
    *rounded, end = [round(float(i / fps), 3) for i in range(601)]
    assert taken(SamplingGrid(float(fps)), rounded, end) == [1] * 600
    assert taken(SamplingGrid(float(fps / 3)), rounded, end) == [1, 0, 0] * 200


def test_a_slow_video_repeats_its_frames() -> None:
    assert taken(SamplingGrid(8.0), [0.0, 0.5, 1.0, 1.5], 2.0) == [4, 4, 4, 4]


def test_an_hour_does_not_drift() -> None:
    """t_k comes from k, not from adding 1 / sample_fps k times."""
    grid = SamplingGrid(30.0)
    assert taken(grid, [i / 30 for i in range(108_000)], 3600.0) == [1] * 108_000
    assert grid.tick_seconds(108_000) == 3600.0


def test_a_hold_of_years_takes_one_step() -> None:
    assert SamplingGrid(240.0).due(0.0, 1e10) == pytest.approx(240e10, abs=1e3)


def test_the_origin_is_the_first_timestamp_or_the_start() -> None:
    late, cut = SamplingGrid(4.0), SamplingGrid(4.0, start_seconds=2.0)
    late.take(1.5, 1.54), cut.take(1.5, 1.54)
    assert (late.tick_seconds(0), cut.tick_seconds(0)) == (1.5, 2.0)


def test_there_is_no_tick_before_the_first_timestamp() -> None:
    with pytest.raises(ValueError, match="no origin before the first timestamp"):
        SamplingGrid(4.0).tick_seconds(0)
