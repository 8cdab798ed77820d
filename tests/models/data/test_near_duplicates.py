from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.check import inspect
from models.data.near_duplicates import FRAMES, MOST_BITS, fingerprint, near_pairs, picture_hashes
from tests.models.footage import film
from tests.real_clips import real_clip

RNG = np.random.default_rng(0)


def bits(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> float:
    return float(np.bitwise_count(first ^ second).mean())


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.uint64]]:
    folder = tmp_path_factory.mktemp("films")
    paths = [
        film(folder / "a.mp4", 1),
        film(folder / "larger.mkv", 1, width=320, height=240),
        film(folder / "coarse.mp4", 1, options={"crf": "35"}),
        film(folder / "mjpeg.avi", 1, encoder="mjpeg"),
        *(film(folder / f"other{scene}.mp4", scene) for scene in range(2, 10)),
        *map(real_clip, ("bikes.mp4", "bigbuckbunny.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")),
    ]
    found = inspect(paths, folder / "store", show_progress=False)
    assert not found.broken
    return {path.stem: found.fingerprints[path] for path in paths}


@pytest.mark.parametrize("copy", ["larger", "coarse", "mjpeg"])
def test_a_copy_of_another_size_quality_or_codec_is_near(prints: dict[str, NDArray[np.uint64]], copy: str) -> None:
    assert bits(prints["a"], prints[copy]) <= MOST_BITS


def test_a_real_clip_and_its_distorted_copy_are_near(prints: dict[str, NDArray[np.uint64]]) -> None:
    assert bits(prints["carphone_distorted"], prints["carphone_pristine"]) <= MOST_BITS


def test_other_pictures_are_far(prints: dict[str, NDArray[np.uint64]]) -> None:
    names = ["a", *(f"other{scene}" for scene in range(2, 10)), "bikes", "bigbuckbunny", "carphone_pristine"]
    near = [(one, two) for one in names for two in names if one < two and bits(prints[one], prints[two]) <= MOST_BITS]
    assert near == []


def test_brightness_changes_few_bits() -> None:
    frame = np.kron(RNG.integers(60, 180, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    first, second = picture_hashes(np.stack([frame, frame + 40]))
    assert np.bitwise_count(first ^ second) <= 2


def test_frames_come_from_the_middle_of_equal_parts() -> None:
    ticks = np.arange(80, dtype=np.uint64)
    assert fingerprint(ticks).tolist() == [10, 30, 50, 70]
    assert fingerprint(ticks[:1]).tolist() == [0] * FRAMES


def brute_force(prints: NDArray[np.uint64], keys: list[list[str]]) -> Iterator[tuple[int, int, float]]:
    for first in range(len(prints)):
        for second in range(first + 1, len(prints)):
            if all(key[first] != key[second] for key in keys) and bits(prints[first], prints[second]) <= MOST_BITS:
                yield first, second, bits(prints[first], prints[second])


@pytest.mark.parametrize("num_keys", [1, 2])
def test_pairs_are_those_of_brute_force(num_keys: int) -> None:
    base = RNG.integers(0, 2**64, (40, FRAMES), dtype=np.uint64)
    prints = np.repeat(base, 15, axis=0)
    for row in prints:  # copies with up to 12 bits turned in each frame
        for _ in range(RNG.integers(0, 13)):
            row ^= np.uint64(1) << RNG.integers(0, 64, FRAMES, dtype=np.uint64)
    order = RNG.permutation(len(prints))  # over several blocks
    prints = prints[order]
    keys = [[str(value) for value in RNG.integers(0, 5, len(prints))] for _ in range(num_keys)]
    wanted = sorted(brute_force(prints, keys), key=lambda pair: (pair[2], pair[0], pair[1]))
    pairs, count = near_pairs(prints, *keys, most=50)
    assert count == len(wanted) > 100
    assert [(pair.first, pair.second, pair.bits) for pair in pairs] == wanted[:50]


def test_ten_thousand_clips_fit_into_memory() -> None:
    """Of as many clips the table of distances has 10^8 cells; it is never whole."""
    prints = RNG.integers(0, 2**64, (10_000, FRAMES), dtype=np.uint64)
    prints[9_999] = prints[3]
    pairs, count = near_pairs(prints, [str(index) for index in range(10_000)])
    assert [(pair.first, pair.second, pair.bits) for pair in pairs] == [(3, 9_999, 0.0)]
    assert count == 1


def test_a_path_is_inspected_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 1)
    assert len(inspect([path, path], tmp_path / "store", show_progress=False).fingerprints) == 1
