"""URLs are redacted, and beside that encrypted as long as they are needed; before, they were stored in clear."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from service.jobs.keys import Keys
from service.jobs.records import idempotency_keys
from service.redaction import scrubbed

revision = "0002"
down_revision = "0001"

_ROWS = 1000
_JOBS = sa.table("jobs", *map(sa.column, ("id", "idempotency_key", "request_sha256", "webhook_url", "webhook_source",
                                          "webhook_key", "webhook_error", "webhook_due", "finished")))  # fmt: skip
_ITEMS = sa.table("items", *map(sa.column, ("job_id", "number", "id", "uri", "source", "source_key", "state")))
_RESULTS = sa.table("results", *map(sa.column, ("job_id", "number", "row")))


def upgrade() -> None:
    """Columns for what is encrypted, and by which key; what is there is put right."""
    op.add_column("items", sa.Column("source", sa.Text))
    op.add_column("items", sa.Column("source_key", sa.String(4)))
    op.add_column("jobs", sa.Column("webhook_source", sa.Text))
    op.add_column("jobs", sa.Column("webhook_key", sa.String(4)))
    keys: Keys = context.config.attributes["keys"]
    connection = op.get_bind()
    changed = [put(connection, keys) for put in (_put_jobs, _put_items, _put_results)]
    context.config.attributes["sweep"] = any(changed)


def _put_jobs(connection: sa.Connection, keys: Keys) -> bool:
    rows = connection.execute(sa.select(_JOBS)).mappings().all()
    for row in rows:
        hook, said = row["webhook_url"], row["webhook_url"] and keys.redacted(row["webhook_url"])
        waits, name = row["webhook_due"] is not None or row["finished"] is None, row["idempotency_key"]
        sealed = waits and hook != said
        connection.execute(sa.update(_JOBS).where(_JOBS.c.id == row["id"]).values(
            idempotency_key=name and idempotency_keys(keys, name)[0],
            request_sha256=keys.fingerprints(row["request_sha256"])[0], webhook_url=said,
            webhook_source=keys.seal(hook) if sealed else None, webhook_key=keys.ids[0] if sealed else None,
            webhook_error=row["webhook_error"] and scrubbed(row["webhook_error"]),
        ))  # fmt: skip
    return bool(rows)


def _put_items(connection: sa.Connection, keys: Keys) -> bool:
    changed = False
    for row in _pages(connection, _ITEMS, _ITEMS.c.id.contains("://") | _ITEMS.c.uri.contains("://")):
        item_id, uri = keys.redacted(row["id"]), keys.redacted(row["uri"])
        if (item_id, uri) == (row["id"], row["uri"]):
            continue
        needed = uri != row["uri"] and row["state"] in ("queued", "running")
        connection.execute(sa.update(_ITEMS).where(*_at(_ITEMS, row)).values(
            id=item_id, uri=uri, source=keys.seal(row["uri"]) if needed else None,
            source_key=keys.ids[0] if needed else None,
        ))  # fmt: skip
        changed = True
    return changed


def _put_results(connection: sa.Connection, keys: Keys) -> bool:
    changed = False
    for row in _pages(connection, _RESULTS, _RESULTS.c.row.contains("://")):
        said: dict[str, Any] = json.loads(row["row"])
        said |= {name: keys.redacted(said[name]) for name in ("id", "uri")}
        if said.get("message"):
            said["message"] = scrubbed(said["message"])
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        if said != json.loads(row["row"]):
            connection.execute(sa.update(_RESULTS).where(*_at(_RESULTS, row)).values(row=text))
            changed = True
    return changed


def _pages(connection: sa.Connection, table: Any, where: Any) -> Any:
    """Rows of the table, never all in memory; those that were read may be changed meanwhile."""
    after: tuple[str, int] = ("", -1)
    place = sa.tuple_(table.c.job_id, table.c.number)
    while True:
        page = sa.select(table).where(where, place > sa.tuple_(*map(sa.literal, after)))
        rows = connection.execute(page.order_by(table.c.job_id, table.c.number).limit(_ROWS)).mappings().all()
        if not rows:
            return
        yield from rows
        after = (rows[-1]["job_id"], rows[-1]["number"])


def _at(table: Any, row: Any) -> tuple[Any, Any]:
    return table.c.job_id == row["job_id"], table.c.number == row["number"]
