"""Durable jobs in a database: SQLite on a local disk, or PostgreSQL for several replicas.

An item is claimed by one statement, under a lease that its replica renews; when that runs out another takes it over.
Each claim raises the item's fence, and a result counts only with the fence of its claim: so every item has one result.

URLs have credentials in their queries. The database has them redacted, as rows do, and beside them encrypted, as long
as somebody has to fetch them. A replica claims nothing that was encrypted by a key which it does not have: others have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from service.jobs.database import READS_ONLY, transaction
from service.jobs.errors import BadInput, UnknownJob
from service.jobs.items import Item, Row
from service.jobs.job import Claim, Job, NewJob
from service.jobs.keys import Keys
from service.jobs.records import claim_of, idempotency_keys, item_row, job_of, known_by_key
from service.jobs.tables import ITEMS, JOBS, RESULTS, now
from service.redaction import scrubbed

_INSERT_ROWS = 1000


class JobStore:
    """For threads of any number of replicas. owner: of this replica's leases; place: of the uploads it has; keys: the
    deployment's.

    All methods raise JobsUnavailable where the database is away.
    """

    def __init__(self, engine: Engine, *, keys: Keys, owner: str, place: str, lease_seconds: float = 30.0) -> None:
        self._engine = engine
        self._keys = keys
        self._reading = engine.execution_options(**READS_ONLY)
        self._owner = owner
        self._place = place
        self._lease_seconds = lease_seconds

    def create(self, job_id: str, new: NewJob, items: Iterable[Item], *, uploads: bool = False) -> str:
        """The job's id: another than `job_id` where the same request came with the same key before.

        uploads: the items are files that only this place has. Raises IdempotencyMismatch for another request with a key
        that was used, BadInput for no item or two of one id: then nothing is stored.
        """
        try:
            with transaction(self._engine) as connection:
                if known := known_by_key(connection, self._keys, new):
                    return known
                self._insert(connection, job_id, new, items, self._place if uploads else None)
        except IntegrityError:  # the same key, at the same moment
            with transaction(self._engine) as connection:
                if known := known_by_key(connection, self._keys, new):
                    return known
            raise
        return job_id

    def _insert(
        self, connection: Connection, job_id: str, new: NewJob, items: Iterable[Item], place: str | None
    ) -> None:
        hook, name = new.webhook_url, new.idempotency_key
        said = None if hook is None else self._keys.redacted(hook)
        sealed = None if hook is None or hook == said else self._keys.seal(hook)
        connection.execute(insert(JOBS).values(
            id=job_id, created=now(), model=new.model, model_sha256=new.model_sha256, options=new.options.to_json(),
            num_items=0, idempotency_key=None if name is None else idempotency_keys(self._keys, name)[0],
            request_sha256=self._keys.fingerprints(new.request_sha256)[0], webhook_tries=0,
            webhook_url=said, webhook_source=sealed, webhook_key=self._keys.ids[0] if sealed else None,
        ))  # fmt: skip
        count = 0
        numbered = enumerate(map(self._keys.named, items))
        while rows := [
            item_row(self._keys, job_id, number, item, place) for number, item in islice(numbered, _INSERT_ROWS)
        ]:
            try:
                with connection.begin_nested():
                    connection.execute(insert(ITEMS), rows)
            except IntegrityError as error:
                raise BadInput("two items have the same id; each needs its own") from error
            count += len(rows)
        if not count:
            raise BadInput("the job has no item; name at least one")
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(num_items=count))

    def get(self, job_id: str) -> Job:
        """As it stands. Raises UnknownJob."""
        with transaction(self._reading) as connection:
            row = connection.execute(select(JOBS, now().label("read")).where(JOBS.c.id == job_id)).mappings().first()
            if row is None:
                raise UnknownJob(f"there is no job {job_id}; it may have been deleted", value=job_id)
            return job_of(connection, row)

    def newest(self, limit: int) -> list[Job]:
        """The jobs that were made last, the newest first."""
        page = select(JOBS, now().label("read")).order_by(JOBS.c.created.desc(), JOBS.c.id).limit(limit)
        with transaction(self._reading) as connection:
            return [job_of(connection, row) for row in connection.execute(page).mappings().all()]

    def claim(self, count: int, models: Collection[str]) -> list[Claim]:
        """Up to so many items of these models (sha256): those whose lease is over, then those that wait."""
        claims: list[Claim] = []
        # Apart, as each comes in its order by the index: of a hundred thousand items that wait four are read.
        for waits in (_ABANDONED, _QUEUED):
            if len(claims) < count:
                claims += self._claim(waits, count - len(claims), models)
        return claims

    def _claim(self, waits: ColumnElement[bool], count: int, models: Collection[str]) -> list[Claim]:
        here = or_(ITEMS.c.place.is_(None), ITEMS.c.place == self._place)
        chosen = (
            select(ITEMS.c.job_id, ITEMS.c.number)
            .join(JOBS, JOBS.c.id == ITEMS.c.job_id)
            .where(waits, here, self._readable(ITEMS.c.source_key), JOBS.c.model_sha256.in_(models))
            .order_by(ITEMS.c.number, ITEMS.c.job_id)
            .limit(count)
            .with_for_update(skip_locked=True, of=ITEMS)  # SQLite has no such thing, and one writer
            .cte("chosen")
            .prefix_with("MATERIALIZED", dialect="postgresql")  # else it may be run again, and lock more than `count`
        )
        claimed = (
            update(ITEMS)
            .where(tuple_(ITEMS.c.job_id, ITEMS.c.number).in_(select(chosen)))
            .values(
                state="running", owner=self._owner, lease_until=now() + self._lease_seconds,
                fence=ITEMS.c.fence + 1, tries=ITEMS.c.tries + 1,
            )
            .returning(ITEMS)
        )  # fmt: skip
        with transaction(self._engine) as connection:
            rows = connection.execute(claimed).mappings().all()
            ids = {row["job_id"] for row in rows}
            connection.execute(update(JOBS).where(JOBS.c.id.in_(ids), JOBS.c.started.is_(None)).values(started=now()))
            jobs = {row.id: row for row in connection.execute(select(JOBS).where(JOBS.c.id.in_(ids)))}
        return sorted(
            (claim_of(row, jobs[row["job_id"]]) for row in rows), key=lambda claim: (claim.number, claim.job_id)
        )

    def renew(self, claims: Collection[Claim]) -> list[Claim]:
        """Prolong the leases. Returns those that are lost: cancelled, or another's."""
        lost = []
        with transaction(self._engine) as connection:
            for claim in claims:
                renewed = update(ITEMS).where(*_ours(claim)).values(lease_until=now() + self._lease_seconds)
                if connection.execute(renewed).rowcount != 1:
                    lost.append(claim)
        return lost

    def record(self, claim: Claim, row: Row) -> bool:
        """The item's result, once: False where the lease went to another meanwhile, or the job was cancelled."""
        with transaction(self._engine) as connection:
            settled = update(ITEMS).where(*_ours(claim)).values(**_SETTLED, state=row.status)
            if connection.execute(settled).rowcount != 1:
                return False
            said = row.to_json()
            connection.execute(insert(RESULTS).values(job_id=claim.job_id, number=claim.number, row=said))
        return True

    def give_back(self, claim: Claim) -> None:
        """What was claimed and not done waits again, for whoever comes first."""
        freed = (
            update(ITEMS).where(*_ours(claim))
            .values(state="queued", owner=None, lease_until=None, tries=ITEMS.c.tries - 1)
        )  # fmt: skip
        with transaction(self._engine) as connection:
            connection.execute(freed)

    def cancel(self, job_id: str) -> Job:
        """No further item is begun; those in progress stop. What is done stays. Raises UnknownJob."""
        job = self.get(job_id)
        if job.finished is None:
            left = and_(ITEMS.c.job_id == job_id, ITEMS.c.state.in_(["queued", "running"]))
            open_job = and_(JOBS.c.id == job_id, JOBS.c.finished.is_(None), JOBS.c.cancelled.is_(None))
            with transaction(self._engine) as connection:
                connection.execute(update(JOBS).where(open_job).values(cancelled=now()))
                connection.execute(update(ITEMS).where(left).values(**_SETTLED, state="cancelled"))
        return self.get(job_id)

    def finish(self) -> list[str]:
        """Ids of jobs whose last item was settled since the last call of any replica; their webhooks are due now."""
        is_open = exists().where(ITEMS.c.job_id == JOBS.c.id, ITEMS.c.state.in_(["queued", "running"]))
        webhook_due = case((JOBS.c.webhook_url.is_not(None), now()))
        ended = (
            update(JOBS).where(JOBS.c.finished.is_(None), ~is_open)
            .values(finished=now(), webhook_due=webhook_due).returning(JOBS.c.id)
        )  # fmt: skip
        with transaction(self._engine) as connection:
            return list(connection.execute(ended).scalars())

    def results(self, job_id: str, after: int = -1, limit: int = 1000) -> list[tuple[int, str]]:
        """Numbers and rows (JSON) of a page, in the manifest's order, those after `after`."""
        page = (
            select(RESULTS.c.number, RESULTS.c.row)
            .where(RESULTS.c.job_id == job_id, RESULTS.c.number > after).order_by(RESULTS.c.number).limit(limit)
        )  # fmt: skip
        with transaction(self._reading) as connection:
            return [(row.number, row.row) for row in connection.execute(page)]

    def delete(self, job_id: str) -> None:
        """With all its items and results. Raises UnknownJob."""
        with transaction(self._engine) as connection:
            if connection.execute(delete(JOBS).where(JOBS.c.id == job_id)).rowcount != 1:
                raise UnknownJob(f"there is no job {job_id}; it may have been deleted", value=job_id)

    def expire(self, retention_seconds: float) -> list[str]:
        """Delete jobs that finished longer ago; returns their ids."""
        old = delete(JOBS).where(JOBS.c.finished < now() - retention_seconds).returning(JOBS.c.id)
        with transaction(self._engine) as connection:
            return list(connection.execute(old).scalars())

    def due_webhook(self) -> Job | None:
        """A finished job that somebody waits to hear of; it is due again when the lease ends, should we die."""
        chosen = (
            select(JOBS.c.id).where(JOBS.c.webhook_due <= now(), self._readable(JOBS.c.webhook_key))
            .order_by(JOBS.c.webhook_due).limit(1).with_for_update(skip_locked=True)
        )  # fmt: skip
        taken = (
            update(JOBS).where(JOBS.c.id.in_(chosen))
            .values(webhook_due=now() + self._lease_seconds, webhook_tries=JOBS.c.webhook_tries + 1)
            .returning(JOBS, now().label("read"))
        )  # fmt: skip
        with transaction(self._engine) as connection:
            row = connection.execute(taken).mappings().first()
            return job_of(connection, row) if row else None

    def webhook_delivered(self, job_id: str) -> None:
        """It was heard."""
        heard = _TOLD | {"webhook_delivered": now(), "webhook_error": None}
        with transaction(self._engine) as connection:
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(heard))

    def webhook_failed(self, job_id: str, error: str, again_seconds: float | None) -> None:
        """It was not. again_seconds: from now; None gives up."""
        said: dict[str, Any] = {"webhook_error": scrubbed(error)[:1000]}
        said |= _TOLD if again_seconds is None else {"webhook_due": now() + again_seconds}
        with transaction(self._engine) as connection:
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(said))

    def num_unreadable(self) -> tuple[int, int]:
        """Items, and webhooks, that wait for a key which this replica does not have."""
        items = select(func.count()).select_from(ITEMS).where(
            or_(_QUEUED, _ABANDONED), ~self._readable(ITEMS.c.source_key)
        )  # fmt: skip
        hooks = select(func.count()).select_from(JOBS).where(
            JOBS.c.webhook_due <= now(), ~self._readable(JOBS.c.webhook_key)
        )  # fmt: skip
        with transaction(self._reading) as connection:
            return connection.execute(items).scalar_one(), connection.execute(hooks).scalar_one()

    def item(self, claim: Claim) -> Item:
        """The claim's item, with what leads to its file. Raises WrongKey."""
        return claim.item if claim.sealed is None else replace(claim.item, source=self._keys.unseal(claim.sealed))

    def webhook(self, job: Job) -> str:
        """Where to tell of the job, whole. Raises WrongKey."""
        return (job.webhook_url or "") if job.webhook_source is None else self._keys.unseal(job.webhook_source)

    def _readable(self, key_id: Column[Any]) -> ColumnElement[bool]:
        """What is not encrypted at all, too."""
        return or_(key_id.is_(None), key_id.in_(self._keys.ids))


_QUEUED = ITEMS.c.state == "queued"
_ABANDONED = and_(ITEMS.c.state == "running", ITEMS.c.lease_until < now())
# Nobody will fetch it any more, nor call it.
_SETTLED = {"owner": None, "lease_until": None, "source": None, "source_key": None}
_TOLD = {"webhook_due": None, "webhook_source": None, "webhook_key": None}


def _ours(claim: Claim) -> tuple[Any, ...]:
    return (
        ITEMS.c.job_id == claim.job_id, ITEMS.c.number == claim.number, ITEMS.c.fence == claim.fence,
        ITEMS.c.state == "running",
    )  # fmt: skip
