"""The frame batcher: every row is its own frame's, batches are full, nothing waits that need not."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from service.engine.chunks import Features, Frames
from service.fairness import Priority
from tests.server import DEADLINE_SECONDS, wait_until
from tests.service.engine.numbered import FakeEncoder, assert_is_of, batcher, encode, held, numbered

GPU_SIZES = {1: 0.005, 4: 0.0055, 16: 0.007}


@pytest.mark.parametrize("executors", [1, 3])
@pytest.mark.parametrize("sizes", [{1: 0.005}, {1: 0.005, 2: 0.01, 4: 0.02}, GPU_SIZES], ids=["one", "cpu", "gpu"])
def test_every_row_is_its_own_frame_s(executors: int, sizes: dict[int, float]) -> None:
    encoders = [FakeEncoder(max_batch_frames=max(sizes)) for _ in range(executors)]
    clips = [(clip * 10_000, random.Random(clip)) for clip in range(8)]

    def send(clip: tuple[int, random.Random]) -> int:
        start, rng = clip
        sent, waiting = 0, []
        with made.lease(rng.choice(list(Priority))) as lease:
            for _ in range(25):
                count = rng.choice([1, 1, 2, 3, 7, 8, 40])
                waiting.append((lease.submit(numbered(start, count)), start, count))
                start, sent = start + count, sent + count
                if len(waiting) == 2:
                    future, at, rows = waiting.pop(0)
                    assert_is_of(future.result(DEADLINE_SECONDS), at, rows)
            for future, at, rows in waiting:
                assert_is_of(future.result(DEADLINE_SECONDS), at, rows)
        return sent

    with batcher(*encoders, sizes=sizes) as made, ThreadPoolExecutor(len(clips)) as pool:
        sent = sum(pool.map(send, clips))
        assert sum(made.waiting_frames().values()) == 0
    batches = [batch for encoder in encoders for batch in encoder.batches]
    assert {len(batch) for batch in batches} <= set(sizes), "only warmed-up sizes are run"
    frames = sum(len(batch) for batch in batches)
    assert frames == sent if sizes is not GPU_SIZES else frames >= sent, (
        "every frame is encoded once, and on a CPU alone"
    )


def test_frames_of_many_clips_fill_a_batch_in_order() -> None:
    with held() as (made, encoder, release):
        leases = [made.lease() for _ in range(3)]
        wanted = ((10, 3), (20, 6), (30, 1))
        futures = [lease.submit(numbered(*rows)) for lease, rows in zip(leases, wanted, strict=True)]
        assert made.waiting_frames()[Priority.INTERACTIVE] == 10
        release()
        for future, rows in zip(futures, wanted, strict=True):
            assert_is_of(future.result(DEADLINE_SECONDS), *rows)
        assert encoder.batches == [[0], [10, 11, 12, 20], [21, 22, 23, 24], [25, 30]]


def test_on_a_cpu_three_frames_are_run_without_padding() -> None:
    with held() as (made, encoder, release), made.lease() as lease:
        future = lease.submit(numbered(10, 3))
        release()
        future.result(DEADLINE_SECONDS)
        assert encoder.batches == [[0], [10, 11], [12]]


def test_on_a_gpu_three_frames_are_run_as_four() -> None:
    with held(sizes=GPU_SIZES) as (made, encoder, release), made.lease() as lease:
        future = lease.submit(numbered(10, 3))
        release()
        assert_is_of(future.result(DEADLINE_SECONDS), 10, 3)
        assert [len(batch) for batch in encoder.batches] == [1, 4]


def test_idle_executors_share_what_waits() -> None:
    """Two batches of two are done sooner than one of four."""
    met = threading.Barrier(2)

    def together(frames: Frames) -> Features:
        met.wait(DEADLINE_SECONDS)  # passes only when both are at work at once
        return encode(frames)

    first, second = FakeEncoder(together), FakeEncoder(together)
    with batcher(first, second) as made, made.lease() as lease:
        wait_until(lambda: made._num_idle == 2, "two idle executors")
        assert_is_of(lease.submit(numbered(10, 4)).result(DEADLINE_SECONDS), 10, 4)
    assert sorted(first.batches + second.batches) == [[10, 11], [12, 13]]


def test_an_idle_batcher_waits_for_no_company() -> None:
    with batcher(FakeEncoder(max_batch_frames=16), sizes=GPU_SIZES) as made, made.lease() as lease:
        assert_is_of(lease.submit(numbered(7, 1)).result(DEADLINE_SECONDS), 7, 1)


def test_frames_may_be_overwritten_as_soon_as_they_are_copied() -> None:
    """The segment goes back to the decoder before the encoder has run."""
    with held() as (made, _, release), made.lease() as lease:
        frames, copied = numbered(10, 4), threading.Event()

        def overwrite() -> None:
            frames[:] = 255
            copied.set()

        future = lease.submit(frames, copied=overwrite)
        assert not copied.is_set()
        release()
        assert_is_of(future.result(DEADLINE_SECONDS), 10, 4)
        assert copied.is_set()


def test_a_clip_that_leaves_takes_its_frames_with_it() -> None:
    with held() as (made, encoder, release), made.lease() as staying:
        with made.lease() as leaving:
            gone = leaving.submit(numbered(10, 5))
            stays = staying.submit(numbered(20, 2))
        assert made.waiting_frames()[Priority.INTERACTIVE] == 2
        with pytest.raises(CancelledError):
            gone.result(0)
        release()
        assert_is_of(stays.result(DEADLINE_SECONDS), 20, 2)
        assert encoder.batches == [[0], [20, 21]]


def test_a_clip_may_leave_while_its_frames_are_run() -> None:
    with held() as (made, encoder, release):
        with made.lease() as leaving:
            leaving.submit(numbered(10, 2))
        with made.lease() as other:
            release()
            assert_is_of(other.submit(numbered(20, 2)).result(DEADLINE_SECONDS), 20, 2)
        assert [10, 11] not in encoder.batches


def test_close_finishes_what_is_queued() -> None:
    with held() as (made, _, release), made.lease() as lease:
        futures = [lease.submit(numbered(start, 3)) for start in (10, 20, 30)]
        closing = threading.Thread(target=made.close)
        closing.start()
        release()
        closing.join(DEADLINE_SECONDS)
        assert not closing.is_alive()
        for future, start in zip(futures, (10, 20, 30), strict=True):
            assert_is_of(future.result(0), start, 3)
        with pytest.raises(RuntimeError, match="closed"):
            lease.submit(numbered(0, 1))
