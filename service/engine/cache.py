"""The feature cache: what the encoder made of a clip, kept for a second model or another window over it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.metrics import CACHE_BYTES, CACHE_EVICTIONS, CACHE_LOOKUPS
from service.video.container import Container
from service.video.decode import DecodeReport

# Of one entry beside its arrays: key, report, container, the dictionary's slot; measured 1.9 KiB.
_ENTRY_BYTES = 4096
# A film would push everything else out, and come again the least likely.
_LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class FeatureKey:
    """All that features depend on: equal keys, equal bits.

    file_sha256: of the video. pixels_sha256: of the part of the spec that decides the frames (rate, size, resize).
    decoder: revision of our decode code, and OpenCV's version.
    """

    file_sha256: str
    pixels_sha256: str
    start_seconds: float
    end_seconds: float
    strict: bool
    decoder: str
    encoder_sha256: str
    runtime: str
    precision: str


@dataclass(frozen=True)
class StoredFeatures:
    """A clip decoded to its end: features (frames, D) float32, ticks (frames,) int64 that each frame serves."""

    features: NDArray[np.float32]
    ticks: NDArray[np.int64]
    report: DecodeReport
    container: Container

    @property
    def num_bytes(self) -> int:
        """What it takes up in the cache."""
        return self.features.nbytes + self.ticks.nbytes + _ENTRY_BYTES


class FeatureCache:
    """Least recently used first out, bounded in bytes; thread-safe. max_bytes 0: nothing is kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[FeatureKey, StoredFeatures] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self.max_bytes > 0

    @property
    def max_item_bytes(self) -> int:
        """Largest entry that is kept."""
        return math.floor(self.max_bytes * _LARGEST_SHARE)

    @property
    def num_bytes(self) -> int:
        """Bytes of all entries, at most `max_bytes`."""
        return self._num_bytes

    def get(self, key: FeatureKey) -> StoredFeatures | None:
        """What is stored under `key`, its arrays read-only; counted as a hit or a miss."""
        with self._lock:
            stored = self._entries.get(key)
            if stored is not None:
                self._entries.move_to_end(key)
        if self.on:
            CACHE_LOOKUPS.labels("miss" if stored is None else "hit").inc()
        return stored

    def put(self, key: FeatureKey, stored: StoredFeatures) -> None:
        """Keep it, and let the least recently used go; what is larger than `max_item_bytes` is not kept."""
        if stored.num_bytes > self.max_item_bytes:
            return
        stored.features.flags.writeable = False
        stored.ticks.flags.writeable = False
        with self._lock:
            self._forget(self._entries.pop(key, None))
            while self._num_bytes + stored.num_bytes > self.max_bytes:
                self._forget(self._entries.popitem(last=False)[1])
                CACHE_EVICTIONS.inc()
            self._entries[key] = stored
            self._num_bytes += stored.num_bytes
            CACHE_BYTES.set(self._num_bytes)

    def _forget(self, stored: StoredFeatures | None) -> None:
        self._num_bytes -= stored.num_bytes if stored else 0


class Collector:
    """Gathers a clip's features while it streams; gives up, and frees them, beyond `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes - _ENTRY_BYTES
        self._features: list[NDArray[np.float32]] = []
        self._ticks: list[NDArray[np.int64]] = []

    def add(self, features: NDArray[np.float32], ticks: NDArray[np.int64]) -> None:
        """One chunk's features (N, D) float32 and ticks (N,) int64; kept as they are, so don't write them again."""
        if self._left < 0:
            return
        self._left -= features.nbytes + ticks.nbytes
        if self._left < 0:
            self._features.clear()
            self._ticks.clear()
        else:
            self._features.append(features)
            self._ticks.append(ticks)

    def stored(self, report: DecodeReport, container: Container) -> StoredFeatures | None:
        """Everything added, in copies of its own; None where that was too much. Only after a complete decode."""
        if not self._features:
            return None
        return StoredFeatures(np.concatenate(self._features), np.concatenate(self._ticks), report, container)
