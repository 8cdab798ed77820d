"""Shared memory for the chunks of one video (memfd_create(2)): no name, no /dev/shm, freed with its last holder."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections import deque

import numpy as np
from numpy.typing import NDArray

from service.metrics import SHARED_MEMORY_BYTES

# A decoder that shrank a segment under our feet would kill the service with SIGBUS.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segments:
    """`count` segments, each of uint8 frames `shape` (N, H, W, 3); a page costs memory once it is written."""

    def __init__(self, count: int, shape: tuple[int, int, int, int]) -> None:
        self.descriptors: list[int] = []
        self._frames: list[NDArray[np.uint8]] = []
        for _ in range(count):
            descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self.descriptors.append(descriptor)
            os.ftruncate(descriptor, math.prod(shape))
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            self._frames.append(np.frombuffer(memory, np.uint8).reshape(shape))
        self._free = deque(range(count))
        self._num_bytes = count * math.prod(shape)
        SHARED_MEMORY_BYTES.inc(self._num_bytes)

    def take(self) -> int:
        """A segment to fill. RuntimeError when all are held."""
        if not self._free:
            raise RuntimeError(f"all {len(self._frames)} chunks of the video are held; release one before the next")
        return self._free.popleft()

    def give_back(self, segment: int) -> None:
        """Its frames have been read."""
        self._free.append(segment)

    def frames(self, segment: int) -> NDArray[np.uint8]:
        """Its frames, read-only, valid until it is given back; the memory lives as long as the array."""
        return self._frames[segment]

    def close(self) -> None:
        """Let go; what a consumer still holds stays until it lets go too."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []
        SHARED_MEMORY_BYTES.dec(self._num_bytes)
        self._num_bytes = 0
        self._frames = []
