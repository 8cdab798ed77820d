"""Whose frames go into the next batch. A batch costs what `SIZES` says, as on a CPU of 5 ms a frame."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from contextlib import ExitStack

import pytest

from service.bundle import Runtime
from service.engine.batcher import SHORT_FRAMES, FrameBatcher
from service.engine.chunks import Encoded, Features, Frames
from service.engine.lease import Lease
from service.fairness import Priority
from tests.server import DEADLINE_SECONDS, wait_until
from tests.service.engine.numbered import SIZES, FakeEncoder, assert_is_of, batcher, encode, held, numbered

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
    """At 5 ms a frame, 15 ms are two frames of the sizes 1, 2, 4, and 8 ms one."""
    cases: list[tuple[Runtime, Priority, int]] = [
        ("onnxruntime-cpu", Priority.INTERACTIVE, 2),
        ("onnxruntime-cpu", Priority.JOB, 1),
        ("onnxruntime-cuda", Priority.JOB, 2),
    ]
    for runtime, priority, size in cases:
        with held(runtime=runtime) as (made, encoder, release):
            lease = made.lease(priority)
            lease.account.attained = 0 if priority is Priority.JOB else 10 * SHORT_FRAMES
            future = lease.submit(numbered(JOB, 8))
            release()
            _order(encoder, [future])
            assert [len(batch) for batch in encoder.batches[1:]] == [size] * (8 // size)


def test_interactive_before_stream_before_job() -> None:
    with held(runtime="onnxruntime-cuda") as (made, encoder, release):
        leases = [made.lease(priority) for priority in reversed(Priority)]
        futures = [lease.submit(numbered(at, 4)) for lease, at in zip(leases, (JOB, 100, 10), strict=True)]
        release()
        order = _order(encoder, futures)
        assert order[:5] == [0, 10, 11, 12, 13]
        assert order.index(JOB) > order.index(100)


@pytest.mark.parametrize("runtime", ["onnxruntime-cpu", "onnxruntime-cuda"])
def test_jobs_go_on_under_interactive_load(runtime: Runtime) -> None:
    """A tenth is theirs: of the time on a core, of the frames on a GPU."""
    now = 0.0

    def timed(frames: Frames) -> Features:
        nonlocal now
        now += SIZES[1] * len(frames)
        return encode(frames)

    with held(timed, runtime=runtime, clock=lambda: now) as (made, encoder, release), ExitStack() as leases:
        job = made.lease(Priority.JOB).submit(numbered(JOB, 40))
        clips = [leases.enter_context(made.lease()).submit(numbered(20 * clip, 20)) for clip in range(1, 21)]
        release()
        wait(clips, DEADLINE_SECONDS)
        leases.close()
        order = _order(encoder, [*clips, job])
        last = max(at for at, number in enumerate(order) if number < JOB)
        share = sum(number >= JOB for number in order[: last + 1]) / (last + 1)
        assert 0.08 <= share <= 0.12


def test_on_cores_jobs_stay_away_while_a_short_clip_is_open() -> None:
    """What it hands in finds every core at once, and no frame of a job beside its own."""
    at_work, go_on = threading.Semaphore(0), threading.Event()
    now = 0.0

    def slowly(frames: Frames) -> Features:
        at_work.release()
        assert go_on.wait(DEADLINE_SECONDS)
        return encode(frames)

    def begin(count: int) -> None:
        assert all(at_work.acquire(timeout=DEADLINE_SECONDS) for _ in range(count))
        assert not at_work.acquire(timeout=0.2)

    def end() -> None:
        go_on.set()
        wait_until(lambda: made._num_idle == 2, "the end of batches")
        go_on.clear()

    encoders = FakeEncoder(slowly), FakeEncoder(slowly)
    with batcher(*encoders, clock=lambda: now) as made, made.lease(Priority.JOB) as job:
        jobs_frames = job.submit(numbered(100, 20))
        begin(2)  # nobody else is there: on both
        with made.lease() as present:
            end()
            begin(0)  # they are in debt, and stay away
            mine = present.submit(numbered(10, 2))
            begin(2)
            end()
            assert_is_of(mine.result(DEADLINE_SECONDS), 10, 2)
            assert sorted(encoder.batches[-1] for encoder in encoders) == [[10], [11]]
            now += 10.0
            present.submit(numbered(12, 1))
            begin(2)  # the debt is paid: one batch of theirs, then they stay away again
            end()
            begin(0)
            present.account.attained = SHORT_FRAMES  # it is a long one, and they are its filling
            present.submit(numbered(13, 1))
            begin(2)
        go_on.set()
        assert_is_of(jobs_frames.result(DEADLINE_SECONDS), 100, 20)


def test_what_is_handed_in_is_done_at_the_end_whoever_is_there() -> None:
    with ExitStack() as leases:
        with batcher(FakeEncoder(), clock=lambda: 0.0) as made:
            leases.enter_context(made.lease())
            futures = [made.lease(Priority.JOB).submit(numbered(at, 10)) for at in (100, 200)]
        for future, at in zip(futures, (100, 200), strict=True):
            assert_is_of(future.result(0), at, 10)
