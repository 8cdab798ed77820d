"""What may pass is tried again, by what the server says of it; what can't is not. Against a server with a script."""

from __future__ import annotations

import datetime
import email.utils
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.errors import Cancelled
from service.jobs import remote as remote_module
from service.jobs import retries, web
from service.jobs.errors import FetchFailed, UriNotAllowed
from service.jobs.remote import Remote
from service.spool import Spool
from tests.ports import free_port
from tests.scripted import HANG_UP, RESET, Scripted, answer, scripted

BODY = b"a clip " * 50_000
SECRET = "not-to-be-told"  # noqa: S105


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def site(server: Scripted) -> Scripted:
    server.script, server.asked, server.heads = [answer(200, BODY)], [], []
    return server


class Waits(list[float]):
    """How long was waited before each try but the first: it is not."""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    found = Waits()
    monkeypatch.setattr("tenacity.sleep_using_event", lambda event: found.append)
    return found


@pytest.fixture
def remote(site: Scripted, tmp_path: Path) -> Remote:
    return Remote([f"{site.url}/"], Spool(tmp_path / "spool", 1 << 30, 1 << 30))


def fetched(remote: Remote, url: str) -> bytes:
    with remote.fetched(url, threading.Event()) as file:
        return file.path.read_bytes()


def said(remote: Remote, url: str) -> str:
    with pytest.raises(FetchFailed) as caught:
        fetched(remote, url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.value)
    return str(caught.value)


def test_a_server_that_asks_for_patience_gets_it(site: Scripted, remote: Remote, waits: Waits) -> None:
    site.script = [answer(503, retry_after=7), answer(503, retry_after=7), answer(200, BODY)]
    assert fetched(remote, f"{site.url}/clip.mp4") == BODY
    assert len(site.asked) == 3
    assert all(7.0 <= seconds <= 7.5 for seconds in waits)


def test_it_is_really_waited_for(site: Scripted, remote: Remote) -> None:
    site.script = [answer(429, retry_after=1), answer(200, BODY)]
    began = time.monotonic()
    assert fetched(remote, f"{site.url}/clip.mp4") == BODY
    assert time.monotonic() - began >= 1.0


TROUBLES = [
    *[answer(status) for status in (408, 425, 429, 500, 502, 503, 504, 520, 599)],
    RESET, HANG_UP, b"HTTP/1.1 200 OK\r\n", b"this is not HTTP\r\n\r\n", answer(200, BODY, cut=1),
    answer(200, BODY, cut=len(BODY)), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort",
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda step: step[:24].decode().strip())
def test_what_may_pass_is_tried_again(site: Scripted, remote: Remote, waits: Waits, trouble: bytes) -> None:
    site.script = [trouble, answer(200, BODY)]
    assert fetched(remote, f"{site.url}/clip.mp4") == BODY
    assert len(site.asked) == 2
    assert len(waits) == 1
    assert 0.5 <= waits[0] <= 1.5


@pytest.mark.parametrize("status", [202, 204, 206, 400, 401, 402, 403, 404, 405, 406, 409, 410, 416, 418, 451])
def test_what_can_t_pass_is_not(site: Scripted, remote: Remote, waits: Waits, status: int) -> None:
    site.script = [answer(status, retry_after=1)]
    phrase = httpx.codes.get_reason_phrase(status)
    assert f"/clip.mp4?redacted can't be read: {status} {phrase}" in said(remote, f"{site.url}/clip.mp4?sig={SECRET}")
    assert len(site.asked) == 1
    assert waits == []


def test_who_fails_for_good_is_asked_four_times(site: Scripted, remote: Remote, waits: Waits) -> None:
    site.script = [answer(503)]
    text = said(remote, f"{site.url}/clip.mp4?sig={SECRET}")
    assert text == f"{site.url}/clip.mp4?redacted can't be read: 503 Service Unavailable (tried 4 times)"
    assert len(site.asked) == 4
    for seconds, grown in zip(waits, (0.5, 1.0, 2.0), strict=True):
        assert grown <= seconds <= grown + 1.0  # jitter


def test_a_port_where_nobody_is(tmp_path: Path, waits: Waits) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    text = said(Remote([url], Spool(tmp_path, 1 << 30, 1 << 30)), f"{url}clip.mp4?sig={SECRET}")
    assert "refused" in text
    assert "tried 4 times" in text
    assert len(waits) == 3


def test_a_server_that_is_silent(tmp_path: Path, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_SILENCE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connection, nobody answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        text = said(Remote([url], Spool(tmp_path, 1 << 30, 1 << 30)), f"{url}clip.mp4?sig={SECRET}")
    assert "timed out (tried 4 times)" in text
    assert len(waits) == 3


def self_signed(folder: Path) -> Path:
    """Certificate and key of 127.0.0.1, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - day).not_valid_after(now + day).add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.pem").write_bytes(made.public_bytes(pem) + secret)
    return folder / "tls.pem"


def test_a_certificate_that_nobody_trusts_is_no_better_the_second_time(
    tmp_path: Path, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusted is whom this machine trusts."""
    file = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with scripted(context) as server:
        server.script = [answer(200, BODY)]
        url = f"{server.url}/clip.mp4?sig={SECRET}"
        spool = Spool(tmp_path / "spool", 1 << 30, 1 << 30)
        assert "CERTIFICATE_VERIFY_FAILED" in said(Remote([f"{server.url}/"], spool), url)
        assert waits == []
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert fetched(Remote([f"{server.url}/"], spool), url) == BODY


@pytest.mark.parametrize("host", ["127.0.0.1:port", "[::1", "xn--a", ""])
def test_what_is_no_url(host: str, tmp_path: Path, waits: Waits) -> None:
    with pytest.raises((FetchFailed, UriNotAllowed)) as caught:
        fetched(Remote([f"http://{host}/"], Spool(tmp_path, 1 << 30, 1 << 30)), f"http://{host}/f?sig={SECRET}")
    assert f"http://{host}/f?redacted" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert waits == []


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        (f"https://elsewhere.example/f?sig={SECRET}", " to https://elsewhere.example/f?redacted"),
        (f"https://elsewhere.example/f?a=b c&sig={SECRET}", " to https://elsewhere.example/f?redacted"),
        (f"https://u:{SECRET} x@elsewhere.example/f", " to https://elsewhere.example/f"),
        (f"//elsewhere.example/f?sig={SECRET}", " to http://elsewhere.example/f?redacted"),
        (f"/other.mp4?sig={SECRET}", " to HERE/other.mp4?redacted"),
        (f"?sig={SECRET}", " to HERE/clip.mp4?redacted"),
        (f"#{SECRET}", " to HERE/clip.mp4?redacted"),
        ("/other.mp4", " to HERE/other.mp4"),
        (f"https:f?sig={SECRET}", ""),
        (f"ftp:f?sig={SECRET}", ""),
        (f"http://[::1/f?sig={SECRET}", ""),
    ],
)
def test_a_redirect_is_said_without_its_query(
    site: Scripted, remote: Remote, waits: Waits, location: str, leads_to: str
) -> None:
    site.script = [answer(307, location=location)]
    text = said(remote, f"{site.url}/clip.mp4?sig={SECRET}")
    where = leads_to.replace("HERE", site.url)
    assert text.endswith(f": 307 Temporary Redirect: it redirects{where}, and redirects are not followed")
    assert len(site.asked) == 1
    assert waits == []


def test_a_server_s_own_words_are_not_repeated(site: Scripted, remote: Remote) -> None:
    site.script = [answer(403).replace(b"Said", f"Denied for /clip.mp4?sig={SECRET}".encode())]
    text = said(remote, f"{site.url}/clip.mp4?sig={SECRET}")
    assert text == f"{site.url}/clip.mp4?redacted can't be read: 403 Forbidden"


def test_a_server_that_packs_what_it_sends(site: Scripted, remote: Remote, waits: Waits) -> None:
    """Unasked, as object stores do with what was stored that way."""
    site.script = [answer(200, gzip.compress(BODY), content_encoding="gzip")]
    assert fetched(remote, f"{site.url}/clip.mp4") == BODY
    site.script = [answer(200, b"this is not gzip", content_encoding="gzip")]
    assert "can't be read" in said(remote, f"{site.url}/clip.mp4")
    site.script = [answer(200, gzip.compress(gzip.compress(bytes(1 << 20))), content_encoding="gzip, gzip")]
    assert "Content-Encoding is gzip, gzip" in said(remote, f"{site.url}/clip.mp4")
    assert len(site.asked) == 3
    assert waits == []


def test_whoever_cancels_does_not_wait(site: Scripted, remote: Remote) -> None:
    site.script = [answer(503, retry_after=60)]
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    with pytest.raises(Cancelled), remote.fetched(f"{site.url}/clip.mp4", cancelled):
        pass
    assert len(site.asked) == 1


def test_a_file_that_trickles_for_ever_ends(site: Scripted, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "_LONGEST_FETCH_SECONDS", 0.0)
    assert "bytes came in 0 s" in said(remote, f"{site.url}/clip.mp4?sig={SECRET}")
    assert len(site.asked) == 1


def test_a_manifest_too(site: Scripted, remote: Remote, waits: Waits) -> None:
    lines = "uri\nhttps://host/ä.mp4\n"
    site.script = [answer(503), answer(200, lines.encode(), cut=1), answer(200, lines.encode())]
    with remote.reading(f"{site.url}/m.csv") as file:
        assert file.read().decode() == lines
    assert len(waits) == 2


def test_the_head_of_a_file(site: Scripted, remote: Remote, waits: Waits) -> None:
    site.script = [answer(503), answer(200, BODY)]
    assert remote.head(f"{site.url}/clip.mp4", 100) == BODY[:100]
    assert remote.head(f"{site.url}/clip.mp4", 1 << 30) == BODY
    site.script = [answer(404)]
    with pytest.raises(FetchFailed, match=r"clip\.mp4\?redacted can't be read: 404"):
        remote.head(f"{site.url}/clip.mp4?sig={SECRET}", 100)
    assert len(waits) == 1


def date(seconds: float) -> str:
    """A date of HTTP, from now."""
    return email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds), usegmt=True
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "1.5"}, 0.0),
        ({}, 0.0),
        # By the server's own clock.
        ({"retry-after": "Wed, 21 Oct 2015 07:28:09 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wednesday, 21-Oct-15 07:28:09 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:09 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float) -> None:
    assert retries.retry_after_seconds(headers) == seconds


def test_a_date_counts_from_now_where_the_server_names_no_other() -> None:
    assert retries.retry_after_seconds({"retry-after": date(600.0)}) == pytest.approx(600.0, abs=2.0)
    assert retries.retry_after_seconds({"retry-after": date(-600.0)}) == 0.0


@pytest.mark.parametrize("asked", ["86400", "9" * 400, date(86400.0)], ids=["seconds", "ever", "date"])
def test_nobody_is_waited_for_for_a_day(site: Scripted, remote: Remote, waits: Waits, asked: Any) -> None:
    site.script = [answer(503, retry_after=asked), answer(200, BODY)]
    assert fetched(remote, f"{site.url}/clip.mp4") == BODY
    assert 60.0 <= waits[0] <= 60.5
