"""s3:// and gs:// of a service that is busy, away or out of breath: what may pass is tried again there too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from service.jobs.errors import FetchFailed
from service.jobs.inputs import Inputs
from service.jobs.remote import Remote
from service.jobs.retries import TRIES
from service.spool import Spool
from tests.ports import free_port
from tests.scripted import HANG_UP, RESET, Scripted, answer, scripted

BODY = b"a clip " * 1000
HEAD = answer(200, BODY, last_modified="Wed, 21 Oct 2015 07:28:00 GMT", etag='"x"')
GET = answer(206, BODY, content_range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
REQUESTS_A_TRY = 2  # botocore's own


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def site(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    server.script, server.asked, server.of = [HEAD, GET], [], {}
    for name, value in {
        "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "STORAGE_EMULATOR_HOST": server.url,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield server
    for scheme in ("s3", "gs"):
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Ours, before each try but the first; those of botocore are none."""
    found: list[float] = []
    monkeypatch.setattr("tenacity.sleep_using_event", lambda event: found.append)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.0)
    return found


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(None, Spool(tmp_path / "spool", 1 << 30, 1 << 30))


def fetched(remote: Remote, url: str) -> bytes:
    with remote.fetched(url, threading.Event()) as file:
        return file.path.read_bytes()


def xml(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}, said the test</Message></Error>'.encode()


TROUBLES = {
    "SlowDown": answer(503, xml("SlowDown")),
    "503": answer(503, xml("ServiceUnavailable")),
    "500": answer(500, xml("InternalError")),
    "429": answer(429, xml("TooManyRequests")),
    "RequestTimeout": answer(400, xml("RequestTimeout")),
    "not XML": answer(503, b"please reduce your request rate"),
    "reset": RESET,
    "hang up": HANG_UP,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_may_pass_is_tried_again(site: Scripted, remote: Remote, waits: list[float], trouble: str) -> None:
    """Before the first byte: botocore has its tries, then we have ours."""
    site.script = [HEAD, *[TROUBLES[trouble]] * REQUESTS_A_TRY, HEAD, GET]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) <= REQUESTS_A_TRY
    assert len(site.asked) >= 4


def test_an_object_that_is_cut_short(site: Scripted, remote: Remote, waits: list[float]) -> None:
    cut = answer(206, BODY, cut=7, content_range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
    site.script = [HEAD, cut, HEAD, GET]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) == 1


def test_a_service_that_is_throttled_for_good(site: Scripted, remote: Remote, waits: list[float]) -> None:
    site.script = [HEAD, answer(503, xml("SlowDown"), retry_after=9)]
    with pytest.raises(FetchFailed, match=r"s3://clips/1\.mp4 can't be read: 503 .*\(tried 4 times\)"):
        fetched(remote, "s3://clips/1.mp4")
    assert len(site.asked) == 1 + REQUESTS_A_TRY * TRIES
    assert [9.0 <= seconds <= 9.5 for seconds in waits] == [True] * (TRIES - 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchKey"), (400, "InvalidArgument"), (401, "Unauthorized"), (410, "Gone")],
)
def test_what_can_t_pass_is_not(site: Scripted, remote: Remote, waits: list[float], status: int, code: str) -> None:
    site.script = [HEAD, answer(status, xml(code))]
    with pytest.raises(FetchFailed, match=f"can't be read: {status} "):
        fetched(remote, "s3://clips/1.mp4")
    assert len(site.asked) == 2
    assert waits == []


def test_credentials_that_are_not_there_are_not_looked_for_again(
    site: Scripted, remote: Remote, waits: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(FetchFailed, match="credentials"):
        fetched(remote, "s3://clips/1.mp4")
    assert site.asked == []
    assert waits == []


@pytest.mark.usefixtures("site")
def test_nobody_there(remote: Remote, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(FetchFailed, match=r"tried 4 times"):
        fetched(remote, "s3://clips/1.mp4")
    assert len(waits) == TRIES - 1


@pytest.mark.usefixtures("waits")
def test_a_listing_is_tried_again_as_well(site: Scripted, remote: Remote) -> None:
    page = b"<ListBucketResult><Contents><Key>a/1.mp4</Key><Size>1</Size></Contents></ListBucketResult>"
    site.of = {b"HEAD": answer(404)}
    site.script = [answer(503, xml("SlowDown")), answer(200, page)]
    assert [found.item.uri for found in Inputs(["s3://clips/a/"], remote)] == ["s3://clips/a/1.mp4"]


def test_gs(site: Scripted, remote: Remote, waits: list[float]) -> None:
    about = b'{"kind": "storage#object", "bucket": "clips", "name": "1.mp4", "size": "%d"}' % len(BODY)
    facts = answer(200, about, content_type="application/json")
    listing = answer(200, b"{}", content_type="application/json")
    site.of = {b"/o/1.mp4 ": facts, b"&prefix=": listing}  # gcsfs asks for both at once, in either order
    site.script = [answer(503, b"{}"), GET]  # gcsfs has tries of its own
    assert fetched(remote, "gs://clips/1.mp4") == BODY
    assert len([line for line in site.asked if b"alt=media" in line]) == 2
    site.asked, site.script = [], [answer(403, b'{"error": {"message": "no"}}')]
    with pytest.raises(FetchFailed, match="can't be read: 403 Forbidden"):
        fetched(remote, "gs://clips/1.mp4")
    assert len([line for line in site.asked if b"alt=media" in line]) == 1
    assert waits == []
