"""What timestamps and picture types amount to, without a video."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video.facts import Walk
from service.video.walk import Tally

NAN = math.nan


def walk(
    timestamps: Iterable[float], intra: Iterable[int] = (0,), step: float = 0.04, end_seconds: float | None = None
) -> Walk:
    tally = Tally(step, max_hold_seconds=600.0)
    keys = set(intra)
    for index, at in enumerate(timestamps):
        tally.add(at, intra=index in keys)
    return tally.walk(tally.clock.end_seconds() if end_seconds is None else end_seconds, complete=True)


def test_a_constant_rate() -> None:
    found = walk([i / 25 for i in range(50)])
    assert (found.num_frames, found.rate, found.fps) == (50, "constant", 25.0)
    assert (found.first_seconds, found.last_seconds, found.duration_seconds) == (0.0, 1.96, 2.0)
    assert found.shortest_step_seconds == found.commonest_step_seconds == found.longest_step_seconds == 0.04
    assert found.frames_without_time == 0


def test_frames_whose_place_is_taken_are_counted() -> None:
    """The second of 1 / 25 s, and the three of a clock that fell and is waited for: one is left of each."""
    assert walk([0.0, 0.04, 0.04, 0.08]).frames_replaced == 1
    assert walk([0.0, 0.04, 0.08, 0.12, 0.06, 0.10, 0.14]).frames_replaced == 2
    assert walk([i / 240 for i in range(50)]).frames_replaced == 0


@given(st.floats(5.0, 240.0), st.integers(3, 300))
def test_rounding_to_milliseconds_is_still_a_constant_rate(fps: float, count: int) -> None:
    assert walk([round(i / fps, 3) for i in range(count)]).rate == "constant"


@pytest.mark.parametrize("late", [0.0021, 0.04, 1.0])
def test_one_late_frame_is_a_variable_rate(late: float) -> None:
    found = walk([i / 25 + (late if i == 30 else 0.0) for i in range(60) if late < 0.04 or i != 31])
    assert found.rate == "variable"
    assert found.longest_step_seconds == pytest.approx(0.04 + late, abs=1e-6)
    assert found.commonest_step_seconds == 0.04


def test_one_frame_has_no_rate() -> None:
    found = walk([0.0])
    assert (found.rate, found.fps, found.commonest_step_seconds) == ("unknown", None, None)
    assert found.duration_seconds == 0.04


def test_made_up_times_are_counted_and_say_nothing_of_the_rate() -> None:
    found = walk([0.0, 0.04, NAN, 0.12, 0.16, 0.10, 0.24, 0.28])
    assert found.frames_without_time == 2
    assert (found.rate, found.fps) == ("constant", 25.0)


def test_no_timestamp_at_all() -> None:
    found = walk([NAN] * 5)
    assert (found.frames_without_time, found.rate) == (5, "unknown")


def test_the_end_is_the_files_word() -> None:
    """The last frame is held; its run of pictures lasts as long."""
    found = walk([0.0, 0.04], end_seconds=32.0)
    assert (found.last_seconds, found.duration_seconds, found.longest_step_seconds) == (0.04, 32.0, 0.04)
    assert found.keyframes is not None
    assert found.keyframes.longest_seconds == 32.0


def test_jumps_are_counted_and_are_no_steps_of_that_length() -> None:
    found = walk([0.0, 0.04, 1800.0, 1800.04, 3.0, 3.04])
    assert (found.jumps, found.frames_without_time) == (2, 0)
    assert (found.rate, found.longest_step_seconds, found.duration_seconds) == ("constant", 0.04, 0.24)


def test_runs_between_i_pictures() -> None:
    keys = walk([i / 25 for i in range(100)], intra=(0, 10, 60)).keyframes
    assert keys is not None
    assert (keys.count, keys.longest_frames, keys.longest_seconds) == (3, 50, 2.0)
    assert keys.mean_seconds == pytest.approx(4 / 3, abs=1e-6)


def test_the_last_run_ends_with_the_video() -> None:
    keys = walk([i / 25 for i in range(100)], intra=(0, 10)).keyframes
    assert keys is not None
    assert (keys.longest_frames, keys.longest_seconds) == (90, 3.6)


def test_a_decoder_that_tells_no_types() -> None:
    assert walk([0.0, 0.04], intra=()).keyframes is None


def test_memory_is_bounded_however_many_steps_differ() -> None:
    tally = Tally(0.04)
    at = 0.0
    for index in range(10_000):
        at += 0.01 + index * 1e-5
        tally.add(at, intra=False)
    assert len(tally._steps) == 4096
    assert tally.walk(at, complete=True).num_frames == 10_000
