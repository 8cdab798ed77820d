"""http:// inputs against a real server: ranges or none, redirects, servers that fail for a while."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from service.errors import Cancelled, TooLarge
from service.jobs import retries
from service.jobs.errors import FetchFailed, UriNotAllowed
from service.jobs.inputs import Inputs
from service.jobs.items import Item
from service.jobs.remote import Remote
from service.spool import Spool, SpoolFile

DATA = np.random.default_rng(0).bytes(20 * 1024 * 1024 + 7)


@dataclass
class Site:
    """files: by path. ranges: whether parts may be asked for. fail: statuses of the next GETs, before it answers."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    fail: list[int] = field(default_factory=list)
    gets: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(lambda data: None)

        def do_GET(self) -> None:
            found.gets.append(self.headers.get("Range"))
            if found.fail:
                self.send_error(found.fail.pop(0))
            else:
                self._answer(self.wfile.write)

        def _answer(self, write: Callable[[bytes], object]) -> None:
            if self.path == "/moved.mp4":
                self.send_response(302)
                self.send_header("Location", f"{found.url}/clip.mp4")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = found.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if found.ranges else None
            part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
            self.send_response(206 if asked else 200)
            if found.ranges:
                self.send_header("Accept-Ranges", "bytes")
            if asked:
                self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who has seen enough goes away
                write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def remote(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(retries, "_LONGEST_WAIT_SECONDS", 0.05)
    return Remote([f"{site.url}/"], Spool(tmp_path / "spool", 1 << 30, 1 << 30))


def sha256(remote: Remote, url: str) -> str:
    with remote.fetched(url, threading.Event()) as file:
        assert file.num_bytes == file.path.stat().st_size
        return file.sha256


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_comes_whole(site: Site, remote: Remote, ranges: bool) -> None:
    site.files["/clip.mp4"], site.ranges = DATA, ranges
    assert sha256(remote, f"{site.url}/clip.mp4") == hashlib.sha256(DATA).hexdigest()


def test_a_file_and_a_manifest_as_inputs(site: Site, remote: Remote) -> None:
    site.files["/clip.mp4"] = b"x"
    site.files["/m.jsonl"] = b'{"uri": "%s/clip.mp4", "id": "a"}\n' % site.url.encode()
    found = [each.item for each in Inputs([f"{site.url}/clip.mp4", f"{site.url}/m.jsonl"], remote)]
    assert found == [Item(f"{site.url}/clip.mp4", f"{site.url}/clip.mp4"), Item("a", f"{site.url}/clip.mp4")]


CSV = b"id,uri\na,{url}/clip.mp4\n"


@pytest.mark.parametrize(
    ("path", "packed"),
    [
        ("/list.csv?sig=ab%2Bc", False),
        ("/list.CSV.gz?sig=1#x", True),
        ("/list.tsv", True),
        ("/export?format=csv", False),
    ],
)
def test_manifests_behind_any_url(site: Site, remote: Remote, path: str, packed: bool) -> None:
    content = CSV.replace(b"{url}", site.url.encode())
    site.files[path.partition("#")[0]] = gzip.compress(content) if packed else content
    assert [each.item for each in Inputs([f"{site.url}{path}"], remote)] == [Item("a", f"{site.url}/clip.mp4")]


def test_a_video_whose_name_says_nothing(site: Site, remote: Remote) -> None:
    """Its beginning is read, to know; one that is not there is an item all the same, whose row says so."""
    site.files["/watch?v=1"] = DATA
    for path in ("/watch?v=1", "/absent"):
        assert [each.item.uri for each in Inputs([f"{site.url}{path}"], remote)] == [f"{site.url}{path}"]


def test_a_server_that_fails_for_a_while_is_asked_again(site: Site, remote: Remote) -> None:
    site.files["/clip.mp4"], site.fail = DATA, [503, 500]
    assert sha256(remote, f"{site.url}/clip.mp4") == hashlib.sha256(DATA).hexdigest()


def test_a_server_that_fails_for_good(site: Site, remote: Remote) -> None:
    site.files["/clip.mp4"], site.fail = DATA, [503] * 100
    with pytest.raises(FetchFailed, match=r"clip\.mp4 can't be read: 503"):
        sha256(remote, f"{site.url}/clip.mp4")
    assert len(site.gets) == 4


def test_what_is_not_there_is_asked_for_once(site: Site, remote: Remote) -> None:
    with pytest.raises(FetchFailed, match=r"absent\.mp4 can't be read"):
        sha256(remote, f"{site.url}/absent.mp4")
    assert len(site.gets) <= 1


def test_a_redirect_is_not_followed(site: Site, remote: Remote) -> None:
    """Whoever is allowed might send us to whoever is not."""
    site.files["/clip.mp4"] = DATA
    with pytest.raises(FetchFailed, match="it redirects to"):
        sha256(remote, f"{site.url}/moved.mp4")


def test_nobody_else_is_asked(site: Site, tmp_path: Path) -> None:
    site.files["/clip.mp4"] = DATA
    stranger = Remote(["https://videos.example/"], Spool(tmp_path / "spool", 1 << 30, 1 << 30))
    with pytest.raises(UriNotAllowed):
        sha256(stranger, f"{site.url}/clip.mp4")
    assert site.gets == []


def test_a_file_that_is_too_large_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.files["/clip.mp4"] = DATA
    remote = Remote([f"{site.url}/"], Spool(tmp_path / "spool", 1 << 30, 1 << 20))
    with pytest.raises(TooLarge):
        sha256(remote, f"{site.url}/clip.mp4")
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_cancelled_batch_reads_no_further(
    site: Site, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it cancelled before its first byte or after it."""
    site.files["/clip.mp4"] = DATA
    cancelled, written, write = threading.Event(), [0], SpoolFile.write

    def cancel(file: SpoolFile, data: bytes) -> None:
        written[0] += len(data)
        write(file, data)
        cancelled.set()

    monkeypatch.setattr(SpoolFile, "write", cancel)
    for _ in range(2):
        with pytest.raises(Cancelled), remote.fetched(f"{site.url}/clip.mp4", cancelled):
            pass
        assert list((tmp_path / "spool").iterdir()) == []
    assert len(site.gets) == 1
    assert 0 < written[0] < len(DATA)
