"""The clock: whatever the timestamps, times rise; and they are the timestamps wherever those do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video.clock import Clock

STEP = 0.04
# As `Capture` gives them: a sane number of seconds, or NaN.
TIMESTAMPS = st.lists(st.floats(-1e10, 1e10) | st.just(math.nan) | st.just(0.0))
# What files hold: a few ticks apart, some repeated, some missing.
TICKS = st.lists(st.integers(-2, 20) | st.none(), min_size=1).map(
    lambda steps: [
        math.nan if step is None else (sum(filter(None, steps[: i + 1]))) / 90 for i, step in enumerate(steps)
    ]
)
STEPS = st.floats(1 / 480, 10.0)


def times(timestamps: list[float], step_seconds: float = STEP) -> list[float]:
    clock = Clock(step_seconds)
    return [clock.tick(seconds) for seconds in timestamps]


@given(TIMESTAMPS | TICKS, STEPS)
def test_times_are_finite_and_rise(timestamps: list[float], step: float) -> None:
    clock = Clock(step)
    last = -math.inf
    for number, seconds in enumerate(timestamps, 1):
        now = clock.tick(seconds)
        assert math.isfinite(now)
        assert last < now < clock.end_seconds
        assert (clock.num_frames, clock.last_seconds) == (number, now)
        last = now


RISING = st.lists(st.integers(0, 10**10), unique=True).map(lambda steps: [step / 90_000 for step in sorted(steps)])


@given(RISING, STEPS)
def test_rising_timestamps_are_the_times(timestamps: list[float], step: float) -> None:
    clock = Clock(step)
    assert [clock.tick(seconds) for seconds in timestamps] == timestamps
    assert (clock.num_nominal, clock.time_base) == (0, "pts")


@given(RISING.filter(len), st.integers(-(10**9), -1), STEPS)
def test_a_stream_that_begins_before_its_start_counts_from_its_first_frame(
    timestamps: list[float], before: int, step: float
) -> None:
    early = [seconds - timestamps[0] + before / 90_000 for seconds in timestamps]
    clock = Clock(step)
    assert [clock.tick(seconds) for seconds in early] == pytest.approx(
        [t - timestamps[0] for t in timestamps], abs=1e-6
    )
    assert clock.time_base == "pts"


def test_what_rises_by_less_than_is_told_does_not_rise() -> None:
    assert times([0.0, 4e-9, 1.0]) == [0.0, STEP, 1.0]


@given(TIMESTAMPS | TICKS, STEPS)
def test_a_timestamp_after_the_last_time_is_always_taken(timestamps: list[float], step: float) -> None:
    clock, made_up = Clock(step), 0
    start = min(timestamps[0], 0.0) if timestamps and not math.isnan(timestamps[0]) else 0.0
    for index, seconds in enumerate(timestamps):
        last = clock.last_seconds if index else -math.inf
        now = clock.tick(seconds)
        if seconds - start >= last + 1e-6:
            assert now == seconds - start
        else:
            made_up += 1
            assert now - last <= step * (1 + 1e-9) + math.ulp(now) or not index
    assert clock.num_nominal == made_up
    assert clock.time_base == ("nominal" if made_up else "pts")


@given(TICKS, TICKS)
def test_a_time_depends_on_what_came_before_alone(before: list[float], after: list[float]) -> None:
    assert times(before + after)[: len(before)] == times(before)


@given(st.integers(1, 200), STEPS)
def test_without_timestamps_frames_come_at_the_nominal_rate(num_frames: int, step: float) -> None:
    expected = [index * step for index in range(num_frames)]
    assert times([math.nan] * num_frames, step) == pytest.approx(expected)
    assert times([0.0] * num_frames, step) == pytest.approx(expected)  # OpenCV's word for none, once the start is known


@given(st.integers(3, 60), st.integers(1, 60), st.integers(1, 20), st.floats(0.01, 1.0))
def test_one_repeated_timestamp_moves_later_times_by_a_step(num: int, at: int, ticks: int, share: float) -> None:
    """Whatever the nominal step is, up to ten times the real one."""
    real = ticks / 100
    timestamps = [index * real for index in range(num)]
    at = 1 + at % (num - 1)
    seen = times(timestamps[: at + 1] + timestamps[at:], step_seconds=share * 10 * real)
    late = [now - then for now, then in zip(seen[at + 2 :], timestamps[at + 1 :], strict=True)]
    assert all(-1e-9 <= seconds <= real + 1e-9 for seconds in late)


def test_a_burst_after_a_repeated_timestamp_does_not_run_away() -> None:
    """30 frames a second in a file whose mean is 4: with the nominal step each of 20 frames would come 0.25 s later."""
    burst = [index / 30 for index in range(31)]
    seen = times([*burst[:11], *burst[10:]], step_seconds=0.25)
    assert burst[-1] <= seen[-1] <= burst[-1] + 1 / 30


def test_a_flushed_frame_without_a_timestamp_comes_one_step_later() -> None:
    """MPEG-PS with B-frames: the last frame comes out with none, which reads as 0."""
    assert times([0.0, 0.04, 0.08, 0.0]) == pytest.approx([0.0, 0.04, 0.08, 0.12])


def test_a_made_up_step_is_no_measure_for_the_next() -> None:
    """Steps of 1, then 2 repeats; the step of 2.5 from a made-up time to a real one is no frame's."""
    assert times([0.0, 1.0, 1.0, 4.5, 4.5, 4.5], step_seconds=3.0) == pytest.approx([0.0, 1.0, 2.0, 4.5, 5.5, 6.5])


def test_a_made_up_step_is_a_tenth_of_the_nominal_one_at_least() -> None:
    assert times([0.0, 1e-6, *[math.nan] * 3], step_seconds=0.04)[2:] == pytest.approx([0.004, 0.008, 0.012], abs=1e-5)


def test_no_first_timestamp_is_a_start_at_zero() -> None:
    clock = Clock(STEP)
    assert (clock.tick(math.nan), clock.end_seconds, clock.time_base) == (0.0, STEP, "nominal")
