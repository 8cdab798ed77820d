"""Odd and broken files of other projects' test suites, each against its row in odd.csv (`python -m tests.fuzz.odd`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.video.pool import DecodePool
from tests.fuzz import odd
from tests.fuzz.sources import ODD, odd_files

TABLE = odd.read()
needs_files = pytest.mark.skipif(not odd_files(), reason="the folder of odd files, ../shared/data/odd, is not here")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(num_credits=1, limits=odd.LIMITS) as running:
        yield running


@needs_files
@pytest.mark.parametrize("file", TABLE)
def test_the_answer_is_that_of_the_table(pool: DecodePool, file: str) -> None:
    """Its time is bounded by the limits; what is no error of ours fails."""
    assert replace(odd.measure(pool, file), note=TABLE[file].note) == TABLE[file]


@needs_files
def test_each_file_has_a_row() -> None:
    assert odd_files() == list(TABLE), f"write the table anew for {ODD}: python -m tests.fuzz.odd"


def test_a_refusal_has_its_reason_and_an_answer_its_facts() -> None:
    for row in TABLE.values():
        assert bool(row.why) == (row.result != "ok"), row
        assert bool(row.frames_walked) == (row.result == "ok"), row


def test_what_is_refused_was_looked_at() -> None:
    """A note says whether a user could expect more, and why there is none."""
    assert [row.file for row in TABLE.values() if row.result != "ok" and not row.note] == []
