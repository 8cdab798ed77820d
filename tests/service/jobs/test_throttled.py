"""s3:// and gs:// of a service that is busy, away or out of breath: what may pass is tried again there too."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from service.errors import Cancelled
from service.jobs import object_store
from service.jobs.errors import FetchFailed
from service.jobs.inputs import Inputs
from service.jobs.remote import Remote
from service.jobs.retries import TRIES
from service.spool import Spool
from tests.ports import free_port
from tests.scripted import HANG_UP, RESET, Scripted, answer, scripted

DATE, IN_SEVEN_SECONDS = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:07 GMT"
BODY = b"a clip " * 1000
HEAD = answer(200, BODY, last_modified=DATE, etag='"x"')
GET = answer(206, BODY, content_range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def site(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    server.script, server.asked, server.heads, server.of = [HEAD, GET], [], [], {}
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
    """How long was waited before each try but the first: it is not."""
    found: list[float] = []
    monkeypatch.setattr("tenacity.sleep_using_event", lambda event: found.append)
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


def tries(trouble: bytes, num_tries: int = TRIES - 1) -> list[bytes]:
    """Requests of so many tries: where a connection ends without a word, aiohttp asks once more at once."""
    return [trouble] * num_tries * (2 if trouble in (RESET, HANG_UP) else 1)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_may_pass_is_tried_again(site: Scripted, remote: Remote, waits: list[float], trouble: str) -> None:
    """By us alone: each step of the script is one of our tries."""
    site.script = [HEAD, *tries(TROUBLES[trouble]), GET]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize("trouble", sorted(TROUBLES.keys() - {"RequestTimeout"}))  # a code, and HEAD has no body
def test_so_is_the_question_whether_it_is_there(
    site: Scripted, remote: Remote, waits: list[float], trouble: str
) -> None:
    site.script = [*tries(TROUBLES[trouble]), HEAD, GET]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize("url", ["s3://clips/1.mp4", "gs://clips/1.mp4"])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("when", [7, IN_SEVEN_SECONDS])
def test_a_service_that_asks_for_patience_gets_it(
    site: Scripted, remote: Remote, waits: list[float], url: str, status: int, when: object
) -> None:
    site.of = {b"HEAD": HEAD, **GS_FACTS}
    site.script = [*[answer(status, date=DATE, retry_after=when)] * (TRIES - 1), GET]
    assert fetched(remote, url) == BODY
    assert [7.0 <= seconds <= 7.5 for seconds in waits] == [True] * (TRIES - 1)


def test_blocks_that_came_are_not_read_again(
    site: Scripted, remote: Remote, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of many has more troubles than tries."""
    monkeypatch.setattr(object_store, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(object_store, "_CHUNK_BYTES", 1000)
    busy = answer(503, xml("SlowDown"))
    blocks = [answer(206, BODY[at : at + 2000]) for at in range(0, len(BODY), 2000)]
    site.script = [HEAD, *[step for block in blocks for step in (busy, busy, block)]]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) == 2 * len(blocks) > TRIES
    ranges = [head.lower().partition(b"range: bytes=")[2].partition(b"-")[0] for head in site.heads[1:]]
    assert ranges == [b"%d" % at for at in range(0, len(BODY), 2000) for _ in range(3)]


@pytest.mark.parametrize("url", ["s3://clips/1.mp4", "gs://clips/1.mp4"])
def test_whoever_cancels_in_a_pause_waits_no_longer(
    site: Scripted, remote: Remote, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    cancelled, paused = threading.Event(), list[float]()

    def pause(seconds: float) -> None:
        paused.append(seconds)
        cancelled.set()

    monkeypatch.setattr("tenacity.sleep_using_event", lambda event: pause)
    site.of = {b"HEAD": HEAD, **GS_FACTS}
    site.script = [answer(503, xml("SlowDown"), retry_after=60)]
    with pytest.raises(Cancelled), remote.fetched(url, cancelled):
        pass
    assert len(paused) == 1
    gets = [line for line in site.asked if line.startswith(b"GET") and not any(word in line for word in GS_FACTS)]
    assert len(gets) == 1


def test_an_object_that_is_cut_short(site: Scripted, remote: Remote, waits: list[float]) -> None:
    cut = answer(206, BODY, cut=7, content_range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
    site.script = [HEAD, cut, GET]
    assert fetched(remote, "s3://clips/1.mp4") == BODY
    assert len(waits) == 1


def test_a_service_that_is_throttled_for_good(site: Scripted, remote: Remote, waits: list[float]) -> None:
    site.script = [HEAD, answer(503, xml("SlowDown"), retry_after=9)]
    with pytest.raises(FetchFailed, match=r"s3://clips/1\.mp4 can't be read: 503 .*\(tried 4 times\)"):
        fetched(remote, "s3://clips/1.mp4")
    assert len(site.asked) == 1 + TRIES
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


def listed(remote: Remote, url: str) -> list[str]:
    return [found.item.uri for found in Inputs([url], remote)]


def page(*keys: str, folder: str = "", following: str = "") -> bytes:
    """Of a listing. following: the token of the next one."""
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{following}</NextContinuationToken>"
    files = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    folders = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" if folder else ""
    return answer(200, f"<ListBucketResult>{more if following else ''}{files}{folders}</ListBucketResult>".encode())


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_listing_is_tried_again_as_well(site: Scripted, remote: Remote, waits: list[float], trouble: str) -> None:
    site.of = {b"HEAD": answer(404)}
    site.script = [*tries(TROUBLES[trouble]), page("a/1.mp4")]
    assert listed(remote, "s3://clips/a/") == ["s3://clips/a/1.mp4"]
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize("when", [7, IN_SEVEN_SECONDS])
def test_a_listing_waits_as_it_is_told(site: Scripted, remote: Remote, waits: list[float], when: object) -> None:
    site.of = {b"HEAD": answer(404)}
    site.script = [answer(503, xml("SlowDown"), date=DATE, retry_after=when)]
    with pytest.raises(FetchFailed, match=r"s3://clips/a/ can't be read: 503 SlowDown.*\(tried 4 times\)"):
        listed(remote, "s3://clips/a/")
    assert len([line for line in site.asked if line.startswith(b"GET")]) == TRIES
    assert [7.0 <= seconds <= 7.5 for seconds in waits] == [True] * (TRIES - 1)


def test_a_listing_that_breaks_off_begins_anew(site: Scripted, remote: Remote, waits: list[float]) -> None:
    """In order, each file once, and what is passed over counted once."""
    site.of = {b"HEAD": answer(404), b"max-keys": page("a/1.mp4")}  # whether it is a folder
    first, second = page("a/1.mp4", "a/2.txt", following="next"), page("a/3.mp4", "a/4.txt")
    site.script = [first, answer(503, xml("SlowDown")), first, second]
    found = Inputs(["s3://clips/a/"], remote)
    assert [each.item.uri for each in found] == ["s3://clips/a/1.mp4", "s3://clips/a/3.mp4"]
    assert str(found.passed_over) == "passed over 2 files that are no video: 2 .txt"
    assert len(waits) == 1


def test_a_pattern_leaves_out_no_folder_of_a_busy_service(site: Scripted, remote: Remote, waits: list[float]) -> None:
    """fsspec passes over those that it can't list."""
    site.of = {b"HEAD": answer(404), b"max-keys": page(), b"prefix=&": page(folder="a/")}
    site.script = [*[answer(503, xml("SlowDown"))] * (TRIES - 1), page("a/1.mp4")]
    assert listed(remote, "s3://clips/*/1.mp4") == ["s3://clips/a/1.mp4"]
    assert len(waits) == TRIES - 1
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    site.script = [answer(503, xml("SlowDown"))]
    with pytest.raises(FetchFailed, match=r"503 SlowDown.*\(tried 4 times\)"):
        listed(remote, "s3://clips/*/1.mp4")


def test_a_listing_that_nobody_may_have_is_asked_for_once(site: Scripted, remote: Remote, waits: list[float]) -> None:
    site.of = {b"HEAD": answer(404)}
    site.script = [answer(403, xml("AccessDenied"), retry_after=1)]
    with pytest.raises(FetchFailed, match="403 AccessDenied"):
        listed(remote, "s3://clips/a/")
    assert len(site.asked) == 2
    assert waits == []


def said(**fields: object) -> bytes:
    return answer(200, json.dumps(fields).encode(), content_type="application/json")


def gs_object(name: str, num_bytes: int) -> dict[str, str]:
    return {"kind": "storage#object", "bucket": "clips", "name": name, "size": str(num_bytes)}


# gcsfs asks for both at once, in either order.
GS_FACTS = {b"/o/1.mp4 ": said(**gs_object("1.mp4", len(BODY))), b"&prefix=": said()}
GS_TROUBLES = {
    "503": answer(503, b"{}"), "502": answer(502), "520": answer(520), "429": answer(429, b"{}"),
    "408": answer(408), "500, invalid": answer(500, b"an invalid state"), "reset": RESET, "hang up": HANG_UP,
    "cut short": answer(206, BODY, cut=7),
}  # fmt: skip


@pytest.mark.parametrize("trouble", GS_TROUBLES)
def test_what_may_pass_is_tried_again_of_gs(site: Scripted, remote: Remote, waits: list[float], trouble: str) -> None:
    site.of, site.script = GS_FACTS, [*tries(GS_TROUBLES[trouble]), GET]
    assert fetched(remote, "gs://clips/1.mp4") == BODY
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412])
def test_what_can_t_pass_is_not_of_gs(site: Scripted, remote: Remote, waits: list[float], status: int) -> None:
    site.of, site.script = GS_FACTS, [answer(status, b'{"error": {"message": "Invalid Credentials"}}', retry_after=1)]
    with pytest.raises(FetchFailed, match="can't be read"):
        fetched(remote, "gs://clips/1.mp4")
    assert len([line for line in site.asked if b"alt=media" in line]) == 1
    assert waits == []


def test_whether_it_is_there_of_gs(site: Scripted, remote: Remote, waits: list[float]) -> None:
    site.of = {b"&prefix=": said(), b"alt=media": GET}
    site.script = [*[answer(503, retry_after=7)] * (TRIES - 1), GS_FACTS[b"/o/1.mp4 "]]
    assert fetched(remote, "gs://clips/1.mp4") == BODY
    assert 1 <= len(waits) <= TRIES - 1  # gcsfs may ask twice at once, and both are told to wait
    assert all(7.0 <= seconds <= 7.5 for seconds in waits)


@pytest.mark.parametrize("url", ["gs://clips/a/", "gs://clips/a/*.mp4"])
def test_a_listing_of_gs(site: Scripted, remote: Remote, waits: list[float], url: str) -> None:
    """Of two pages, the second of which is late; what is asked before says whether there is a folder."""
    first = said(kind="storage#objects", items=[gs_object("a/1.mp4", 1)], nextPageToken="next")
    second = said(kind="storage#objects", items=[gs_object("a/2.mp4", 1)])
    site.of = {
        b"/o/a ": answer(404), b"/o/a%2F*.mp4 ": answer(404),
        b"prefix=a/*.mp4/": said(kind="storage#objects"), b"maxResults=1&": second, b"maxResults=1 ": second,
    }  # fmt: skip
    site.script = [answer(429, retry_after=7), first, answer(503, retry_after=7), first, second]
    assert listed(remote, url) == ["gs://clips/a/1.mp4", "gs://clips/a/2.mp4"]
    assert [7.0 <= seconds <= 7.5 for seconds in waits] == [True, True]


@pytest.mark.parametrize(("error", "num_tries"), [("internal_failure", 2), ("invalid_grant", 1)])
def test_a_token_that_does_not_come(
    site: Scripted, remote: Remote, waits: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    error: str, num_tries: int,
) -> None:  # fmt: skip
    """google-auth knows which of its failures may pass; it has three tries of its own."""
    monkeypatch.setattr("google.auth._exponential_backoff.ExponentialBackoff._calculate_jitter", lambda self: 0.0)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account", "project_id": "p", "private_key": pem, "client_email": "reader@p.example",
        "token_uri": f"{site.url}/token",
    }  # fmt: skip
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    refused = answer(400, json.dumps({"error": error}).encode(), content_type="application/json")
    token = said(access_token="not-a-secret", expires_in=3600, token_type="Bearer")  # noqa: S106
    site.of, site.script = {**GS_FACTS, b"alt=media": GET}, [refused] * 6  # two requests need it
    if num_tries == 1:
        with pytest.raises(FetchFailed, match="Invalid Credentials"):
            fetched(remote, "gs://clips/1.mp4")
    else:
        site.script += [token]
        assert fetched(remote, "gs://clips/1.mp4") == BODY
    assert len(waits) == num_tries - 1
