"""Whose frames go into the next batch. A batch costs what `SIZES` says, as on a CPU of 5 ms a frame."""

from __future__ import annotations

from concurrent.futures import Future, wait

from service.engine.batcher import SHORT_FRAMES, FrameBatcher, Lease
from service.engine.chunks import Encoded
from service.fairness import Priority
from tests.server import DEADLINE_SECONDS
from tests.service.engine.numbered import FakeEncoder, held, numbered

FILM, JOB = 100_000, 200_000


def _order(encoder: FakeEncoder, futures: list[Future[Encoded]]) -> list[int]:
    assert not wait(futures, DEADLINE_SECONDS).not_done
    return [number for batch in encoder.batches for number in batch]


def _film(made: FrameBatcher) -> Lease:
    lease = made.lease()
    lease.account.attained = 10 * SHORT_FRAMES
    return lease


def test_a_newcomer_passes_a_film() -> None:
    with held() as (made, encoder, release):
        film, clip = _film(made), made.lease()
        futures = [film.submit(numbered(FILM, 16)), clip.submit(numbered(10, 4))]
        release()
        assert _order(encoder, futures)[:5] == [0, 10, 11, 12, 13]


def test_a_film_fills_up_the_batch_of_a_newcomer() -> None:
    with held() as (made, encoder, release):
        film, clip = _film(made), made.lease()
        futures = [film.submit(numbered(FILM, 16)), clip.submit(numbered(10, 1))]
        release()
        _order(encoder, futures)
        assert encoder.batches[1] == [10, FILM, FILM + 1, FILM + 2]


def test_a_film_under_short_clips_gets_its_tenth() -> None:
    with held() as (made, encoder, release):
        film = _film(made)
        futures = [film.submit(numbered(FILM, 40))]
        futures += [made.lease().submit(numbered(20 * clip, 20)) for clip in range(1, 21)]
        release()
        order = _order(encoder, futures)
        while_short_waited = order[: max(at for at, number in enumerate(order) if number < FILM) + 1]
        share = sum(number >= FILM for number in while_short_waited) / len(while_short_waited)
        assert 0.08 <= share <= 0.12


def test_batches_of_long_or_job_work_alone_are_short() -> None:
    """At 5 ms a frame, 15 ms are two frames of the sizes 1, 2, 4."""
    for priority, attained in ((Priority.INTERACTIVE, 10 * SHORT_FRAMES), (Priority.JOB, 0)):
        with held() as (made, encoder, release):
            lease = made.lease(priority)
            lease.account.attained = attained
            future = lease.submit(numbered(JOB, 8))
            release()
            _order(encoder, [future])
            assert [len(batch) for batch in encoder.batches[1:]] == [2, 2, 2, 2]


def test_interactive_before_stream_before_job() -> None:
    with held() as (made, encoder, release):
        leases = [made.lease(priority) for priority in reversed(Priority)]
        futures = [lease.submit(numbered(at, 4)) for lease, at in zip(leases, (JOB, 100, 10), strict=True)]
        release()
        order = _order(encoder, futures)
        assert order[:5] == [0, 10, 11, 12, 13]
        assert order.index(JOB) > order.index(100)


def test_jobs_go_on_under_interactive_load() -> None:
    with held() as (made, encoder, release):
        futures = [made.lease(Priority.JOB).submit(numbered(JOB, 40))]
        futures += [made.lease().submit(numbered(20 * clip, 20)) for clip in range(1, 21)]
        release()
        order = _order(encoder, futures)
        last = max(at for at, number in enumerate(order) if number < JOB)
        share = sum(number >= JOB for number in order[: last + 1]) / (last + 1)
        assert 0.08 <= share <= 0.12
