"""The clock: whatever the timestamps, times rise; they are the timestamps wherever those do; and jumps are bridged."""

from __future__ import annotations

import doctest
import math
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video import clock as clock_module
from service.video.clock import Clock, Jump

STEP = 0.04
# As a `Source` gives them: a number of seconds in which microseconds still count, or NaN.
TIMESTAMPS = st.lists(st.floats(-4e9, 4e9) | st.just(math.nan) | st.just(0.0))
# What files hold: a few ticks apart, some repeated, some missing.
TICKS = st.lists(st.integers(-2, 20) | st.none(), min_size=1).map(
    lambda steps: [
        math.nan if step is None else (sum(filter(None, steps[: i + 1]))) / 90 for i, step in enumerate(steps)
    ]
)
STEPS = st.floats(1 / 480, 10.0)
HOLDS = st.sampled_from([0.5, 5.0, 600.0, math.inf])


def times(timestamps: list[float], step_seconds: float = STEP, max_hold_seconds: float = math.inf) -> list[float]:
    """As they stand at the end: the first one may have been put right when the second came."""
    clock = Clock(step_seconds, max_hold_seconds)
    seen = [clock.tick(seconds) for seconds in timestamps]
    return [clock.first_seconds, *seen[1:]] if seen else []


def test_docstring() -> None:
    assert doctest.testmod(clock_module).failed == 0


@given(TIMESTAMPS | TICKS, STEPS, HOLDS)
def test_times_are_finite_and_rise(timestamps: list[float], step: float, max_hold: float) -> None:
    clock = Clock(step, max_hold)
    for number, seconds in enumerate(timestamps, 1):
        now = clock.tick(seconds)
        assert math.isfinite(now)
        assert number == 1 or clock.previous_seconds < now
        assert 0 <= clock.first_seconds <= now < clock.end_seconds()
        assert (clock.num_frames, clock.last_seconds) == (number, now)


@given(TIMESTAMPS | TICKS, STEPS, HOLDS)
def test_no_step_is_longer_than_a_hold_may_be(timestamps: list[float], step: float, max_hold: float) -> None:
    clock = Clock(step, max_hold)
    for seconds in timestamps:
        clock.tick(seconds)
        assert clock.last_step <= max(max_hold, step) * (1 + 1e-9) + math.ulp(clock.last_seconds)


RISING = st.lists(st.integers(0, 10**10), unique=True).map(lambda steps: [step / 90_000 for step in sorted(steps)])


@given(RISING, STEPS)
def test_rising_timestamps_are_the_times(timestamps: list[float], step: float) -> None:
    clock = Clock(step)
    assert [clock.tick(seconds) for seconds in timestamps] == timestamps
    assert (clock.num_nominal, clock.num_jumps, clock.time_base) == (0, 0, "pts")


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


# A recording: whole milliseconds from one frame to the next, some of them holds.
RECORDING = st.lists(st.integers(1, 400) | st.integers(1, 4_000), min_size=2, max_size=12)
# Where the clock of the next one stands, of the last frame's: back by more than half a second, or on by more than 5 s.
BACK, ON = st.integers(-10_000_000, -501), st.integers(5_001, 10_000_000)


@st.composite
def joined(draw: st.DrawFn, leaps: st.SearchStrategy[int]) -> tuple[list[list[float]], list[Jump]]:
    """Recordings of a file's clock (which starts above what the leaps take back), and the jumps between them."""
    at, recordings, jumps = 100_000_000, list[list[float]](), list[Jump]()
    for steps in draw(st.lists(RECORDING, min_size=2, max_size=5)):
        if recordings:
            leap = draw(leaps)
            before, at = at, at + leap - (steps[0] if leap < 0 else 0)  # its second frame is behind too
            jumps.append(Jump(before / 1e3, at / 1e3))
        recording = list(accumulate(steps, initial=at))
        at = recording[-1]
        recordings.append([milliseconds / 1e3 for milliseconds in recording])
    return recordings, jumps


@given(joined(BACK | ON), st.floats(1 / 240, 0.4))
def test_a_jump_is_bridged_by_one_step_and_all_later_times_move_with_it(
    case: tuple[list[list[float]], list[Jump]], step: float
) -> None:
    recordings, jumps = case
    clock, seen = Clock(step, max_hold_seconds=5.0), list[list[float]]()
    for recording in recordings:
        seen.append([clock.tick(seconds) for seconds in recording])
    assert (clock.num_jumps, clock.num_nominal) == (len(jumps), 0)
    assert clock.first_jump is not None
    assert clock.first_jump.from_seconds == pytest.approx(jumps[0].from_seconds, abs=1e-6)
    assert clock.first_jump.to_seconds == jumps[0].to_seconds
    for recording, ours in zip(recordings, seen, strict=True):
        assert [t - ours[0] for t in ours] == pytest.approx([t - recording[0] for t in recording], abs=1e-6)
    for before, after in pairwise(seen):
        assert 0 < after[0] - before[-1] <= step + 1e-9


@given(joined(ON))
def test_a_hold_that_is_believed_is_no_jump(case: tuple[list[list[float]], list[Jump]]) -> None:
    timestamps = [seconds for recording in case[0] for seconds in recording]
    assert times(timestamps, max_hold_seconds=10_000.0) == timestamps


def test_a_jump_tells_both_times_as_the_file_has_them() -> None:
    clock = Clock(STEP, max_hold_seconds=600.0)
    seen = [clock.tick(seconds) for seconds in (0.0, 0.04, 1800.0, 1800.04, 3.0, 3.04)]
    assert seen == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert str(clock.first_jump) == "from 0.040 s to 1800.000 s"
    assert (clock.num_jumps, clock.num_nominal, clock.time_base) == (2, 0, "pts")


@pytest.mark.parametrize(
    ("timestamps", "jumps"),
    [
        ([0.0, 1.0, 0.5, 1.1], 0),  # back by half a second at most: out of order, as broken files have it
        ([0.0, 1.0, 0.499, 1.1], 0),  # one that is wrong alone
        ([0.0, 1.0, 0.499, 0.539], 1),
        ([0.0, 600.0], 0),
        ([0.0, 600.001], 1),
    ],
)
def test_where_a_jump_begins(timestamps: list[float], jumps: int) -> None:
    clock = Clock(STEP, max_hold_seconds=600.0)
    for seconds in timestamps:
        clock.tick(seconds)
    assert clock.num_jumps == jumps


def test_a_rate_slower_than_a_hold_may_be_is_no_jump() -> None:
    """A timelapse of one frame an hour says so itself, by its nominal rate."""
    hours = [3600.0 * index for index in range(5)]
    assert times(hours, step_seconds=3600.0, max_hold_seconds=600.0) == hours


@given(st.integers(1, 10**7), RISING.filter(lambda rising: len(rising) > 1 and rising[0] >= 1e-3), STEPS)
def test_a_first_timestamp_after_the_second_is_wrong_alone(wrong: int, rest: list[float], step: float) -> None:
    """As FFmpeg gives some edit lists: the first frame comes a step before the second, and not before the start."""
    clock = Clock(step)
    seen = [clock.tick(seconds) for seconds in (rest[0] + wrong / 1e3, *rest)]
    assert seen[1:] == rest
    assert clock.first_seconds == pytest.approx(max(rest[0] - step, 0.0))
    assert (clock.num_jumps, clock.num_nominal) == (0, 0)


def test_a_first_timestamp_before_the_second_is_believed() -> None:
    assert times([0.5, 0.54]) == [0.5, 0.54]


@given(RISING.filter(len), st.floats(-1e6, 1e6), STEPS, HOLDS)
def test_the_last_frame_is_shown_to_the_streams_end_where_that_can_be(
    timestamps: list[float], hold: float, step: float, max_hold: float
) -> None:
    clock = Clock(step, max_hold)
    for seconds in timestamps:
        clock.tick(seconds)
    last = clock.last_seconds
    end = clock.end_seconds_held(hold)
    if 1e-6 <= hold <= max(max_hold, step):
        assert end == last + hold
    else:
        assert last < end <= last + step * (1 + 1e-9)
    assert clock.end_seconds(None) == clock.end_seconds_held(math.nan) == clock.end_seconds()


def test_the_streams_end_is_the_files_word_and_moves_with_its_clock() -> None:
    joined_files = Clock(STEP, max_hold_seconds=600.0)
    for seconds in (0.0, 0.04, 1800.0, 1800.04):
        joined_files.tick(seconds)
    assert joined_files.end_seconds(1801.0) == pytest.approx(0.12 + 0.96)
    assert joined_files.end_seconds(0.08) == pytest.approx(0.16), "of the first recording alone: no use"


@given(TIMESTAMPS | TICKS, STEPS)
def test_a_timestamp_after_the_last_time_is_always_taken(timestamps: list[float], step: float) -> None:
    """Until the clock jumps; others come at the time before, or up to a step later."""
    clock, others = Clock(step), 0
    start = min(timestamps[0], 0.0) if timestamps and not math.isnan(timestamps[0]) else 0.0
    for index, seconds in enumerate(timestamps):
        now = clock.tick(seconds)
        if clock.num_jumps:
            return
        last = clock.previous_seconds if index else -math.inf
        if seconds - start >= last + 1e-6:
            assert now == seconds - start
        else:
            others += 1
            assert now - last <= step * (1 + 1e-9) + math.ulp(now) or not index
    assert clock.num_nominal <= others
    assert clock.time_base == ("nominal" if clock.num_nominal else "pts")


@given(TICKS, TICKS)
def test_a_time_depends_on_what_came_before_alone(before: list[float], after: list[float]) -> None:
    """But for the first one's, which the second may put right."""
    assert times(before + after)[1 : len(before)] == times(before)[1:]


@given(st.integers(1, 200), STEPS)
def test_without_timestamps_frames_come_at_the_nominal_rate(num_frames: int, step: float) -> None:
    expected = [index * step for index in range(num_frames)]
    assert times([math.nan] * num_frames, step) == pytest.approx(expected)


@given(st.integers(3, 60), st.integers(1, 60), st.integers(1, 20), st.floats(0.01, 1.0))
def test_a_repeated_timestamp_is_believed_and_moves_no_other(num: int, at: int, ticks: int, share: float) -> None:
    """Whatever the nominal step is: as FFmpeg has it, the second frame takes the first one's place."""
    real = ticks / 100
    timestamps = [index * real for index in range(num)]
    at = 1 + at % (num - 1)
    clock = Clock(share * 10 * real)
    seen = [clock.tick(seconds) for seconds in timestamps[: at + 1] + timestamps[at:]]
    assert seen[: at + 1] + seen[at + 2 :] == timestamps
    assert seen[at + 1] == pytest.approx(timestamps[at], abs=2e-6)
    assert clock.num_nominal == 0


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        # Parts of an edit list that overlap: B-frames of the first are shown past its end.
        ([0.92, 0.96, 1.0, 0.94, 0.98, 1.02, 1.06], [0.92, 0.96, 1.0, 1.0, 1.0, 1.02, 1.06]),
        ([0.0, 0.04, 0.04, 0.04, 0.08, 0.12], [0.0, 0.04, 0.04, 0.08, 0.08, 0.12]),
        # Twice as many frames as times, told once without one: made-up times ran ahead.
        ([0.0, 0.02, math.nan, math.nan, 0.03, 0.05, 0.07], [0.0, 0.02, 0.04, 0.06, 0.06, 0.06, 0.07]),
    ],
)
def test_a_clock_that_is_behind_is_waited_for(timestamps: list[float], expected: list[float]) -> None:
    assert times(timestamps, step_seconds=0.04) == pytest.approx(expected, abs=1e-5)


def test_a_clock_that_stands_still_goes_on_at_the_nominal_rate() -> None:
    assert times([0.0, 0.04, *[0.08] * 50])[4:] == pytest.approx([0.12 + 0.04 * index for index in range(48)], abs=1e-5)


def test_a_burst_after_a_repeated_timestamp_does_not_run_away() -> None:
    """30 frames a second in a file whose mean is 4: with the nominal step each of 20 frames would come 0.25 s later."""
    burst = [index / 30 for index in range(31)]
    assert times([*burst[:11], *burst[10:]], step_seconds=0.25)[12:] == burst[11:]


def test_a_flushed_frame_without_a_timestamp_comes_one_step_later() -> None:
    """MPEG-PS with B-frames: the last frame comes out with none."""
    assert times([0.0, 0.04, 0.08, math.nan]) == pytest.approx([0.0, 0.04, 0.08, 0.12])


def test_what_rises_by_less_than_is_told_is_a_repeat() -> None:
    assert times([0.0, 4e-9, 1.0]) == [0.0, 1e-6, 1.0]


def test_a_made_up_step_is_no_measure_for_the_next() -> None:
    """Steps of 1, then one is missing; the step of 2.5 from a made-up time to a real one is no frame's."""
    assert times([0.0, 1.0, math.nan, 4.5, math.nan], step_seconds=3.0) == pytest.approx([0.0, 1.0, 2.0, 4.5, 5.5])


def test_a_made_up_step_is_a_tenth_of_the_nominal_one_at_least() -> None:
    assert times([0.0, 1e-6, *[math.nan] * 3], step_seconds=0.04)[2:] == pytest.approx([0.004, 0.008, 0.012], abs=1e-5)


def test_no_first_timestamp_is_a_start_at_zero() -> None:
    clock = Clock(STEP)
    assert (clock.tick(math.nan), clock.end_seconds(), clock.time_base) == (0.0, STEP, "nominal")
