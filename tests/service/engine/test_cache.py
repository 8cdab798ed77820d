"""The feature cache against a plain model of one, from many threads, and what it refuses to keep."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from service.engine.cache import FeatureCache, FeatureKey, StoredFeatures
from service.video.chunk import NO_TIMES
from service.video.container import Container
from service.video.report import DecodeReport

REPORT = DecodeReport(
    duration_seconds=1.0, stream_start_seconds=0.0, width=32, height=32, sample_aspect_ratio="1:1", codec="h264",
    decoder="opencv", rotation_degrees=0, mirrored=False, time_base="pts",
    frames_walked=8, frames_decoded=8, frames_used=8, frames_repeated=0, frames_dropped=0,
    frames_damaged=0, first_seconds=0.0, last_seconds=0.9, origin_seconds=0.0, ticks=8,
    ticks_end_seconds=1.0,
)  # fmt: skip
KEY = FeatureKey(
    file_sha256="f" * 64, pixels_sha256="a" * 64, start_seconds=0.0, end_seconds=9.0, stream=None, strict=False,
    decoder="1",
    encoder_sha256="e" * 64, runtime="onnxruntime-cpu", precision="fp32",
)  # fmt: skip


def key(name: str) -> FeatureKey:
    return FeatureKey(**{**vars(KEY), "file_sha256": name})


def stored(num_frames: int, value: float = 0.0, size: int = 250) -> StoredFeatures:
    features = np.full((num_frames, size), value, np.float32)
    return StoredFeatures(features, np.ones(num_frames, np.int64), NO_TIMES, REPORT, Container())


def sample(name: str, labels: Mapping[str, str] | None = None) -> float:
    return REGISTRY.get_sample_value(name, dict(labels or {})) or 0.0


class ModelCache:
    """What a cache should be: a list, the least recently used first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.entries: list[tuple[str, StoredFeatures]] = []

    def get(self, name: str) -> StoredFeatures | None:
        found = [entry for entry in self.entries if entry[0] == name]
        self.entries = [entry for entry in self.entries if entry[0] != name] + found
        return found[0][1] if found else None

    def put(self, name: str, value: StoredFeatures) -> None:
        if value.num_bytes > self.max_bytes // 4:
            return
        self.entries = [entry for entry in self.entries if entry[0] != name] + [(name, value)]
        while sum(entry[1].num_bytes for entry in self.entries) > self.max_bytes:
            del self.entries[0]


NAMES = st.sampled_from("abcdefgh")
SIZES = st.sampled_from([1, 4, 8, 16, 40])


@given(st.lists(st.tuples(NAMES, st.none() | SIZES), max_size=60), st.sampled_from([0, 40_000, 100_000]))
def test_it_keeps_what_a_plain_model_keeps(steps: list[tuple[str, int | None]], max_bytes: int) -> None:
    cache, model = FeatureCache(max_bytes), ModelCache(max_bytes)
    for name, num_frames in steps:
        if num_frames is None:
            assert cache.get(key(name)) is model.get(name)
        else:
            value = stored(num_frames)
            cache.put(key(name), value)
            model.put(name, value)
        assert cache.num_bytes == sum(value.num_bytes for _, value in model.entries) <= max_bytes
        assert sample("reelserve_feature_cache_bytes") == cache.num_bytes or not model.entries


def test_hits_and_misses_are_counted() -> None:
    cache = FeatureCache(100_000)

    def lookups(outcome: str) -> float:
        return sample("reelserve_feature_cache_lookups_total", {"outcome": outcome})

    before = lookups("hit"), lookups("miss"), sample("reelserve_feature_cache_evictions_total")
    for name in "abcdefgh":
        cache.put(key(name), stored(16))
    assert cache.get(key("h")) is not None
    assert cache.get(key("a")) is None
    after = lookups("hit"), lookups("miss"), sample("reelserve_feature_cache_evictions_total")
    kept = 100_000 // stored(16).num_bytes
    assert np.subtract(after, before).tolist() == [1, 1, 8 - kept]


def test_off_counts_and_keeps_nothing() -> None:
    cache = FeatureCache(0)
    before = sample("reelserve_feature_cache_lookups_total", {"outcome": "miss"})
    cache.put(KEY, stored(1))
    assert not cache.on
    assert cache.get(KEY) is None
    assert sample("reelserve_feature_cache_lookups_total", {"outcome": "miss"}) == before
    with cache.collect() as collector:
        collector.add(np.zeros((1, 4), np.float32), np.ones(1, np.int64))
        collector.keep(KEY, REPORT, Container())
    assert cache.get(KEY) is None


@pytest.mark.parametrize("name", [field.name for field in fields(FeatureKey)])
def test_every_part_of_the_key_counts(name: str) -> None:
    cache = FeatureCache(100_000)
    cache.put(KEY, stored(1))
    old = getattr(KEY, name)
    other = {float: 0.5, bool: True}.get(type(old), "other")
    assert cache.get(FeatureKey(**{**vars(KEY), name: other})) is None
    assert cache.get(KEY) is not None


def test_what_is_stored_cannot_be_written() -> None:
    cache = FeatureCache(100_000)
    cache.put(KEY, stored(2))
    found = cache.get(KEY)
    assert found
    for array in (found.features, found.ticks):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_an_entry_s_overhead_is_counted() -> None:
    """The objects beside the arrays, as Python counts them: a cache of tiny clips is bounded too."""
    beside = sum(
        sys.getsizeof(part) + sys.getsizeof(vars(part)) + sum(map(sys.getsizeof, vars(part).values()))
        for part in (KEY, REPORT, Container(), stored(0))
    )
    assert beside <= stored(0).num_bytes


def test_many_threads() -> None:
    """Each reads back what it or another wrote under that name, whole; the bytes add up in the end."""
    cache = FeatureCache(200_000)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(300):
            number = int(random.integers(12))
            name = str(number)
            found = cache.get(key(name))
            if found is not None and not (found.features == number).all():
                wrong.append(name)
            cache.put(key(name), stored(int(random.integers(1, 20)), number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    held = [found for number in range(12) if (found := cache.get(key(str(number))))]
    assert held
    assert cache.num_bytes == sum(found.num_bytes for found in held) <= cache.max_bytes


def test_a_collector_gives_the_chunks_in_order_in_memory_of_its_own() -> None:
    chunks = [np.arange(8, dtype=np.float32).reshape(2, 4) + at for at in range(3)]
    cache = FeatureCache(1_000_000)
    with cache.collect() as collector:
        for at, chunk in enumerate(chunks):
            collector.add(chunk, np.full(2, at + 1))
        collector.keep(KEY, REPORT, Container(format="MPEG-4"))
    got = cache.get(KEY)
    assert got
    assert np.array_equal(got.features, np.concatenate(chunks))
    assert got.ticks.tolist() == [1, 1, 2, 2, 3, 3]
    assert (got.report, got.container.format) == (REPORT, "MPEG-4")
    assert not any(np.shares_memory(got.features, chunk) for chunk in chunks)


def test_times_of_frames_are_kept_and_counted() -> None:
    cache = FeatureCache(1_000_000)
    with cache.collect() as collector:
        for at in (0.0, 0.1):
            collector.add(np.zeros((2, 4), np.float32), np.ones(2, np.int64), np.array([at, at + 0.04]))
        collector.keep(KEY, REPORT, Container())
    got = cache.get(KEY)
    assert got
    assert got.seconds.tolist() == [0.0, 0.04, 0.1, 0.14]
    assert not got.seconds.flags.writeable
    grid = replace(got, seconds=NO_TIMES)
    assert cache.num_bytes == got.num_bytes == grid.num_bytes + 4 * 8


def collect(cache: FeatureCache, sizes: list[int], key: FeatureKey = KEY) -> None:
    with cache.collect() as collector:
        for size in sizes:
            collector.add(np.zeros((size, 32), np.float32), np.ones(size, np.int64))
        collector.keep(key, REPORT, Container())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_a_collector_gives_exactly_what_the_cache_keeps(sizes: list[int]) -> None:
    cache = FeatureCache(160_000)
    collect(cache, sizes)
    assert (cache.get(KEY) is not None) == (stored(sum(sizes), size=32).num_bytes <= cache.max_item_bytes)
    assert cache.reserve(cache.max_bytes), "nothing stays reserved"


def test_clips_that_stream_take_of_the_cache_s_own_bytes() -> None:
    """Eight of them once held twice the cache beside it."""
    cache = FeatureCache(160_000)
    collect(cache, [100])
    with contextlib.ExitStack() as stack:
        collectors = [stack.enter_context(cache.collect()) for _ in range(8)]
        held = [0] * 8
        for _ in range(30):
            for number, collector in enumerate(collectors):
                collector.add(np.zeros((8, 32), np.float32), np.ones(8, np.int64))
                held[number] = sum(part.nbytes for part in collector._features) + sum(
                    part.nbytes for part in collector._ticks
                )
            assert cache.num_bytes + sum(held) <= cache.max_bytes
    assert cache.reserve(cache.max_bytes), "nothing stays reserved"


def test_a_clip_that_fails_gives_its_bytes_back() -> None:
    cache = FeatureCache(160_000)
    collector = cache.collect()
    with collector:
        collector.add(np.zeros((8, 32), np.float32), np.ones(8, np.int64))
    assert cache.reserve(cache.max_bytes)
    assert cache.get(KEY) is None
