"""Batch sizes: which are warmed up, and which is run when so many frames wait."""

from __future__ import annotations

import time

import numpy as np
import pytest

from service.bundle import Runtime
from service.engine.batch_sizes import BatchSizes, sizes_for
from service.engine.chunks import Features, Frames
from tests.service.engine.numbered import FakeEncoder, encode, numbered

CPU = BatchSizes({1: 0.0058, 2: 0.0112, 4: 0.022})
GPU = BatchSizes({1: 0.005, 4: 0.0055, 16: 0.007, 64: 0.015})


@pytest.mark.parametrize(("waiting", "size"), [(1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (100, 4)])
def test_a_cpu_never_pads(waiting: int, size: int) -> None:
    assert CPU.best(waiting) == size


@pytest.mark.parametrize(("waiting", "size"), [(1, 1), (2, 4), (4, 4), (5, 4), (6, 16), (16, 16), (30, 16), (40, 64)])
def test_a_gpu_pads_where_that_is_quicker(waiting: int, size: int) -> None:
    """5 frames: four in 5.5 ms beat five in 7 ms. 30: 16 in 7 ms beat 30 in 15 ms."""
    assert GPU.best(waiting) == size


def test_noise_of_the_timing_does_not_choose_a_smaller_batch() -> None:
    assert BatchSizes({1: 0.0055, 2: 0.0112, 4: 0.0225}).best(4) == 4


def test_where_two_cores_share_a_cache_the_smaller_batch_wins() -> None:
    """Measured on two cores: 5.1 ms a frame in batches of 2, 5.5 in batches of 4."""
    assert BatchSizes({1: 0.0052, 2: 0.0102, 4: 0.022}).best(16) == 2


@pytest.mark.parametrize(("seconds", "size"), [(0.015, 2), (0.03, 4), (0.001, 1)])
def test_the_largest_within_a_time(seconds: float, size: int) -> None:
    assert CPU.within(seconds) == size


def test_the_smallest_with_room() -> None:
    assert [CPU.at_least(frames) for frames in (1, 2, 3, 4)] == [1, 2, 4, 4]


@pytest.mark.parametrize(
    ("runtime", "most", "sizes"),
    [
        ("onnxruntime-cpu", None, (1, 2, 4)),
        ("openvino-cpu", 8, (1, 2, 4, 8)),
        ("onnxruntime-cpu", 1, (1,)),
        ("onnxruntime-cpu", 3, (1, 2, 3)),
        ("onnxruntime-cuda", None, (1, 4, 16, 64)),
        ("onnxruntime-cuda", 32, (1, 4, 16, 32)),
        ("onnxruntime-tensorrt", 256, (1, 4, 16, 64, 256)),
    ],
)
def test_few_sizes_by_provider(runtime: Runtime, most: int | None, sizes: tuple[int, ...]) -> None:
    assert sizes_for(runtime, most) == sizes


def test_every_size_is_run_on_every_encoder_before_the_first_request() -> None:
    encoders = [FakeEncoder(), FakeEncoder()]
    timed = BatchSizes.timed(encoders, (1, 2, 4))
    for encoder in encoders:
        assert {len(batch) for batch in encoder.batches} == {1, 2, 4}
    assert set(timed.seconds) == {1, 2, 4}
    assert timed.largest == 4
    assert 0 < timed.frame_seconds <= timed.seconds[1]


def test_where_small_runs_are_quicker_a_batch_is_several() -> None:
    def slow_in_fours(frames: Frames) -> Features:
        time.sleep({1: 0.004, 2: 0.006, 4: 0.03}[len(frames)])
        return encode(frames)

    encoder = FakeEncoder(slow_in_fours)
    sizes = BatchSizes.timed([encoder], (1, 2, 4))
    assert sizes.run_frames == 2
    assert sizes.seconds[4] == 2 * sizes.seconds[2]
    assert sizes.best(4) == 4
    assert str(sizes).endswith(", 2 a run")
    encoder.batches.clear()
    encoder.buffer[:] = numbered(10, 4)
    features, seconds = sizes.encode(encoder, 4)
    assert encoder.batches == [[10, 11], [12, 13]]
    np.testing.assert_array_equal(features, encode(encoder.buffer))
    assert seconds > 0


def test_a_batch_that_is_no_multiple_ends_with_a_smaller_run() -> None:
    encoder = FakeEncoder()
    encoder.buffer[:] = numbered(10, 4)
    features, _ = BatchSizes({1: 1.0, 2: 1.0, 3: 2.0}, run_frames=2).encode(encoder, 3)
    assert encoder.batches == [[10, 11], [12]]
    np.testing.assert_array_equal(features, encode(encoder.buffer[:3]))


def test_an_encoder_that_fails_while_it_warms_up_holds_nobody() -> None:
    def fails(frames: Frames) -> Features:
        raise ValueError(f"frozen to one frame, not {len(frames)}")

    with pytest.raises(ValueError, match="frozen to one frame"):
        BatchSizes.timed([FakeEncoder(), FakeEncoder(fails)], (1, 2))
