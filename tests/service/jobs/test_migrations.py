"""A database of an older version, with URLs in clear: they are encrypted, and gone from its files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text

from service.jobs.database import _engine, migrate, open_database
from service.jobs.items import Row
from service.jobs.job import NewJob, Options
from service.jobs.keys import Keys
from service.jobs.store import JobStore
from tests.service.jobs.test_store import KEYS, SHA

SECRET = "Signature=ab%2Bc%2Fd%3D"  # noqa: S105
URL = "https://videos.example/{}.mp4?" + SECRET
SAID = "https://videos.example/{}.mp4?redacted="
NAME = f"{URL.format('name')}; b"
STATES = ("queued", "running", "ok", "error")


def fill(engine: Engine) -> None:
    """As version 0001 did: a job in progress, and one that is done."""
    job = {
        "created": time.time(), "model": "tiny", "model_sha256": SHA, "options": Options().to_json(),
        "webhook_tries": 0,
    }  # fmt: skip
    jobs: list[dict[str, Any]] = [
        job | {"id": "open", "num_items": 5, "idempotency_key": NAME, "request_sha256": "e" * 64, "finished": None,
               "webhook_url": URL.format("hook"), "webhook_error": None},
        job | {"id": "done", "num_items": 1, "idempotency_key": None, "request_sha256": "f" * 64, "finished": 1.0,
               "webhook_url": URL.format("told"), "webhook_error": f"503 of {URL.format('told')}"},
    ]  # fmt: skip
    items: list[dict[str, Any]] = [
        {"job_id": "open", "number": number, "id": URL.format(number), "uri": URL.format(number), "state": state}
        for number, state in enumerate(STATES)
    ]
    items.append({"job_id": "open", "number": 4, "id": "mine", "uri": "s3://bucket/4.mp4", "state": "queued"})
    items.append({"job_id": "done", "number": 0, "id": "a", "uri": URL.format("a"), "state": "error"})
    results = [
        (job_id, number, Row(
            id=item_id, uri=URL.format(name), status="error", code="fetch_failed", message=f"{URL.format(name)}: ü 403",
        ).to_json())
        for job_id, number, item_id, name in (("open", 2, URL.format(2), "2"), ("open", 3, URL.format(3), "3"),
                                              ("done", 0, "a", "a"))
    ]  # fmt: skip
    waits = {"start_seconds": 0.0, "fence": 0, "tries": 0, "lease_until": 0.0}
    tables = MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        connection.execute(tables.tables["jobs"].insert(), jobs)
        connection.execute(tables.tables["items"].insert(), [waits | each for each in items])
        connection.execute(
            tables.tables["results"].insert(),
            [dict(zip(("job_id", "number", "row"), row, strict=True)) for row in results],
        )


@pytest.fixture
def old(database_url: str) -> Iterator[Engine]:
    engine = _engine(database_url)
    migrate(engine, KEYS, "0001")
    fill(engine)
    yield engine
    engine.dispose()


def on_disk(url: str) -> bytes:
    """All that the database has in its files."""
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///"))
        return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("CHECKPOINT"))
        found = [
            connection.execute(text("SELECT pg_read_binary_file(pg_relation_filepath(:name))"), {"name": name}).scalar()
            for name in ("jobs", "items", "results", "items_by_id")
        ]
    engine.dispose()
    return b"".join(bytes(each or b"") for each in found)


def test_what_was_in_clear_is_not_any_more(old: Engine, database_url: str) -> None:
    assert SECRET.encode() in on_disk(database_url)
    old.dispose()
    engine = open_database(database_url, KEYS)
    store = JobStore(engine, keys=KEYS, owner="one", place="here")
    claims = {claim.number: claim for claim in store.claim(10, [SHA])}
    assert sorted(claims) == [0, 1, 4]
    for number in (0, 1):
        assert claims[number].item.uri.startswith(SAID.format(number))
        assert claims[number].item.id == claims[number].item.uri
        assert store.item(claims[number]).location == URL.format(number)
    assert store.item(claims[4]).location == "s3://bucket/4.mp4"
    rows = [json.loads(row) for _, row in store.results("open") + store.results("done")]
    assert [row["id"] for row in rows] == [KEYS.redacted(URL.format(2)), KEYS.redacted(URL.format(3)), "a"]
    assert [row["uri"] for row in rows] == [KEYS.redacted(URL.format(name)) for name in ("2", "3", "a")]
    assert rows[2]["message"] == "https://videos.example/a.mp4?redacted: ü 403"
    in_progress, done = store.get("open"), store.get("done")
    assert store.webhook(in_progress) == URL.format("hook")
    assert done.webhook_source is None
    assert done.webhook_error == "503 of https://videos.example/told.mp4?redacted"
    # The same request with the same key is still the same job.
    again = NewJob("tiny", SHA, Options(), "e" * 64, NAME)
    assert store.create("new", again, iter(())) == "open"
    engine.dispose()
    assert SECRET.encode() not in on_disk(database_url)
    assert b"Signature" not in on_disk(database_url)


def test_an_old_database_and_another_key_later(old: Engine, database_url: str) -> None:
    """Rotated: the new key first, the old one after it."""
    old.dispose()
    open_database(database_url, KEYS).dispose()
    rotated = Keys(["a newer key of the tests as long", "a key of the tests and a long one"])
    engine = open_database(database_url, rotated)
    store = JobStore(engine, keys=rotated, owner="one", place="here")
    assert [store.item(claim).location for claim in store.claim(1, [SHA])] == [URL.format(1)]
    assert store.num_unreadable() == (0, 0)
    stranger = JobStore(engine, keys=Keys(["the key of a stranger and long"]), owner="two", place="here")
    assert [claim.item.uri for claim in stranger.claim(9, [SHA])] == ["s3://bucket/4.mp4"]
    assert store.create("new", NewJob("tiny", SHA, Options(), "e" * 64, NAME), iter(())) == "open"
    engine.dispose()
