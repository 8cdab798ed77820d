"""Items, claims and jobs as the tables hold them, and back."""

from __future__ import annotations

import json
import math
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from service.jobs.errors import IdempotencyMismatch
from service.jobs.items import Item
from service.jobs.job import Claim, Job, NewJob, Options
from service.jobs.keys import Keys
from service.jobs.tables import ITEMS, JOBS
from service.redaction import hidden

_KEY_LETTERS = 255  # as the column is


def idempotency_keys(keys: Keys, text: str) -> list[str]:
    """As the column may have it, by each of the keys: one that is a URL is redacted.

    Of one that is too long then the end is kept, as that has the mark.
    """
    return [each[-_KEY_LETTERS:] for each in keys.redactions(text)]


def item_row(keys: Keys, job_id: str, number: int, item: Item, place: str | None) -> dict[str, object]:
    """Of an item that waits; its source is encrypted."""
    return {
        "job_id": job_id, "number": number, "id": item.id,
        "json_id": None if item.json_id is None else json.dumps(item.json_id), "uri": item.uri,
        "source": keys.seal(item.source) if item.source else None,
        "source_key": keys.ids[0] if item.source else None, "start_seconds": item.start_seconds,
        "end_seconds": item.finite_end, "place": place,
        "state": "queued", "fence": 0, "tries": 0,
    }  # fmt: skip


def claim_of(row: RowMapping, job: Any) -> Claim:
    """Of an item's row and its job's; the item's source stays encrypted."""
    end = math.inf if row["end_seconds"] is None else row["end_seconds"]
    json_id = None if row["json_id"] is None else json.loads(row["json_id"])
    item = Item(row["id"], row["uri"], row["start_seconds"], end, json_id=json_id)
    options = Options.of_json(job.options)
    return Claim(
        row["job_id"], row["number"], row["fence"], row["tries"], item, job.model_sha256, options, row["source"]
    )


def job_of(connection: Connection, row: RowMapping) -> Job:
    """Of its row, with its items counted."""
    states = select(ITEMS.c.state, func.count()).where(ITEMS.c.job_id == row["id"]).group_by(ITEMS.c.state)
    counts = {state[0]: state[1] for state in connection.execute(states)}
    return Job(counts=counts, **{name: row[name] for name in Job.__dataclass_fields__ if name != "counts"})


def known_by_key(connection: Connection, keys: Keys, new: NewJob) -> str | None:
    """The id of the job that came with the same idempotency key before. Raises IdempotencyMismatch for another one."""
    if new.idempotency_key is None:
        return None
    names, said = idempotency_keys(keys, new.idempotency_key), hidden(new.idempotency_key)
    known = connection.execute(
        select(JOBS.c.id, JOBS.c.request_sha256).where(JOBS.c.idempotency_key.in_(names))
    ).first()
    if known is None:
        return None
    if known.request_sha256 not in keys.fingerprints(new.request_sha256):
        raise IdempotencyMismatch(
            f"Idempotency-Key {said} was used for another request (job {known.id}); take a new one", value=said
        )
    return str(known.id)
