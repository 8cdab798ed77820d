"""Frames found among their packets: whatever the rounding of the other clock, and where some were lost."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video.packet_times import PacketTimes

# Milliseconds from packet to packet: bursts and holds.
PACKETS = st.lists(st.integers(1, 60) | st.integers(1, 60_000), min_size=1, max_size=40).map(
    lambda steps: [milliseconds / 1e3 for milliseconds in accumulate(steps, initial=7)]
)
RATES = st.floats(0.05, 60.0)


def steps(seconds: float, rate: float) -> float:
    """As FFmpeg rounds: halves away from zero."""
    return math.floor(seconds * rate + 0.5)


@given(PACKETS, RATES, st.integers(0, 5))
def test_all_frames_have_the_times_of_their_packets(times: list[float], rate: float, num_before: int) -> None:
    num_before = min(num_before, len(times))
    found = PacketTimes(times, rate, steps(times[0], rate), num_before)
    seen = [found.seconds(steps(seconds, rate)) for seconds in times[num_before:]]
    assert seen == [seconds - times[0] for seconds in times[num_before:]]
    assert math.isnan(found.seconds(steps(times[-1], rate)))


@given(PACKETS.filter(lambda times: len(times) > 2), RATES, st.data())
def test_where_one_was_lost_times_are_off_by_a_step_of_the_rate_at_most(
    times: list[float], rate: float, data: st.DataObject
) -> None:
    lost = data.draw(st.integers(1, len(times) - 1))
    found = PacketTimes(times, rate, steps(times[0], rate), 0)
    for index, seconds in enumerate(times):
        if index != lost:
            assert found.seconds(steps(seconds, rate)) == pytest.approx(seconds - times[0], abs=1 / rate + 1e-9)


@pytest.mark.parametrize("rate", [0.0, math.nan, -1.0, 1e9])
def test_without_a_usable_rate_frames_are_counted(rate: float) -> None:
    found = PacketTimes([5.0, 6.0, 8.0], rate, math.nan, 0)
    assert [found.seconds(math.nan) for _ in range(3)] == [0.0, 1.0, 3.0]


def test_the_first_packet_may_give_no_frame() -> None:
    """One that lies before the start is thrown away by the demuxer."""
    found = PacketTimes([-30.0, 0.04, 0.08], 25.0, 1.0, 0)
    assert [found.seconds(1.0), found.seconds(2.0)] == [0.0, 0.04]
