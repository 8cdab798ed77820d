"""Broken videos, a bounded number of them; `make fuzz` takes 10 000. And the fuzzer itself, as far as it is pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from service.video.errors import NotAVideo
from tests.fuzz.campaign import Figures, fuzz
from tests.fuzz.mutate import MUTATIONS, mutant, splice
from tests.fuzz.sources import Source, odd_files, sources
from tests.fuzz.trial import OK, OK_DAMAGED

SEED, MUTANTS = 7, 150


@pytest.fixture(scope="module")
def corpus() -> Sequence[Source]:
    return sources()


@pytest.fixture(scope="module")
def figures(corpus: Sequence[Source]) -> Figures:
    return fuzz(range(MUTANTS), SEED, corpus)


def test_every_mutant_is_decoded_or_refused(figures: Figures) -> None:
    assert figures.files == sum(figures.answers.values()) == MUTANTS
    assert figures.troubles == []


def test_no_mutant_leaves_anything_behind(figures: Figures) -> None:
    assert figures.leaks == []


def test_mutants_are_neither_all_whole_nor_all_destroyed(figures: Figures) -> None:
    decoded = figures.answers[OK] + figures.answers[OK_DAMAGED]
    assert MUTANTS // 4 < decoded < MUTANTS
    assert figures.answers[NotAVideo.code]
    assert figures.decoded_twice
    assert figures.probes


def test_the_same_number_is_the_same_mutant(corpus: Sequence[Source]) -> None:
    for number in range(50):
        assert mutant(SEED, number, corpus) == mutant(SEED, number, corpus)
    assert mutant(SEED, 0, corpus) != mutant(SEED + 1, 0, corpus)


def test_a_mutant_is_not_its_source(corpus: Sequence[Source]) -> None:
    data = {source.name: source.data for source in corpus}
    broken = [mutant(SEED, number, corpus) for number in range(200)]
    assert all(one.data and one.data != data[one.about.partition(": ")[0]] for one in broken)
    assert len({one.data for one in broken}) > 195


@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("size", [1, 2, 5, 189, 5000])
def test_a_mutation_of_any_length(change: object, size: int) -> None:
    assert callable(change)
    rng = random.Random(size)
    changed = 0
    for _ in range(40):
        whole = rng.randbytes(size)
        data = bytearray(whole)
        assert change(rng, data)
        changed += data != whole
    assert changed or size < 189  # two of one block may be swapped, and a byte be overwritten with itself


def test_a_splice_brings_bytes_of_the_other_file() -> None:
    data = bytearray(100)
    assert "other" in splice(random.Random(1), data, other=Source("other", b"\x01" * 50))
    assert b"\x01" in data
    assert len(data) >= 100


def test_lies_are_told_where_sizes_are(corpus: Sequence[Source]) -> None:
    about = " ".join(mutant(SEED, number, corpus).about for number in range(3000))
    for name in ("moov", "stsz", "avcC", "mdat", "element size", "idx1"):
        assert name in about


@pytest.mark.skipif(bool(odd_files()), reason="the folder of odd files is here")
def test_without_odd_files_they_are_not_promised() -> None:
    with pytest.raises(FileNotFoundError, match="odd"):
        sources(with_odd=True)
