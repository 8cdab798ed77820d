"""How many requests are in flight, and what those are told who find no place."""

from __future__ import annotations

import contextlib

import pytest

from service.api.in_flight import InFlight
from service.errors import Overloaded


class Clock:
    """Made up: seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(places: InFlight, backlog_seconds: int) -> int | None:
    with pytest.raises(Overloaded) as caught, places.entered(2, lambda: backlog_seconds):
        pass
    return caught.value.retry_after_seconds


def test_those_who_find_no_place_wait_for_half_of_what_a_request_takes() -> None:
    clock = Clock()
    places = InFlight(clock)
    assert places.retry_after_seconds() == 1, "nothing is known"
    for _ in range(3):
        with places.entered(2, lambda: 0):
            clock.now += 10.0
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(places.entered(2, lambda: 0))
        assert refused(places, 0) == 5
        assert refused(places, 9) == 9, "the work that is accepted takes longer"
        clock.now += 60.0
        assert refused(places, 9) == 30, "the uploads that hold the places take longer than those before"
    with places.entered(2, lambda: 0):
        pass


def test_one_slow_upload_says_nothing_of_the_others() -> None:
    clock = Clock()
    places = InFlight(clock)
    with places.entered(9, lambda: 0):
        clock.now += 3600.0
        for _ in range(8):
            with places.entered(9, lambda: 0):
                clock.now += 4.0
        with places.entered(9, lambda: 0), places.entered(9, lambda: 0):
            assert places.retry_after_seconds() == 2
