"""The store of jobs, on SQLite and on PostgreSQL: claimed once, recorded once, taken over, never lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, update

from service.answers import AnswerOptions
from service.jobs.database import migrate, open_database
from service.jobs.errors import BadInput, IdempotencyMismatch, UnknownJob, WrongKey
from service.jobs.items import Item, Row
from service.jobs.job import Claim, NewJob, Options, new_id
from service.jobs.keys import Keys
from service.jobs.store import JobStore
from service.jobs.tables import ITEMS, JOBS, metadata

SHA = "a" * 64
OPTIONS = Options(AnswerOptions(top_k=3, window_frames=8), strict=True, stream=1)
KEYS = Keys(["a key of the tests and a long one"])
STRANGER = Keys(["the key of a stranger and long"])
ROTATED = Keys(["the key of a stranger and long", "a key of the tests and a long one"])


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, KEYS)
    yield engine
    engine.dispose()


def store_of(
    engine: Engine, owner: str = "one", lease_seconds: float = 60.0, place: str = "here", keys: Keys = KEYS
) -> JobStore:
    return JobStore(engine, keys=keys, owner=owner, place=place, lease_seconds=lease_seconds)


def items(count: int) -> Iterator[Item]:
    return (Item(f"clip-{number}", f"s3://bucket/{number}.mp4", 1.0) for number in range(count))


def new(**changed: Any) -> NewJob:
    asked: dict[str, Any] = {"model": "tiny", "model_sha256": SHA, "options": OPTIONS, "request_sha256": "r"}
    return NewJob(**(asked | changed))


def made(store: JobStore, count: int = 3, **changed: Any) -> str:
    return store.create(new_id(), new(**changed), items(count))


def row(claim: Claim, status: str = "ok") -> Row:
    return Row(id=claim.item.id, uri=claim.item.uri, status=status)


def test_migrations_make_the_tables(engine: Engine) -> None:
    migrate(engine, KEYS)  # once more: nothing to do
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_many_replicas_may_start_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for engine in list(pool.map(open_database, [database_url] * 4, [KEYS] * 4)):
            assert store_of(engine).newest(10) == []
            engine.dispose()


def test_ids_keep_their_kind(engine: Engine) -> None:
    store = store_of(engine)
    asked = [Item.of(json_id, "s3://bucket/a") for json_id in (0, "x", False, 1.5, 10**30, "日本\n")]
    store.create(new_id(), new(), iter(asked))
    assert [claim.item for claim in store.claim(9, [SHA])] == asked
    with pytest.raises(BadInput, match="same id"):
        store.create(new_id(), new(), iter([Item.of("1", "s3://bucket/a"), Item.of(1, "s3://bucket/b")]))
    store.create(new_id(), new(), iter([Item.of(7, SIGNED)]))
    [signed] = [store.item(claim) for claim in store.claim(9, [SHA])]
    assert (signed.row_id, signed.uri, signed.location) == (7, KEYS.redacted(SIGNED), SIGNED)


def test_a_job_from_its_making_to_its_end(engine: Engine) -> None:
    store = store_of(engine)
    job_id = made(store, 3)
    assert store.get(job_id).state == "queued"
    claims = store.claim(2, [SHA])
    assert [claim.item for claim in claims] == list(items(2))
    assert claims[0].options == OPTIONS
    job = store.get(job_id)
    assert (job.state, job.counts) == ("running", {"queued": 1, "running": 2})
    assert job.started is not None
    assert store.record(claims[0], row(claims[0]))
    assert store.record(claims[1], row(claims[1], "error"))
    assert store.finish() == []
    [last] = store.claim(10, [SHA])
    assert store.record(last, row(last))
    assert store.finish() == [job_id]
    assert store.finish() == []
    job = store.get(job_id)
    assert (job.state, job.counts, job.num_done) == ("succeeded", {"ok": 2, "error": 1}, 3)
    assert job.started is not None
    assert job.finished is not None
    assert job.created <= job.started <= job.finished <= job.read
    found = store.results(job_id)
    assert [Row.model_validate_json(text).id for _, text in found] == ["clip-0", "clip-1", "clip-2"]
    assert store.results(job_id, after=0, limit=1) == found[1:2]


def test_all_errors_is_a_failed_job(engine: Engine) -> None:
    store = store_of(engine)
    job_id = made(store, 2)
    for claim in store.claim(2, [SHA]):
        assert store.record(claim, row(claim, "error"))
    assert store.get(job_id).state == "failed"


def test_a_replica_claims_what_it_serves_and_what_it_has(engine: Engine) -> None:
    here, there = store_of(engine), store_of(engine, "two", place="there")
    made(here, 1)
    assert here.claim(5, ["b" * 64]) == []
    assert len(here.claim(5, ["b" * 64, SHA])) == 1
    here.create(new_id(), new(), items(2), uploads=True)
    assert there.claim(5, [SHA]) == []
    assert len(here.claim(5, [SHA])) == 2


def test_a_small_job_passes_a_large_one(engine: Engine) -> None:
    store = store_of(engine)
    large, small = made(store, 50), made(store, 2)
    claims = store.claim(6, [SHA])
    assert Counter(claim.job_id for claim in claims) == {large: 4, small: 2}


def test_two_replicas_share_all_items_and_none_is_done_twice(engine: Engine, database_url: str) -> None:
    job_id = made(store_of(engine), 120)
    done: list[str] = []

    def work(owner: str) -> None:
        mine = open_database(database_url, KEYS)
        store = store_of(mine, owner)
        while claims := store.claim(3, [SHA]):
            for claim in claims:
                assert store.record(claim, row(claim))
                done.append(claim.item.id)
        mine.dispose()

    threads = [threading.Thread(target=work, args=(f"replica {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(done) == sorted(item.id for item in items(120))
    assert store_of(engine).get(job_id).counts == {"ok": 120}


def test_a_dead_replica_s_items_are_taken_over_and_its_late_result_does_not_count(engine: Engine) -> None:
    dead, alive = store_of(engine, "dead", lease_seconds=0.3), store_of(engine, "alive")
    job_id = made(dead, 2)
    [lost, kept] = dead.claim(2, [SHA])
    assert alive.claim(2, [SHA]) == []
    time.sleep(0.2)
    assert dead.renew([kept]) == []
    time.sleep(0.2)
    [taken] = alive.claim(2, [SHA])
    assert (taken.item, taken.fence, taken.tries) == (lost.item, 2, 2)
    assert dead.renew([lost, kept]) == [lost]
    assert not dead.record(lost, row(lost))
    assert alive.record(taken, row(taken))
    assert not alive.record(taken, row(taken))
    assert dead.record(kept, row(kept))
    assert len(store_of(engine).results(job_id)) == 2


def test_what_is_given_back_waits_again_and_was_no_try(engine: Engine) -> None:
    store = store_of(engine)
    made(store, 1)
    [claim] = store.claim(1, [SHA])
    store.give_back(claim)
    [again] = store.claim(1, [SHA])
    assert (again.fence, again.tries) == (2, 1)
    store.give_back(claim)  # too late: it is another's now
    assert store.claim(1, [SHA]) == []


def test_a_cancelled_job_keeps_what_is_done(engine: Engine) -> None:
    store = store_of(engine)
    job_id = made(store, 3)
    first, second = store.claim(2, [SHA])
    assert store.record(first, row(first))
    job = store.cancel(job_id)
    assert (job.state, job.counts) == ("cancelled", {"ok": 1, "cancelled": 2})
    assert store.renew([second]) == [second]
    assert not store.record(second, row(second))
    assert store.claim(5, [SHA]) == []
    assert store.finish() == [job_id]
    assert store.cancel(job_id).state == "cancelled"
    assert len(store.results(job_id)) == 1


def test_cancelling_what_has_finished_changes_nothing(engine: Engine) -> None:
    store = store_of(engine)
    job_id = made(store, 1)
    [claim] = store.claim(1, [SHA])
    store.record(claim, row(claim))
    store.finish()
    assert store.cancel(job_id).state == "succeeded"


def test_the_same_key_is_the_same_job(engine: Engine) -> None:
    store = store_of(engine)
    first = made(store, idempotency_key="k")
    assert made(store, idempotency_key="k") == first
    assert made(store, idempotency_key="other") != first
    with pytest.raises(IdempotencyMismatch, match=first):
        made(store, idempotency_key="k", request_sha256="another")
    assert len(store.newest(10)) == 2


def test_the_same_key_at_the_same_moment(engine: Engine) -> None:
    store = store_of(engine)
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: made(store, 20, idempotency_key="k"), range(8)))
    assert len(ids) == 1
    assert len(store.newest(10)) == 1


def test_a_bad_job_leaves_nothing(engine: Engine) -> None:
    store = store_of(engine)

    def broken() -> Iterator[Item]:
        yield from items(2500)
        raise BadInput("line 2501")

    for bad, words in ((iter(()), "no item"), (iter([*items(2), *items(1)]), "the same id"), (broken(), "line 2501")):
        with pytest.raises(BadInput, match=words):
            store.create(new_id(), new(), bad)
    assert store.newest(10) == []
    assert store.claim(10, [SHA]) == []


def test_deleting_and_expiring(engine: Engine) -> None:
    store = store_of(engine)
    old, kept = made(store, 1), made(store, 1)
    for claim in store.claim(5, [SHA]):
        store.record(claim, row(claim))
    assert sorted(store.finish()) == sorted([old, kept])
    store.delete(old)
    for gone in (store.get, store.delete, store.cancel):
        with pytest.raises(UnknownJob, match=old):
            gone(old)
    assert store.results(old) == []
    assert store.expire(3600.0) == []
    time.sleep(0.01)
    assert store.expire(0.001) == [kept]
    assert store.newest(10) == []


SECRET = "s3cr3t"  # noqa: S105
SIGNED = "https://user:s3cr3t@host/f?Signature=s3cr3t"


def everything(engine: Engine) -> str:
    """All that the tables say."""
    with engine.connect() as connection:
        return repr([connection.execute(select(table)).all() for table in metadata.sorted_tables])


def test_credentials_are_encrypted_as_long_as_they_are_needed(engine: Engine) -> None:
    store = store_of(engine)
    signed = [Item(SIGNED, SIGNED), Item("mine", SIGNED, 1.0), Item(f"{SIGNED}2", f"{SIGNED}2")]
    job_id = store.create(new_id(), new(webhook_url=SIGNED, request_sha256="of s3cr3t"), signed)
    assert SECRET not in everything(engine)
    assert SECRET not in repr(store.get(job_id)) + repr(store.newest(1))
    claims = store.claim(3, [SHA])
    assert SECRET not in repr(claims)
    assert [store.item(claim).location for claim in claims] == [item.uri for item in signed]
    assert [claim.item.id for claim in claims] == [KEYS.redacted(SIGNED), "mine", KEYS.redacted(f"{SIGNED}2")]
    assert everything(engine).count("gAAAA") == 4  # as tokens of Fernet begin
    assert store.record(claims[0], row(claims[0]))
    assert everything(engine).count("gAAAA") == 3
    store.cancel(job_id)
    assert everything(engine).count("gAAAA") == 1
    assert store.finish() == [job_id]
    job = store.due_webhook()
    assert job is not None and store.webhook(job) == SIGNED  # noqa: PT018
    store.webhook_failed(job_id, f"503 of {SIGNED}", 60.0)
    assert store.get(job_id).webhook_error == "503 of https://host/f?redacted"
    store.webhook_delivered(job_id)
    assert everything(engine).count("gAAAA") == 0


def test_a_webhook_that_is_given_up_keeps_no_credentials(engine: Engine) -> None:
    store = store_of(engine)
    job_id = made(store, 1, webhook_url=SIGNED)
    store.webhook_failed(job_id, "gone", None)
    assert store.get(job_id).webhook_source is None


def test_what_another_key_has_encrypted_waits_for_who_has_it(engine: Engine) -> None:
    """While keys are rotated: some replicas have the new one, and some only the old one."""
    rotated, old = store_of(engine, keys=ROTATED, lease_seconds=0.1), store_of(engine)
    job_id = rotated.create(new_id(), new(webhook_url=SIGNED), [Item("a", SIGNED), Item("b", "s3://bucket/b.mp4")])
    [plain] = old.claim(2, [SHA])
    assert old.item(plain).location == "s3://bucket/b.mp4"
    assert old.record(plain, row(plain))
    assert (old.num_unreadable(), rotated.num_unreadable()) == ((1, 0), (0, 0))
    [signed] = rotated.claim(2, [SHA])
    assert old.num_unreadable() == (0, 0)
    time.sleep(0.15)  # whoever took it has died
    assert old.claim(2, [SHA]) == []
    assert old.num_unreadable() == (1, 0)
    [signed] = rotated.claim(2, [SHA])
    assert rotated.item(signed).location == SIGNED
    assert rotated.record(signed, row(signed))
    assert old.finish() == [job_id]
    assert old.due_webhook() is None
    assert old.num_unreadable() == (0, 1)
    job = rotated.due_webhook()
    assert job is not None and rotated.webhook(job) == SIGNED  # noqa: PT018
    rotated.webhook_delivered(job_id)
    assert STRANGER.ids[0] not in everything(engine).replace(STRANGER.redacted(SIGNED), "")


def test_what_an_old_key_has_encrypted_is_done_under_both(engine: Engine) -> None:
    old, rotated = store_of(engine), store_of(engine, keys=ROTATED)
    job_id = old.create(new_id(), new(webhook_url=SIGNED), [Item("a", SIGNED)])
    [claim] = rotated.claim(1, [SHA])
    assert rotated.item(claim).location == SIGNED
    assert rotated.record(claim, row(claim))
    assert rotated.finish() == [job_id]
    job = rotated.due_webhook()
    assert job is not None and rotated.webhook(job) == SIGNED  # noqa: PT018


def test_what_was_changed_by_hand_is_told(engine: Engine) -> None:
    store = store_of(engine)
    job_id = store.create(new_id(), new(webhook_url=SIGNED), [Item("a", SIGNED)])
    with engine.begin() as connection:
        connection.execute(update(ITEMS).values(source=STRANGER.seal(SIGNED)))
        connection.execute(update(JOBS).values(webhook_source="gAAAA"))
    [claim] = store.claim(1, [SHA])
    with pytest.raises(WrongKey, match="secret_key"):
        store.item(claim)
    with pytest.raises(WrongKey, match="secret_key"):
        store.webhook(store.get(job_id))


@pytest.mark.parametrize("key", [SIGNED, f"of {SIGNED} b; c={SECRET}", f"https://host/{'f' * 200}?Signature={SECRET}"])
def test_an_idempotency_key_that_is_a_url(engine: Engine, key: str) -> None:
    """As a URL of rows; found again under a former key, too."""
    old, rotated = store_of(engine), store_of(engine, keys=ROTATED)
    first = made(old, idempotency_key=key)
    assert SECRET not in everything(engine) + repr(new(idempotency_key=key))
    assert made(old, idempotency_key=key) == made(rotated, idempotency_key=key) == first
    assert made(old, idempotency_key=f"{key}2") != first
    with pytest.raises(IdempotencyMismatch) as caught:
        made(rotated, idempotency_key=key, request_sha256="another")
    assert SECRET not in str(caught.value) + str(caught.value.value)
    assert "host" in str(caught.value)


def test_a_webhook_is_due_until_it_was_heard(engine: Engine) -> None:
    store = store_of(engine, lease_seconds=0.2)
    silent, loud = made(store, 1), made(store, 1, webhook_url="https://host/hook")
    assert store.due_webhook() is None
    for claim in store.claim(5, [SHA]):
        store.record(claim, row(claim))
    assert sorted(store.finish()) == sorted([silent, loud])
    job = store.due_webhook()
    assert job is not None and (job.id, job.webhook_tries) == (loud, 1)  # noqa: PT018
    assert store.due_webhook() is None
    time.sleep(0.25)  # whoever took it has died
    job = store.due_webhook()
    assert job is not None and job.webhook_tries == 2  # noqa: PT018
    store.webhook_failed(loud, "503 of https://host/hook", 0.0)
    assert store.get(loud).webhook_error == "503 of https://host/hook"
    assert store.due_webhook() is not None
    store.webhook_delivered(loud)
    assert store.due_webhook() is None
    job = store.get(loud)
    assert job.webhook_delivered is not None
    assert job.webhook_error is None


def test_what_the_database_can_not_hold_is_the_client_s_mistake(engine: Engine) -> None:
    """A NUL: SQLite takes it, PostgreSQL does not, and neither has gone away."""
    with pytest.raises((UnknownJob, BadInput), match=r"there is no job a\x00b|NUL \(0x00\) bytes; leave it out"):
        store_of(engine).get("a\0b")


def test_options_of_an_older_service_are_read() -> None:
    """They have no stream."""
    old = '{"answer": {"top_k": 3, "window_frames": 8}, "strict": true}'
    assert Options.of_json(old) == Options(AnswerOptions(top_k=3, window_frames=8), strict=True)
    assert Options.of_json(OPTIONS.to_json()) == OPTIONS
