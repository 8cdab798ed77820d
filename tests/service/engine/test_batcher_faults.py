"""A runtime that fails: whom it costs what, and what is tried again."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from service.engine.chunks import Features, Frames
from service.engine.sessions import DeviceLost
from service.errors import EngineFailed, EngineLost
from tests.server import DEADLINE_SECONDS
from tests.service.engine.numbered import FakeEncoder, assert_is_of, batcher, encode, held, numbered, numbers_of

BAD = 666
WIDE = {1: 0.005, 2: 0.01, 4: 0.02, 8: 0.04}


def fails_on_bad(frames: Frames) -> Features:
    if BAD in numbers_of(frames):
        raise ValueError("a bad frame")
    return encode(frames)


def test_a_bad_frame_fails_its_own_clip_only() -> None:
    """It shares a batch with two others; each of them is tried again alone."""
    with held(fails_on_bad, WIDE) as (made, _, release):
        before, bad, after = (made.lease() for _ in range(3))
        futures = [lease.submit(numbered(at, 2)) for lease, at in ((before, 10), (bad, BAD - 1), (after, 20))]
        release()
        assert_is_of(futures[0].result(DEADLINE_SECONDS), 10, 2)
        assert_is_of(futures[2].result(DEADLINE_SECONDS), 20, 2)
        with pytest.raises(EngineFailed, match="twice"):
            futures[1].result(DEADLINE_SECONDS)
        assert_is_of(after.submit(numbered(30, 3)).result(DEADLINE_SECONDS), 30, 3)


def test_parts_of_unequal_length_are_tried_again_with_their_own_frames() -> None:
    """They are moved within the buffer: none may be overwritten before its turn."""
    with held(fails_on_bad, WIDE) as (made, _, release):
        leases = [made.lease() for _ in range(4)]
        starts = ((10, 1), (BAD, 1), (20, 4), (30, 2))
        futures = [lease.submit(numbered(*rows)) for lease, rows in zip(leases, starts, strict=True)]
        release()
        for future, rows in zip(futures, starts, strict=True):
            if rows[0] != BAD:
                assert_is_of(future.result(DEADLINE_SECONDS), *rows)


def test_the_rest_of_a_failed_clip_is_not_encoded() -> None:
    with held(fails_on_bad, {1: 0.005, 2: 0.01}) as (made, encoder, release), made.lease() as lease:
        bad, next_chunk = lease.submit(numbered(BAD, 7)), lease.submit(numbered(800, 2))
        release()
        for future in (bad, next_chunk):
            with pytest.raises(EngineFailed):
                future.result(DEADLINE_SECONDS)
        assert sum(made.waiting_frames().values()) == 0
        with made.lease() as other:
            assert_is_of(other.submit(numbered(30, 3)).result(DEADLINE_SECONDS), 30, 3)
    run = {number for batch in encoder.batches for number in batch}
    assert BAD in run
    assert not run & {BAD + 2, 800}


def test_a_fault_that_passes_costs_nobody_an_answer() -> None:
    calls = iter(range(100))

    def fails_once(frames: Frames) -> Features:
        if next(calls) == 1:
            raise RuntimeError("out of memory, for a moment")
        return encode(frames)

    with held(fails_once) as (made, _, release), made.lease() as lease:
        future = lease.submit(numbered(10, 4))
        release()
        assert_is_of(future.result(DEADLINE_SECONDS), 10, 4)


def test_features_that_are_no_numbers_fail_their_clip_only() -> None:
    def overflows(frames: Frames) -> Features:
        features = encode(frames)
        features[features[:, 0] == BAD] = np.nan
        return features

    with held(overflows) as (made, _, release), made.lease() as good, made.lease() as bad:
        futures = [good.submit(numbered(10, 2)), bad.submit(numbered(BAD, 2))]
        release()
        assert_is_of(futures[0].result(DEADLINE_SECONDS), 10, 2)
        with pytest.raises(EngineFailed, match="finite"):
            futures[1].result(DEADLINE_SECONDS)


def test_features_that_were_no_numbers_once_cost_nobody_an_answer() -> None:
    calls = iter(range(100))

    def overflows_once(frames: Frames) -> Features:
        features = encode(frames)
        return features * np.nan if next(calls) == 1 else features

    with held(overflows_once) as (made, _, release), made.lease() as one, made.lease() as other:
        futures = [one.submit(numbered(10, 1)), other.submit(numbered(20, 3))]
        release()
        assert_is_of(futures[0].result(DEADLINE_SECONDS), 10, 1)
        assert_is_of(futures[1].result(DEADLINE_SECONDS), 20, 3)


def test_a_lost_device_fails_all_at_once_and_is_told_once() -> None:
    """Made up: a sticky CUDA error as `sessions` reports it."""
    told: list[EngineLost] = []
    submitted = threading.Event()

    def lost(frames: Frames) -> Features:  # noqa: ARG001  (no frame comes through)
        assert submitted.wait(DEADLINE_SECONDS)
        raise DeviceLost("CUDA failure 700: an illegal memory access was encountered")

    encoders = [FakeEncoder(lost), FakeEncoder(lost)]
    with batcher(*encoders, lost=told.append) as made:
        leases = [made.lease() for _ in range(5)]
        futures = [lease.submit(numbered(10 * row, 8)) for row, lease in enumerate(leases)]
        submitted.set()
        for future in futures:
            with pytest.raises(EngineLost, match="illegal memory access"):
                future.result(DEADLINE_SECONDS)
        with pytest.raises(EngineLost):
            leases[0].submit(numbered(90, 1))
    assert len(told) == 1
    assert all(len(encoder.batches) <= 1 for encoder in encoders), "a lost device is not tried again"


def test_frames_of_another_size_fail_their_clip_only() -> None:
    """Copied outside of what is caught they once ended the executor's thread, and every later clip hung."""
    with held() as (made, _, release):
        wrong, good = made.lease(), made.lease()
        futures = [wrong.submit(np.zeros((2, 3, 5, 3), np.uint8)), good.submit(numbered(10, 2))]
        release()
        with pytest.raises(EngineFailed, match="don't fit"):
            futures[0].result(DEADLINE_SECONDS)
        assert_is_of(futures[1].result(DEADLINE_SECONDS), 10, 2)
        assert_is_of(good.submit(numbered(20, 3)).result(DEADLINE_SECONDS), 20, 3)
