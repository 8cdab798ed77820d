"""Webhooks against a real receiver: signed, told once, asked again when it fails, and only who is allowed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, update

from service.jobs import webhooks
from service.jobs.allowed import check_allowed, prefixes_of
from service.jobs.database import open_database
from service.jobs.errors import UriNotAllowed
from service.jobs.items import Row
from service.jobs.job import new_id
from service.jobs.store import JobStore
from service.jobs.tables import JOBS
from service.jobs.webhooks import Webhooks, key_of, signature
from tests.receiver import Receiver, receiving
from tests.service.jobs.test_store import KEYS, SHA, STRANGER, items, new, store_of

SECRET = "a secret of the tests"  # noqa: S105


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, KEYS)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> JobStore:
    return JobStore(engine, keys=KEYS, owner="one", place="here")


def finished(store: JobStore, url: str) -> str:
    job_id = store.create(new_id(), new(webhook_url=url), items(1))
    for claim in store.claim(1, [SHA]):
        store.record(claim, Row(id=claim.item.id, uri=claim.item.uri, status="ok"))
    assert store.finish() == [job_id]
    return job_id


def sender(store: JobStore, *prefixes: str) -> Webhooks:
    allowed = prefixes_of(",".join(prefixes))
    return Webhooks(store, SECRET, lambda url: check_allowed(url, allowed, "a setting"), lambda job: f'"{job.id}"')


def test_the_receiver_can_check_who_sends(store: JobStore, receiver: Receiver) -> None:
    job_id = finished(store, receiver.url + "hook")
    sender(store, receiver.url).send_due()
    [(headers, body)] = receiver.heard
    assert body == f'"{job_id}"'.encode()
    assert headers["webhook-id"] == job_id
    signed = f"{job_id}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    assert store.get(job_id).webhook_delivered is not None
    sender(store, receiver.url).send_due()
    assert len(receiver.heard) == 1


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks libraries."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_fails_is_asked_again(
    store: JobStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_FIRST_PAUSE_SECONDS", 0.0)
    receiver.statuses = [500, 302, 200]
    job_id = finished(store, receiver.url)
    sender(store, receiver.url).send_due()
    assert len(receiver.heard) == 3
    assert [headers["webhook-id"] for headers, _ in receiver.heard] == [job_id] * 3
    job = store.get(job_id)
    assert (job.webhook_tries, job.webhook_due, job.webhook_error) == (3, None, None)


def test_a_receiver_that_never_answers_is_given_up_with_its_reason(
    store: JobStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(webhooks, "_TRIES", 4)
    receiver.statuses = [503]
    job_id = finished(store, receiver.url)
    sender(store, receiver.url).send_due()
    job = store.get(job_id)
    assert (job.webhook_tries, job.webhook_due, job.webhook_delivered) == (4, None, None)
    assert job.webhook_error is not None
    assert "503" in job.webhook_error


def test_a_url_s_query_is_sent_as_it_is_and_never_said(
    store: JobStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where nobody hears it, and in the log of httpx."""
    monkeypatch.setattr(webhooks, "_FIRST_PAUSE_SECONDS", 0.0)
    receiver.statuses = [500, 200]
    url = f"{receiver.url}hook/%7E;a?token=s3cr3t%2Bc%2fd&token="
    job_id = finished(store, url)
    with caplog.at_level(logging.DEBUG):
        sender(store, receiver.url).send_due()
    assert receiver.paths == ["/hook/%7E;a?token=s3cr3t%2Bc%2fd&token="] * 2
    assert "s3cr3t" not in caplog.text + repr(store.get(job_id))
    assert f"500 of {receiver.url}hook/%7E;a?redacted=" in caplog.text


def test_a_url_that_nobody_here_can_read_waits_for_who_can(engine: Engine, receiver: Receiver, store: JobStore) -> None:
    job_id = finished(store, f"{receiver.url}hook?token=s3cr3t")
    sender(store_of(engine, keys=STRANGER), receiver.url).send_due()
    assert receiver.heard == []
    sender(store, receiver.url).send_due()
    assert len(receiver.heard) == 1
    assert store.get(job_id).webhook_tries == 1


def test_a_url_that_was_changed_by_hand_is_given_up(engine: Engine, receiver: Receiver, store: JobStore) -> None:
    job_id = finished(store, f"{receiver.url}hook?token=s3cr3t")
    with engine.begin() as connection:
        connection.execute(update(JOBS).values(webhook_source="gAAAA"))
    sender(store, receiver.url).send_due()
    assert receiver.heard == []
    job = store.get(job_id)
    assert (job.webhook_due, job.webhook_delivered) == (None, None)
    assert "secret_key" in (job.webhook_error or "")


@pytest.mark.parametrize("host", [f"{'a' * 70}.example", "xn--a", "a..b", "127.0.0.1:x", "127.0.0.1:70000", "[::1", ""])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(UriNotAllowed) as caught:
        check_allowed(f"http://{host}/h?token=s3cr3t", ["http:/"], "a setting")
    assert f"http://{host}/h?redacted is no URL: " in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["bücher.example", "xn--bcher-kva.example", "h.", "[::1]:80", "127.0.0.1", "a_b.example"]
)
def test_what_is_a_host_is_not(host: str) -> None:
    check_allowed(f"http://{host}/h", ["http:/"], "a setting")


def test_one_that_fails_unforeseen_ends_alone(
    store: JobStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A URL that was taken in before such were refused: httpx raises what it does not document."""
    bad = finished(store, f"http://{'a' * 70}.example/h?token=s3cr3t")
    good = finished(store, receiver.url)
    Webhooks(store, SECRET, lambda url: None, lambda job: job.id).send_due()
    job = store.get(bad)
    assert (job.webhook_due, job.webhook_delivered, job.webhook_source) == (None, None, None)
    assert job.webhook_error == "UnicodeError; a fault of ours, the log has its trace"
    assert store.get(good).webhook_delivered is not None
    assert "Traceback" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_who_is_not_allowed_any_more_is_not_called(store: JobStore, receiver: Receiver) -> None:
    job_id = finished(store, receiver.url)
    sender(store, "https://elsewhere.example/").send_due()
    assert receiver.heard == []
    assert "may not be called" in (store.get(job_id).webhook_error or "")


def test_the_pause_grows() -> None:
    assert webhooks.pause_seconds(1) == 5.0
    assert webhooks.pause_seconds(4) == 40.0
    assert webhooks.pause_seconds(100) == 3600.0
