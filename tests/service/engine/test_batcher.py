"""The frame batcher, with plain functions as encoders: what they are given and when is what these tests are about.

Every frame carries a number; its feature is made of that number, so that a row in the wrong place shows.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from service.engine.batcher import Encoded, Features, FrameBatcher, Frames
from tests.server import DEADLINE_SECONDS

FEATURE_SIZE = 2
Encoder = Callable[[Frames], Features]


def numbered(start: int, count: int) -> Frames:
    """Frames (count, 1, 1, 3) that carry start, start + 1, …"""
    numbers = np.arange(start, start + count, dtype=">u4")
    return numbers.view(np.uint8).reshape(count, 1, 1, 4)[..., 1:].copy()


def numbers_of(frames: Frames) -> list[int]:
    return [int(high) * 65536 + int(middle) * 256 + int(low) for high, middle, low in frames[:, 0, 0]]


def encode(frames: Frames) -> Features:
    """Each frame's number, and its negative."""
    numbers = np.array(numbers_of(frames), np.float32)
    return np.stack([numbers, -numbers], axis=1)


def assert_is_of(encoded: Encoded, start: int, count: int) -> None:
    expected = np.arange(start, start + count, dtype=np.float32)
    np.testing.assert_array_equal(encoded.features, np.stack([expected, -expected], axis=1))
    assert encoded.features.dtype == np.float32
    assert encoded.queue_seconds >= 0
    assert encoded.encode_seconds >= 0


@contextmanager
def batcher(
    *encoders: Encoder, max_batch_frames: int = 4, max_queue_frames: int = 64, observed: list[int] | None = None
) -> Iterator[FrameBatcher]:
    made = FrameBatcher(
        encoders,
        FEATURE_SIZE,
        max_batch_frames=max_batch_frames,
        max_queue_frames=max_queue_frames,
        observe=(observed if observed is not None else []).append,
    )
    try:
        yield made
    finally:
        made.close()


class Gate:
    """An encoder that waits at a gate: what queues up meanwhile is up to the test."""

    def __init__(self, inner: Encoder = encode) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._inner = inner

    def __call__(self, frames: Frames) -> Features:
        self.batches.append(numbers_of(frames))
        self.entered.set()
        assert self.opened.wait(DEADLINE_SECONDS)
        return self._inner(frames)


@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize(("max_batch_frames", "max_queue_frames"), [(1, 1), (4, 8), (8, 256), (32, 5)])
def test_every_row_is_its_own_frame_s(sessions: int, max_batch_frames: int, max_queue_frames: int) -> None:
    observed: list[int] = []
    clips = [(clip * 10_000, random.Random(clip)) for clip in range(8)]
    sent: list[int] = []

    def send(clip: tuple[int, random.Random]) -> None:
        start, rng = clip
        waiting = []
        for _ in range(25):
            count = rng.choice([1, 1, 2, 3, 7, 8, 40])
            waiting.append((made.submit(numbered(start, count)), start, count))
            start += count
            if len(waiting) == 2:
                future, at, rows = waiting.pop(0)
                assert_is_of(future.result(DEADLINE_SECONDS), at, rows)
            sent.append(count)
        for future, at, rows in waiting:
            assert_is_of(future.result(DEADLINE_SECONDS), at, rows)

    settings = {"max_batch_frames": max_batch_frames, "max_queue_frames": max_queue_frames}
    with batcher(*[encode] * sessions, **settings, observed=observed) as made, ThreadPoolExecutor(len(clips)) as pool:
        list(pool.map(send, clips))
        assert made.waiting_frames() == 0
    assert max(observed) <= max_batch_frames
    assert sum(observed) == sum(sent), "every frame is encoded once"


def test_frames_of_many_clips_fill_a_batch_in_order() -> None:
    gate = Gate()
    with batcher(gate, max_batch_frames=4) as made:
        futures = [made.submit(numbered(0, 1))]
        assert gate.entered.wait(DEADLINE_SECONDS)
        futures += [made.submit(numbered(start, count)) for start, count in ((10, 3), (20, 6), (30, 1))]
        assert made.waiting_frames() == 10
        gate.opened.set()
        for future, (start, count) in zip(futures, ((0, 1), (10, 3), (20, 6), (30, 1)), strict=True):
            assert_is_of(future.result(DEADLINE_SECONDS), start, count)
    assert gate.batches == [[0], [10, 11, 12, 20], [21, 22, 23, 24], [25, 30]]


def test_an_idle_batcher_waits_for_no_company() -> None:
    with batcher(encode, max_batch_frames=256, max_queue_frames=256) as made:
        assert_is_of(made.submit(numbered(7, 1)).result(DEADLINE_SECONDS), 7, 1)


def test_a_full_queue_makes_the_sender_wait() -> None:
    gate, sent = Gate(), threading.Event()
    with batcher(gate, max_batch_frames=4, max_queue_frames=8) as made:
        futures = [made.submit(numbered(0, 4))]
        assert gate.entered.wait(DEADLINE_SECONDS)
        futures += [made.submit(numbered(10, 5)), made.submit(numbered(20, 3))]

        def send_one_more() -> None:
            futures.append(made.submit(numbered(30, 1)))
            sent.set()

        sender = threading.Thread(target=send_one_more)
        sender.start()
        assert not sent.wait(0.2)
        assert made.waiting_frames() == 8
        gate.opened.set()
        assert sent.wait(DEADLINE_SECONDS)
        sender.join()
        for future, (start, count) in zip(futures, ((0, 4), (10, 5), (20, 3), (30, 1)), strict=True):
            assert_is_of(future.result(DEADLINE_SECONDS), start, count)


def test_a_chunk_larger_than_the_queue_goes_in_alone() -> None:
    with batcher(encode, max_batch_frames=2, max_queue_frames=3) as made:
        assert_is_of(made.submit(numbered(5, 50)).result(DEADLINE_SECONDS), 5, 50)


BAD = 666


def fails_on_bad(frames: Frames) -> Features:
    if BAD in numbers_of(frames):
        raise ValueError("a bad frame")
    return encode(frames)


def test_a_bad_frame_fails_its_own_chunk_only() -> None:
    """The bad chunk shares a batch with two others; each of them is tried again alone."""
    gate = Gate(fails_on_bad)
    with batcher(gate, max_batch_frames=8) as made:
        first = made.submit(numbered(0, 1))
        assert gate.entered.wait(DEADLINE_SECONDS)
        before, bad, after = (made.submit(numbered(start, 2)) for start in (10, BAD - 1, 20))
        gate.opened.set()
        assert_is_of(first.result(DEADLINE_SECONDS), 0, 1)
        assert_is_of(before.result(DEADLINE_SECONDS), 10, 2)
        assert_is_of(after.result(DEADLINE_SECONDS), 20, 2)
        with pytest.raises(ValueError, match="a bad frame"):
            bad.result(DEADLINE_SECONDS)
        assert_is_of(made.submit(numbered(30, 3)).result(DEADLINE_SECONDS), 30, 3)


def test_the_rest_of_a_failed_chunk_is_not_encoded() -> None:
    gate = Gate(fails_on_bad)
    with batcher(gate, max_batch_frames=2) as made:
        first = made.submit(numbered(0, 1))
        assert gate.entered.wait(DEADLINE_SECONDS)
        bad = made.submit(numbered(BAD, 7))
        gate.opened.set()
        first.result(DEADLINE_SECONDS)
        with pytest.raises(ValueError, match="a bad frame"):
            bad.result(DEADLINE_SECONDS)
        assert made.waiting_frames() == 0
        assert_is_of(made.submit(numbered(30, 3)).result(DEADLINE_SECONDS), 30, 3)
    assert gate.batches[1] == [BAD, BAD + 1]
    assert BAD + 2 not in {number for batch in gate.batches for number in batch}


def test_a_bad_chunk_with_others_waiting_ends_no_thread() -> None:
    gate = Gate(fails_on_bad)
    with batcher(gate, max_batch_frames=2) as made:
        first = made.submit(numbered(0, 1))
        assert gate.entered.wait(DEADLINE_SECONDS)
        bad, good = made.submit(numbered(BAD, 2)), made.submit(numbered(10, 2))
        gate.opened.set()
        assert_is_of(first.result(DEADLINE_SECONDS), 0, 1)
        with pytest.raises(ValueError, match="a bad frame"):
            bad.result(2)
        assert_is_of(good.result(2), 10, 2)


def test_close_finishes_what_is_queued() -> None:
    gate = Gate()
    with batcher(gate, max_batch_frames=2) as made:
        futures = [made.submit(numbered(start, 3)) for start in (0, 10, 20)]
        closing = threading.Thread(target=made.close)
        closing.start()
        gate.opened.set()
        closing.join(DEADLINE_SECONDS)
        assert not closing.is_alive()
        for future, start in zip(futures, (0, 10, 20), strict=True):
            assert_is_of(future.result(0), start, 3)
        with pytest.raises(RuntimeError, match="closed"):
            made.submit(numbered(0, 1))


def test_close_wakes_a_sender_that_waits() -> None:
    gate = Gate()
    with batcher(gate, max_batch_frames=1, max_queue_frames=1) as made, ThreadPoolExecutor(2) as pool:
        made.submit(numbered(0, 1))
        assert gate.entered.wait(DEADLINE_SECONDS)
        made.submit(numbered(1, 1))
        waiting = pool.submit(made.submit, numbered(2, 1))
        closing = pool.submit(made.close)
        with pytest.raises(RuntimeError, match="closed"):
            waiting.result(DEADLINE_SECONDS)
        gate.opened.set()
        closing.result(DEADLINE_SECONDS)
