"""A batch on one machine: every item once, rows as they are done, and what ends it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from service.errors import DiskFull, EngineLost
from service.jobs.errors import BadInput
from service.jobs.ids import Ids
from service.jobs.inputs import Found
from service.jobs.items import Item, JsonId, Row
from service.jobs.runner import Shard, listed_ids, recorded_ids, run
from service.results import ModelName
from tests.service.jobs.rows import MODEL, failed, ok

OTHER = ModelName(name="tiny", version="2", task="clip", sha256="b" * 64)


class Kept:
    """A sink in memory."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows or []

    @classmethod
    def opened(cls, path: Path, *, resume: bool, overwrite: bool, shard: tuple[int, int]) -> Kept:
        raise NotImplementedError

    def recorded(self) -> Iterator[Row]:
        return iter(list(self.rows))

    def append(self, row: Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def items(count: int) -> Iterator[Item]:
    return (Item(f"clip-{number}", f"{number}.mp4") for number in range(count))


def number_of(item: Item) -> int:
    return int(item.id.partition("-")[2])


def found(count: int) -> list[Found]:
    return [Found(item, f"manifest line {number}") for number, item in enumerate(items(count), start=1)]


def test_every_item_has_its_row_and_no_more_are_in_memory_than_workers() -> None:
    listed: list[Item] = []
    most = 0
    sink = Kept()

    def listing() -> Iterator[Item]:
        nonlocal most
        for item in items(50):
            listed.append(item)
            most = max(most, len(listed) - len(sink.rows))
            yield item

    def predict(item: Item) -> Row:
        time.sleep(0.001 * (number_of(item) % 5))
        return failed(number_of(item)) if number_of(item) % 7 == 0 else ok(number_of(item))

    told: list[Row] = []
    run(listing(), predict, sink, workers=4, stop=threading.Event(), told=told.append)
    assert sorted(row.id for row in sink.rows) == sorted(item.id for item in items(50))
    assert told == sink.rows
    assert most <= 5


def test_stop_begins_no_new_item_and_waits_for_those_in_progress() -> None:
    stop, sink = threading.Event(), Kept()

    def predict(item: Item) -> Row:
        if number_of(item) == 9:
            stop.set()
        return ok(number_of(item))

    run(items(10**9), predict, sink, workers=3, stop=stop)
    assert 10 <= len(sink.rows) <= 13


def test_an_error_of_the_service_ends_the_batch_and_keeps_what_is_done() -> None:
    sink, stop = Kept(), threading.Event()

    def predict(item: Item) -> Row:
        if number_of(item) == 5:
            raise EngineLost("the device is lost")
        return ok(number_of(item))

    with pytest.raises(EngineLost):
        run(items(100), predict, sink, workers=2, stop=stop)
    assert stop.is_set()
    assert {f"clip-{number}" for number in range(4)} <= {row.id for row in sink.rows}
    assert len(sink.rows) < 10


def test_what_is_predicted_while_the_batch_ends_is_recorded_too() -> None:
    sink, failing = Kept(), threading.Event()

    def predict(item: Item) -> Row:
        if number_of(item) == 0:
            failing.set()
            raise EngineLost("the device is lost")
        assert failing.wait(10)
        time.sleep(0.05)
        return ok(number_of(item))

    with pytest.raises(EngineLost):
        run(items(100), predict, sink, workers=4, stop=threading.Event())
    assert sorted(row.id for row in sink.rows) == ["clip-1", "clip-2", "clip-3"]


def test_an_error_of_the_listing_or_of_the_sink_comes_out() -> None:
    def broken() -> Iterator[Item]:
        yield from items(2)
        raise BadInput("the manifest was replaced meanwhile")

    class Full(Kept):
        def append(self, row: Row) -> None:
            raise DiskFull(f"no space for {row.id}")

    sink = Kept()
    with pytest.raises(BadInput, match="replaced meanwhile"):
        run(broken(), lambda item: ok(number_of(item)), sink, workers=4, stop=threading.Event())
    assert len(sink.rows) == 2
    with pytest.raises(DiskFull, match="no space for clip-"):
        run(items(100), lambda item: ok(number_of(item)), Full(), workers=4, stop=threading.Event())


def test_what_is_recorded_of_what_is_listed() -> None:
    sink = Kept([ok(0), failed(3), ok(77)])
    with listed_ids(found(10), Shard()) as listed, recorded_ids(sink, listed, MODEL.sha256) as recorded:
        assert (len(listed), len(recorded)) == (10, 2)
        assert "clip-3" in recorded
        assert "clip-4" not in recorded


def test_two_items_of_one_id_are_named_with_both_places() -> None:
    twice = [*found(3), Found(Item("clip-1", "again.mp4"), "other.csv line 9")]
    with pytest.raises(BadInput, match=r"other\.csv line 9: id clip-1 stands at manifest line 2"):
        listed_ids(twice, Shard())


def test_ids_that_are_one_as_text_are_named_with_both_places() -> None:
    given: list[JsonId] = ["1", 0, 1]
    twice = [Found(Item.of(json_id, "a"), f"m.jsonl line {n}") for n, json_id in enumerate(given, start=1)]
    with pytest.raises(
        BadInput, match=r"m\.jsonl line 3: id 1 stands at m\.jsonl line 1 already \(as text they are one\)"
    ):
        listed_ids(twice, Shard())


def test_a_row_is_found_again_whatever_kind_its_id_is() -> None:
    given: list[JsonId] = [0, "x", True]
    listing = [Found(Item.of(json_id, "a"), "m.jsonl") for json_id in given]
    rows = [failed(0).model_copy(update={"id": json_id}) for json_id in ("0", "x", "true")]
    for kept in (
        rows,
        [row.model_copy(update={"id": each.item.row_id}) for row, each in zip(rows, listing, strict=True)],
    ):
        with listed_ids(listing, Shard()) as listed, recorded_ids(Kept(kept), listed, MODEL.sha256) as recorded:
            assert len(recorded) == 3


def test_an_output_of_another_model_is_not_gone_on_with() -> None:
    with listed_ids(found(3), Shard()) as listed, pytest.raises(BadInput, match=r"begun with tiny 2 \(bbbbbbbbbbbb\)"):
        recorded_ids(Kept([failed(0), ok(1, OTHER)]), listed, MODEL.sha256)


def test_shards_share_all_items_and_none_has_two() -> None:
    shards = [Shard.parsed(f"{index}/4") for index in range(4)]
    owners = [[shard.index for shard in shards if item in shard] for item in items(2000)]
    assert all(len(owner) == 1 for owner in owners)
    counts = [len(list(group)) for _, group in itertools.groupby(sorted(owner[0] for owner in owners))]
    assert min(counts) > 400


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "1/0", "1/2/3"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="i/n"):
        Shard.parsed(text)


def test_ids_are_a_set_on_disk() -> None:
    with Ids() as ids:
        assert [ids.add(f"{number % 700}", f"line {number}") for number in range(1000)][700] == "line 0"
        assert len(ids) == 700
        assert ("699" in ids, "700" in ids) == (True, False)
