"""A URL goes out as it was given, byte for byte: signatures are over its bytes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.errors import FetchFailed
from service.jobs.remote import Remote
from service.jobs.web import request_line
from service.spool import Spool
from tests.scripted import Scripted, answer, scripted


@pytest.fixture(scope="module")
def site() -> Iterator[Scripted]:
    with scripted() as running:
        running.script = [answer(200, b"x")]
        yield running


AS_GIVEN = [
    "/f?Signature=ab%2Bc%2Fd%3D",
    "/f?Signature=ab%2bc%2fd%3d",  # lower-case escapes
    "/a%2Fb%2f%2f/c",
    "/a+b?c=d+e%20f",
    "/%7Euser/~user",
    "/a;v=1/b;c?d;e=f&g;h",
    "/f?",
    "/f",
    "/",
    "/f?a=1&a=2&a=&=&&a",
    "/f?a=b?c=/d//e",
    "//double//slashes/",
    "/./dots/.",
    "/%41%42%zz%",
    "/f?x=%25252B",
    "/f?q={a}|b^`c`\"d\"<e>'f'\\g[h]",
    "/{a}|b^`c`\"d\"<e>'f'\\g[h]!$&()*,:@=",
    "/f?X-Amz-Credential=A%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Signature=ff",
    "/f?next=https%3A%2F%2Fother.example%2F%3Fa%3Db&at=user@host:80",
    "/" + "a" * 8000 + "?" + "b" * 20000,
]


def first_line(site: Scripted, folder: Path, target: str) -> bytes:
    site.asked.clear()
    remote = Remote([f"{site.url}/"], Spool(folder / "spool", 1 << 30, 1 << 30))
    with remote.fetched(f"{site.url}{target}", threading.Event()):
        [line] = site.asked
        return line


@pytest.mark.parametrize("target", AS_GIVEN, ids=lambda text: text[:40])
def test_a_url_goes_out_byte_for_byte(site: Scripted, tmp_path: Path, target: str) -> None:
    assert first_line(site, tmp_path, target) == f"GET {target} HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/ä/ü.mp4?q=é", b"/%C3%A4/%C3%BC.mp4?q=%C3%A9"),
        ("/%C3%A4/ä?a=%c3%a4ä", b"/%C3%A4/%C3%A4?a=%c3%a4%C3%A4"),  # what is encoded is not encoded again
        ("/日本?🎥=1", b"/%E6%97%A5%E6%9C%AC?%F0%9F%8E%A5=1"),
        ("/a b?c d", b"/a%20b?c%20d"),
        ("/a\tb\x7f\x01", b"/a%09b%7F%01"),
        ("/a\r\nHost: evil?x\n", b"/a%0D%0AHost:%20evil?x%0A"),
        ("/f?a=1#t=5", b"/f?a=1"),  # a fragment is the client's own
        ("/f#", b"/f"),
    ],
)
def test_what_no_request_line_can_hold_is_encoded_once(
    site: Scripted, tmp_path: Path, target: str, sent: bytes
) -> None:
    assert first_line(site, tmp_path, target) == b"GET " + sent + b" HTTP/1.1"


@pytest.mark.parametrize(("url", "target"), [("http://h", b"/"), ("http://h?a=1", b"/?a=1"), ("http://h#a", b"/")])
def test_a_path_is_never_empty(url: str, target: bytes) -> None:
    assert request_line(url) == {"url": "http://h/", "extensions": {"target": target}}


def test_the_host_is_the_one_that_is_named(site: Scripted, tmp_path: Path) -> None:
    first_line(site, tmp_path, "/f?at=@elsewhere")
    assert f"\r\nHost: {site.url.removeprefix('http://')}\r\n".encode() in site.heads[-1]
    assert b"\r\nAccept-Encoding: identity\r\n" in site.heads[-1]
    assert b"uthorization" not in site.heads[-1]


def test_what_is_no_text_is_refused(site: Scripted, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="surrogates not allowed"):
        first_line(site, tmp_path, "/\ud800")
    assert site.asked == []


def test_no_log_has_it(site: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """httpx would write each URL that it asks for."""
    with caplog.at_level(logging.DEBUG):
        first_line(site, tmp_path, "/clip.mp4?Signature=secret")
    assert "secret" not in caplog.text
