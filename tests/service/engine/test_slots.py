"""Places for open clips: bounded, first come first served, and never all of them for long clips."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from service.engine.slots import Place, Slots
from service.fairness import Priority
from tests.server import DEADLINE_SECONDS, wait_until


class Clip:
    """A thread that waits for a place and keeps it until it is told to go."""

    def __init__(
        self, slots: Slots, *, is_long: bool | None = False, really_long: bool = False,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:  # fmt: skip
        self.placed, self.go = threading.Event(), threading.Event()
        self.looked = 0
        self.cancelled = False
        self.place: Place | None = None
        self.error: Exception | None = None
        self._arguments = (slots, priority, is_long, really_long)
        before = slots.num_waiting() + len(slots._held)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(
            lambda: slots.num_waiting() + len(slots._held) > before or self.error is not None, "the clip in its queue"
        )

    def _run(self) -> None:
        slots, priority, is_long, really_long = self._arguments

        def find_out() -> bool:
            self.looked += 1
            return really_long

        def check() -> None:
            if self.cancelled:
                raise InterruptedError

        try:
            with slots.place(priority, is_long=is_long, check=check, find_out=find_out) as self.place:
                self.placed.set()
                self.go.wait()
        except InterruptedError as error:
            self.error = error

    def leave(self) -> None:
        self.go.set()
        self._thread.join()


def test_no_more_are_open_than_there_are_places() -> None:
    slots = Slots(2)
    first, second, third, fourth = (Clip(slots) for _ in range(4))
    assert first.placed.is_set()
    assert second.placed.is_set()
    assert slots.num_waiting() == 2
    first.leave()
    assert third.placed.wait(DEADLINE_SECONDS), "first come, first served"
    assert not fourth.placed.is_set()
    for clip in (second, third, fourth):
        clip.leave()
    assert slots.num_waiting() == 0
    assert not slots._held


@pytest.mark.parametrize(("total", "long"), [(1, 1), (2, 1), (4, 3), (8, 6), (16, 12)])
def test_a_quarter_of_the_places_is_for_short_clips(total: int, long: int) -> None:
    assert Slots(total).total_long == long


def test_a_short_clip_finds_a_place_beside_any_number_of_films() -> None:
    slots = Slots(4)
    films = [Clip(slots, is_long=True) for _ in range(6)]
    assert sum(film.placed.is_set() for film in films) == 3
    short = Clip(slots)
    assert short.placed.wait(DEADLINE_SECONDS)
    for clip in (short, *films):
        clip.leave()


def test_a_clip_of_unknown_length_is_looked_at_when_only_a_short_one_fits() -> None:
    slots = Slots(4)
    films = [Clip(slots, is_long=True) for _ in range(3)]
    short, film = Clip(slots, is_long=None), Clip(slots, is_long=None, really_long=True)
    assert short.placed.wait(DEADLINE_SECONDS)
    assert short.looked == 1
    assert not film.placed.is_set()
    films[0].leave()
    assert film.placed.wait(DEADLINE_SECONDS)
    for clip in (short, film, *films):
        clip.leave()


def test_a_clip_that_waited_behind_short_ones_is_looked_at_when_a_place_for_a_short_one_frees() -> None:
    slots = Slots(4)
    films = [Clip(slots, is_long=True) for _ in range(3)]
    first = Clip(slots)
    unknown = Clip(slots, is_long=None)
    assert unknown.looked == 0, "all places are taken: what it is matters to nobody yet"
    first.leave()
    assert unknown.placed.wait(DEADLINE_SECONDS)
    assert unknown.looked == 1
    for clip in (unknown, *films):
        clip.leave()


def test_on_an_idle_machine_nobody_looks_first() -> None:
    slots = Slots(4)
    clips = [Clip(slots, is_long=None) for _ in range(3)]
    assert all(clip.placed.is_set() and clip.looked == 0 for clip in clips)
    for clip in clips:
        clip.leave()


def test_a_clip_that_turned_out_short_makes_room_for_a_film() -> None:
    slots = Slots(4)
    clips = [Clip(slots, is_long=None) for _ in range(3)]
    film = Clip(slots, is_long=True)
    assert not film.placed.is_set()
    assert clips[0].place is not None
    slots.set_long(clips[0].place, is_long=False)
    assert film.placed.wait(DEADLINE_SECONDS)
    for clip in (film, *clips):
        clip.leave()


def test_jobs_have_half_of_the_places_however_short_their_clips_are() -> None:
    slots = Slots(4)
    jobs = [Clip(slots, is_long=False, priority=Priority.JOB) for _ in range(5)]
    assert sum(job.placed.is_set() for job in jobs) == 2
    unknown = Clip(slots, is_long=None)
    assert unknown.placed.wait(DEADLINE_SECONDS), "nobody has to ask what it is"
    for job in (*jobs, unknown):
        job.leave()


def test_interactive_clips_are_placed_before_jobs() -> None:
    slots = Slots(1)
    holder = Clip(slots)
    job, clip = Clip(slots, priority=Priority.JOB), Clip(slots)
    holder.leave()
    assert clip.placed.wait(DEADLINE_SECONDS)
    assert not job.placed.is_set()
    clip.leave()
    assert job.placed.wait(DEADLINE_SECONDS)
    job.leave()


def test_a_cancelled_clip_leaves_the_queue() -> None:
    slots = Slots(1)
    with ExitStack() as stack:
        holder = Clip(slots)
        stack.callback(holder.leave)
        waiting = Clip(slots)
        waiting.cancelled = True
        wait_until(lambda: waiting.error is not None, "the cancelled clip")
        assert slots.num_waiting() == 0
