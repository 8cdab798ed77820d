"""The feature cache: what the encoder made of a clip, kept for a second model or another window over it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.metrics import CACHE_BYTES, CACHE_EVICTIONS, CACHE_LOOKUPS
from service.video.chunk import NO_TIMES, Times
from service.video.container import Container
from service.video.report import DecodeReport

# Of one entry beside its arrays: key, report, container, the dictionary's slot; measured 1.9 KiB.
_ENTRY_BYTES = 4096
# A film would push everything else out, and come again the least likely.
_LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class FeatureKey:
    """All that features depend on: equal keys, equal bits.

    file_sha256: of the video. pixels_sha256: of the part of the spec that decides the frames (rate, size, resize).
    stream: of the file's, as asked for. decoder: revision of our decode code, and the libraries' versions.
    """

    file_sha256: str
    pixels_sha256: str
    start_seconds: float
    end_seconds: float
    stream: int | None
    strict: bool
    decoder: str
    encoder_sha256: str
    runtime: str
    precision: str


@dataclass(frozen=True)
class StoredFeatures:
    """A clip decoded to its end: features (frames, D) float32, ticks (frames,) int64 that each frame serves.

    seconds: (frames,) float64, when each is shown, where the frames are the ticks; else (0,).
    """

    features: NDArray[np.float32]
    ticks: NDArray[np.int64]
    seconds: Times
    report: DecodeReport
    container: Container

    @property
    def num_bytes(self) -> int:
        """What it takes up in the cache."""
        return self.features.nbytes + self.ticks.nbytes + self.seconds.nbytes + _ENTRY_BYTES


class FeatureCache:
    """Least recently used first out, bounded in bytes; thread-safe. max_bytes 0: nothing is kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[FeatureKey, StoredFeatures] = OrderedDict()
        self._num_bytes = self._reserved = 0
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
        for array in (stored.features, stored.ticks, stored.seconds):
            array.flags.writeable = False
        with self._lock:
            self._forget(self._entries.pop(key, None))
            self._make_room(stored.num_bytes)
            if self._num_bytes + self._reserved + stored.num_bytes > self.max_bytes:
                return  # clips that stream hold the rest
            self._entries[key] = stored
            self._num_bytes += stored.num_bytes
            CACHE_BYTES.set(self._num_bytes)

    def collect(self) -> Collector:
        """For one clip that streams."""
        return Collector(self)

    def reserve(self, num_bytes: int) -> bool:
        """Take bytes for a clip that streams, and let the least recently used go for them; False: all is reserved."""
        with self._lock:
            if self._reserved + num_bytes > self.max_bytes:
                return False
            self._reserved += num_bytes
            self._make_room(0)
            return True

    def release(self, num_bytes: int) -> None:
        """Give reserved bytes back."""
        with self._lock:
            self._reserved -= num_bytes

    def _make_room(self, num_bytes: int) -> None:
        while self._entries and self._num_bytes + self._reserved + num_bytes > self.max_bytes:
            self._forget(self._entries.popitem(last=False)[1])
            CACHE_EVICTIONS.inc()
        CACHE_BYTES.set(self._num_bytes)

    def _forget(self, stored: StoredFeatures | None) -> None:
        self._num_bytes -= stored.num_bytes if stored else 0


class Collector:
    """Gathers a clip's features while it streams, of the cache's own bytes; gives up, and frees them, beyond its share.

    A context manager: leaving gives back what was not kept.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._reserved = 0
        self._features: list[NDArray[np.float32]] = []
        self._ticks: list[NDArray[np.int64]] = []
        self._seconds: list[Times] = []
        self._gave_up = not self._reserve(_ENTRY_BYTES)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._cache.release(self._reserved)
        self._reserved = 0

    def add(self, features: NDArray[np.float32], ticks: NDArray[np.int64], seconds: Times = NO_TIMES) -> None:
        """One chunk's features (N, D) float32, ticks (N,) int64 and seconds, as `FrameChunk` has them.

        Kept as they are, so don't write them again.
        """
        if self._gave_up:
            return
        if self._reserve(features.nbytes + ticks.nbytes + seconds.nbytes):
            self._features.append(features)
            self._ticks.append(ticks)
            self._seconds.append(seconds)
        else:
            self._gave_up = True
            self._features.clear()
            self._ticks.clear()
            self._seconds.clear()
            self._cache.release(self._reserved)
            self._reserved = 0

    def keep(self, key: FeatureKey, report: DecodeReport, container: Container) -> None:
        """Put everything added into the cache; only after a complete decode."""
        if self._gave_up or not self._features:
            return
        features, ticks = np.concatenate(self._features), np.concatenate(self._ticks)
        stored = StoredFeatures(features, ticks, np.concatenate(self._seconds), report, container)
        self._cache.release(self._reserved)
        self._reserved = 0
        self._cache.put(key, stored)

    def _reserve(self, num_bytes: int) -> bool:
        if self._reserved + num_bytes > self._cache.max_item_bytes or not self._cache.reserve(num_bytes):
            return False
        self._reserved += num_bytes
        return True
