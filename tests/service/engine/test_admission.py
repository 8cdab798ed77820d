"""Admission: the wait that others cause, the drain rate, and what is refused."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace

import pytest

from service.engine.admission import Admission, Cost, Work
from service.errors import Busy, DeadlineExceeded
from service.fairness import Priority
from service.video.errors import TooLongForOnline

SHORT = Cost(0.2, 0.3)
FILM = Cost(100.0, 110.0)
NEW = Work(Priority.INTERACTIVE)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def still(alike_seconds: float = 0.0) -> Admission:
    """No time passes, and the drain rate stays as it is."""
    return Admission(alike_seconds, saturating=99, clock=lambda: 0.0)


def admitted(admission: Admission, stack: ExitStack, *costs: Cost, priority: Priority = Priority.INTERACTIVE) -> Work:
    """Accept clips of these costs; returns the last."""
    for cost in costs:
        work = stack.enter_context(admission.entered(priority))
        admission.judge(work, cost, math.inf, math.inf)
    return work


def test_a_film_holds_a_short_clip_up_for_no_longer_than_the_clip_itself_takes() -> None:
    admission = still()
    with ExitStack() as stack:
        admitted(admission, stack, FILM)
        assert admission.wait_seconds(SHORT, NEW) == pytest.approx(SHORT.machine_seconds)
        assert admission.wait_seconds(FILM, NEW) == pytest.approx(FILM.machine_seconds)


def test_clips_that_are_alike_are_waited_for_whole() -> None:
    admission = still(alike_seconds=0.5)
    with ExitStack() as stack:
        admitted(admission, stack, *[Cost(0.4, 0.4)] * 10)
        assert admission.wait_seconds(SHORT, NEW) == pytest.approx(4.0)


def test_priorities() -> None:
    admission = still()
    with ExitStack() as stack:
        admitted(admission, stack, FILM, priority=Priority.JOB)
        assert admission.wait_seconds(SHORT, NEW) == 0.0, "jobs have a share of the machine, and no place in the queue"
        admitted(admission, stack, SHORT)
        assert admission.wait_seconds(SHORT, NEW) == pytest.approx(0.2 / 0.9), "and the share makes the rest slower"
        assert admission.wait_seconds(SHORT, Work(Priority.JOB)) == pytest.approx(0.2 + 0.2)


def test_what_is_done_is_not_waited_for() -> None:
    admission = still()
    with ExitStack() as stack:
        work = admitted(admission, stack, FILM)
        admission.progress(work, 0.75)
        assert admission.backlog_seconds == pytest.approx(25.0)
    assert admission.backlog_seconds == 0.0


def test_too_long_for_its_deadline_even_alone() -> None:
    admission = still()
    with admission.entered(Priority.INTERACTIVE) as work, pytest.raises(TooLongForOnline, match="/v1/jobs") as refused:
        admission.judge(work, FILM, 60.0, 60.0)
    assert (refused.value.status, refused.value.value, refused.value.limit) == (413, 110.0, 60.0)


def test_what_can_no_longer_make_it_is_dropped() -> None:
    admission = still()
    with admission.entered(Priority.INTERACTIVE) as work, pytest.raises(DeadlineExceeded, match=r"0\.1 s are left"):
        admission.judge(work, SHORT, 10.0, 0.1)


def test_busy_names_when_to_come_again() -> None:
    admission = still(alike_seconds=1.0)
    with ExitStack() as stack:
        admitted(admission, stack, *[Cost(0.5, 0.5)] * 20)
        work = stack.enter_context(admission.entered(Priority.INTERACTIVE))
        with pytest.raises(Busy) as refused:
            admission.judge(work, SHORT, 5.0, 5.0)
    assert refused.value.status == 429
    assert refused.value.value == pytest.approx(10.3), "ten seconds of others, and its own"
    assert refused.value.retry_after_seconds == 6, "by then enough of it is done"


def test_a_job_has_no_deadline() -> None:
    admission = still()
    with admission.entered(Priority.JOB) as work:
        admission.judge(work, FILM, 1.0, 1.0)
    assert work.cost == FILM


def test_headers_are_held_against_clips_like_those_before() -> None:
    admission = still(alike_seconds=1.0)
    admission.check_headers(0.001)  # nothing is known, and nothing waits
    with admission.entered(Priority.INTERACTIVE) as work:
        admission.judge(work, SHORT, 60.0, 60.0)
        admission.progress(work, 1.0)
    with ExitStack() as stack:
        for _ in range(10):  # their headers are not read yet
            stack.enter_context(admission.entered(Priority.INTERACTIVE))
        admission.check_headers(2.4)
        with pytest.raises(Busy):
            admission.check_headers(2.2)


def test_a_header_is_read_early_only_where_the_deadline_is_tight() -> None:
    admission = still(alike_seconds=1.0)
    with ExitStack() as stack:
        admitted(admission, stack, *[SHORT] * 10)
        assert not admission.is_tight(NEW, 60.0)
        assert admission.is_tight(NEW, 5.0)
        assert not admission.is_tight(NEW, math.inf)


def test_the_drain_rate_is_what_was_really_done() -> None:
    """The machine takes twice as long as forecast."""
    clock = Clock()
    admission = Admission(saturating=2, clock=clock)
    with ExitStack() as stack:
        works = [admitted(admission, stack, Cost(50.0, 50.0)) for _ in range(2)]
        for step in range(1, 501):
            clock.now += 0.2
            admission.progress(works[step % 2], step / 1000)
        assert admission.drain_rate == pytest.approx(0.5, rel=0.05)
        assert admission.wait_seconds(FILM, NEW) == pytest.approx(2.0 * admission.backlog_seconds, rel=0.05)
        assert admission.retry_after_seconds() == math.ceil(admission.backlog_seconds / 2 / admission.drain_rate)


def test_idle_time_says_nothing_of_the_drain_rate() -> None:
    clock = Clock()
    admission = Admission(saturating=2, clock=clock)
    with ExitStack() as stack:
        work = admitted(admission, stack, SHORT)  # one clip leaves a core idle
        clock.now += 1000.0
        admission.progress(work, 1.0)
    clock.now += 1000.0
    with admission.entered(Priority.INTERACTIVE):
        assert admission.drain_rate == pytest.approx(1.0)


@pytest.mark.parametrize("left", [0.0, 1e9])
def test_retry_after_is_within_bounds(left: float) -> None:
    admission = still()
    with ExitStack() as stack:
        admitted(admission, stack, Cost(left, left))
        assert 1 <= admission.retry_after_seconds() <= 600


def test_clips_without_a_forecast_do_not_turn_clients_away_for_ever() -> None:
    """They earned nothing while time passed: after minutes of them the rate was nil, and everybody was refused."""
    clock = Clock()
    admission = Admission(saturating=2, clock=clock)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(admission.entered(Priority.INTERACTIVE))
        for _ in range(300):
            clock.now += 1.0
            admission.progress(NEW, 0.0)
        assert admission.drain_rate == pytest.approx(1.0)


def test_clips_that_hang_slow_the_rate_down_within_bounds_and_not_for_good() -> None:
    clock = Clock()
    admission = Admission(saturating=2, clock=clock)
    with ExitStack() as stack:
        works = [admitted(admission, stack, SHORT) for _ in range(3)]
        for _ in range(4000):
            clock.now += 1.0
            admission.progress(works[0], 0.0)
        assert admission.drain_rate == pytest.approx(1 / 8)
    clock.now += 300.0
    with admission.entered(Priority.INTERACTIVE):
        assert admission.drain_rate == pytest.approx(1.0, abs=0.1)


def test_who_came_later_is_ahead_of_nobody_alike() -> None:
    admission = still(alike_seconds=1.0)
    with ExitStack() as stack:
        first = admitted(admission, stack, SHORT)
        admitted(admission, stack, *[SHORT] * 20)
        assert admission.wait_seconds(SHORT, first) == 0.0
        assert admission.wait_seconds(SHORT, NEW) == pytest.approx(21 * 0.2)
        assert admission.wait_seconds(FILM, first) == pytest.approx(20 * 0.2), "short clips pass a film"


def test_one_film_does_not_make_every_clip_look_like_one() -> None:
    admission = still()
    for cost in (SHORT, SHORT, FILM):
        with admission.entered(Priority.INTERACTIVE) as work:
            admission.judge(work, cost, math.inf, math.inf)
            admission.progress(work, 1.0)
    with admission.entered(Priority.INTERACTIVE):
        admission.check_headers(10.0)


def test_a_guess_is_no_reason_to_refuse_the_clip_itself() -> None:
    admission = still()
    with admission.entered(Priority.INTERACTIVE) as work:
        admission.judge(work, replace(FILM, is_guess=True), 10.0, 10.0)
    with ExitStack() as stack:
        admitted(admission, stack, FILM)
        work = stack.enter_context(admission.entered(Priority.INTERACTIVE))
        with pytest.raises(Busy):
            admission.judge(work, replace(FILM, is_guess=True), 10.0, 10.0)


def test_where_a_clip_like_those_before_is_too_late_no_header_is_read() -> None:
    admission = still(alike_seconds=1.0)
    with admission.entered(Priority.INTERACTIVE) as work:
        admission.judge(work, SHORT, 60.0, 60.0)
        admission.progress(work, 1.0)
    with ExitStack() as stack:
        admitted(admission, stack, *[SHORT] * 10)
        with pytest.raises(Busy):
            admission.is_tight(NEW, 2.0)
