"""The tables of durable jobs, the same on SQLite and PostgreSQL; `migrations/` makes them, a test compares."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()

# Times are seconds since 1970 by the database's clock: replicas need not agree on the time.
JOBS = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created", Float, nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_sha256", String(64), nullable=False),
    Column("options", Text, nullable=False),  # JSON of `store.Options`
    Column("num_items", Integer, nullable=False),
    Column("idempotency_key", String(255), unique=True),  # redacted
    # Of the request, signed by the deployment key; another request with the same idempotency key is an error.
    Column("request_sha256", String(64), nullable=False),
    Column("started", Float),
    Column("cancelled", Float),
    Column("finished", Float),
    Column("webhook_url", Text),  # redacted
    Column("webhook_source", Text),  # encrypted, where it is another; NULL once it was heard, or given up
    Column("webhook_key", String(4)),  # which key encrypted that (`Keys.ids`)
    Column("webhook_due", Float),  # NULL: nothing is to be sent
    Column("webhook_tries", Integer, nullable=False),
    Column("webhook_error", Text),
    Column("webhook_delivered", Float),
    Index("jobs_by_webhook", "webhook_due"),
)

ITEMS = Table(
    "items",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # place in the manifest, from 0
    Column("id", Text, nullable=False),
    Column("json_id", Text),  # as JSON, where it is no string
    Column("uri", Text, nullable=False),  # redacted
    Column("source", Text),  # the whole URL, encrypted, where it is another; NULL once the item is settled
    Column("source_key", String(4)),  # which key encrypted that
    Column("start_seconds", Float, nullable=False),
    Column("end_seconds", Float),  # NULL: to the end
    Column("place", String(36)),  # of an upload: the jobs_dir that has it; NULL: whoever comes first
    Column("state", String(9), nullable=False),  # queued, running, ok, error, cancelled
    Column("owner", String(64)),  # the replica that has the lease
    Column("lease_until", Float),
    Column("fence", Integer, nullable=False),  # grows with each claim: who has an older one is too late
    Column("tries", Integer, nullable=False),  # claims that ended neither with a row nor by being given back
    UniqueConstraint("job_id", "id", name="items_by_id"),
    # Of each job the first items first: a small job passes a large one.
    Index("items_by_state", "state", "number", "job_id"),
    Index("items_of_job_by_state", "job_id", "state"),
)

RESULTS = Table(
    "results",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("row", Text, nullable=False),  # JSON of `items.Row`
)


class now(FunctionElement[float]):  # noqa: N801  (a function of SQL)
    """Seconds since 1970 by the database's clock."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kwargs: Any) -> str:  # noqa: ARG001  (as SQLAlchemy calls it)
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kwargs: Any) -> str:  # noqa: ARG001
    return "(extract(epoch from clock_timestamp())::double precision)"
