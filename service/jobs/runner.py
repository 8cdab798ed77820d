"""A batch on this machine: as many items at once as keep the cores busy, rows as they are done."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from service.jobs.errors import BadInput
from service.jobs.ids import Ids
from service.jobs.inputs import Found, add_once
from service.jobs.items import Item, Row
from service.jobs.sink import Sink


@dataclass(frozen=True)
class Shard:
    """Items whose id falls to `index` of `count`: the same ones however the inputs are ordered or grow.

    Where the id is a redacted URL, the whole one counts: machines may have keys of their own.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parsed(cls, text: str) -> Shard:
        """`i/n` with i from 0 to n - 1. Raises BadInput."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise BadInput(f"--shard {text}: i/n is wanted with i from 0 to n - 1, as 0/4", value=text)
        return cls(int(index), int(count))

    def __contains__(self, item: Item) -> bool:
        known_by = item.location if item.id == item.uri else item.id
        digest = hashlib.blake2b(known_by.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index


def listed_ids(inputs: Iterable[Found], shard: Shard) -> Ids:
    """Ids of the shard's items; reads all inputs once, before anything is done.

    Raises BadInput for inputs that are bad, and for two equal ids. Memory does not grow with the number of items.
    """
    ids = Ids()
    for found in inputs:
        if found.item in shard:
            add_once(ids, found)
    return ids


def recorded_ids(sink: Sink, listed: Ids, model_sha256: str, check: Callable[[str], None] = lambda row_id: None) -> Ids:
    """Ids among `listed` that have their row, each at its status. Raises BadInput where another model wrote some, and
    what `check` raises for an id.

    Memory does not grow with the number of rows.
    """
    ids = Ids()
    for row in sink.recorded():
        if row.model is not None and row.model.sha256 != model_sha256:
            raise BadInput(
                f"the output was begun with {row.model.name} {row.model.version} ({row.model.sha256[:12]}), not with "
                "this model; go on with that one, or name another output",
                value=row.model.sha256,
            )
        check(row.id_text)
        if row.id_text in listed:
            ids.add(row.id_text, row.status)
    return ids


def run(
    items: Iterable[Item],
    predict: Callable[[Item], Row],
    sink: Sink,
    *,
    workers: int,
    stop: threading.Event,
    told: Callable[[Row], None] = lambda row: None,
) -> None:
    """Rows of all items into the sink, in the order that they are done; at most `workers` items are in memory.

    stop: when it is set no new item is begun, and those in progress are waited for. An error of `predict`, of the sink
    or of the items sets it, and is raised when the rest has ended: what was predicted meanwhile is recorded.
    """
    waiting: set[Future[Row]] = set()
    errors: list[BaseException] = []

    def settle(futures: set[Future[Row]]) -> None:
        for future in futures:
            try:
                row = future.result()
                sink.append(row)
                told(row)
            except Exception as error:  # noqa: BLE001  (raised below)
                errors.append(error)
                stop.set()

    with ThreadPoolExecutor(workers, thread_name_prefix="item") as pool:
        try:
            for item in items:
                if stop.is_set():
                    break
                waiting.add(pool.submit(predict, item))
                if len(waiting) == workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    settle(done)
        except BaseException as error:  # noqa: BLE001  (raised below)
            errors.append(error)
            stop.set()
        settle(waiting)
    if errors:
        raise errors[0]
