"""Frames that carry a number each, and encoders that make features of it: a row in the wrong place shows.

These encoders are made up: what they are given, and when, is what the batcher's tests are about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np

from service.bundle import Precision, Runtime
from service.engine.batch_sizes import BatchSizes
from service.engine.batcher import FrameBatcher
from service.engine.chunks import Encoded, Features, Frames
from tests.server import DEADLINE_SECONDS

FEATURE_SIZE = 2
# As on a CPU: a frame costs the same in any batch.
SIZES = {1: 0.005, 2: 0.010, 4: 0.020}
Function = Callable[[Frames], Features]


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
    assert encoded.taken >= encoded.submitted
    assert encoded.encode_seconds >= 0


class FakeEncoder:
    """The interface of `service.engine.sessions.Encoder` over a function; remembers the batches it was given."""

    precision: Precision = "fp32"
    feature_size = FEATURE_SIZE

    def __init__(
        self, function: Function = encode, max_batch_frames: int = 4, runtime: Runtime = "onnxruntime-cpu"
    ) -> None:
        self.runtime = runtime
        self.buffer: Frames = np.zeros((max_batch_frames, 1, 1, 3), np.uint8)
        self.batches: list[list[int]] = []
        self._function = function

    def run(self, num_frames: int, at: int = 0) -> Features:
        frames = self.buffer[at : at + num_frames].copy()
        self.batches.append(numbers_of(frames))
        return self._function(frames)


class Gate:
    """A function that waits at a gate: what queues up meanwhile is up to the test."""

    def __init__(self, inner: Function = encode) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._inner = inner

    def __call__(self, frames: Frames) -> Features:
        self.entered.set()
        assert self.opened.wait(DEADLINE_SECONDS)
        return self._inner(frames)


@contextmanager
def batcher(*encoders: FakeEncoder, sizes: Mapping[int, float] = SIZES, **options: object) -> Iterator[FrameBatcher]:
    """Closed at the end; `sizes`: seconds a batch of each takes, as if measured."""
    made = FrameBatcher(encoders, BatchSizes(sizes), **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


@contextmanager
def held(
    function: Function = encode,
    sizes: Mapping[int, float] = SIZES,
    *,
    runtime: Runtime = "onnxruntime-cpu",
    **options: object,
) -> Iterator[tuple[FrameBatcher, FakeEncoder, Callable[[], None]]]:
    """A batcher whose one encoder is busy with frame 0 until the third value is called: what comes has to queue."""
    gate = Gate(function)
    encoder = FakeEncoder(gate, max(sizes), runtime)
    with batcher(encoder, sizes=sizes, **options) as made, ExitStack() as leases:
        future = leases.enter_context(made.lease()).submit(numbered(0, 1))
        assert gate.entered.wait(DEADLINE_SECONDS)

        def release() -> None:
            gate.opened.set()
            future.result(DEADLINE_SECONDS)
            leases.close()

        try:
            yield made, encoder, release
        finally:
            gate.opened.set()
