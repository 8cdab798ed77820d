"""Every refusal over HTTP, on a real server: a problem with the right code, and nothing left in the spool."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import MAX_REQUESTS_IN_FLIGHT, MAX_UPLOAD_BYTES, SPOOL_QUOTA_BYTES
from tests.drawn import Drawn, draw
from tests.server import DEADLINE_SECONDS, MIB, Listener, Server, problem, wait_until
from tests.zoo import MODEL

PATH = "/v1/predict"
MP4 = {"Content-Type": "video/mp4"}
TEXT = b"This is not a video.\n" * 100


@pytest.fixture(autouse=True)
def _nothing_stays(server: Server) -> Iterator[None]:
    yield
    server.assert_spool_is_empty()


@dataclass(frozen=True)
class Refused:
    """A request, and the problem that it gets; `words` are in the detail."""

    name: str
    status: int
    code: str
    words: tuple[str, ...]
    request: dict[str, Any] = field(default_factory=dict)


def form(name: str, value: tuple[str | None, bytes]) -> dict[str, Any]:
    return {"files": {name: value}}


def raw(content: bytes, content_type: str = "video/mp4") -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": content_type}}


def query(**params: str) -> dict[str, Any]:
    return {"params": params, **raw(TEXT)}


def malformed(content: bytes, content_type: str = "multipart/form-data; boundary=b") -> dict[str, Any]:
    return raw(content, content_type)


_PART = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c.mp4"\r\n\r\n'
_LONG = b"X-Long: " + b"x" * 20_000 + b"\r\n"
_MANY = b"".join(b"X-%d: " % i + b"x" * 4_000 + b"\r\n" for i in range(6))
_NAMES = (b"top_k", b"window", b"stride")
# Three such parts: the parser itself allows eight headers a part.
_OTHERS = b"".join(_PART[:-2].replace(b'"video"; filename="c.mp4"', name) + _MANY + b"\r\n1\r\n" for name in _NAMES)

REFUSED = [
    Refused("no-body", 400, "no_file", ("no body", "curl -F video=@")),
    Refused("no-field", 400, "no_file", ("'video'", "in the field 'clip'", "curl -F"), form("clip", ("c.mp4", TEXT))),
    Refused("no-part", 400, "no_file", ("'video'",), malformed(b"--b--\r\n")),
    Refused("text-field", 400, "no_file", ("'video' holds text",), form("video", (None, b"hello"))),
    Refused("empty-form", 400, "empty_file", ("0 bytes",), form("video", ("c.mp4", b""))),
    Refused("empty-raw", 400, "empty_file", ("0 bytes",), raw(b"")),
    Refused("text", 422, "not_a_video", ("MP4",), form("video", ("c.mp4", TEXT))),
    Refused("noise", 422, "not_a_video", ("MP4",), raw(np.random.default_rng(0).bytes(5000))),
    Refused("unknown-model", 404, "unknown_model", ("'no-such'", MODEL), query(model="no-such")),
    Refused("top_k-0", 400, "bad_parameter", ("top_k", "1", "'0'"), query(top_k="0")),
    Refused("top_k-1001", 400, "bad_parameter", ("top_k", "1000", "'1001'"), query(top_k="1001")),
    Refused("top_k-x", 400, "bad_parameter", ("top_k is 'x'", "whole number of labels"), query(top_k="x")),
    Refused("unknown-name", 400, "bad_parameter", ("no parameter topk", "did you mean top_k?"), query(topk="3")),
    Refused("start-negative", 400, "bad_parameter", ("start_seconds", "'-1'"), query(start_seconds="-1")),
    Refused("start-nan", 400, "bad_parameter", ("start_seconds is 'nan'", "number"), query(start_seconds="nan")),
    Refused("end-infinite", 400, "bad_parameter", ("end_seconds is 'inf'", "number"), query(end_seconds="inf")),
    Refused(
        "end-before-start", 400, "bad_parameter", ("end_seconds is 1", "after", "start_seconds is 2"),
        query(start_seconds="2", end_seconds="1"),
    ),
    Refused("json", 415, "unsupported_media_type", ("'application/json'", "multipart"), {"json": {"video": "x"}}),
    Refused("image", 415, "unsupported_media_type", ("'image/png'",), raw(TEXT, "image/png")),
    Refused("untyped", 415, "unsupported_media_type", ("video/mp4",), {"content": TEXT}),
    Refused("no-boundary", 400, "malformed_upload", ("boundary",), malformed(TEXT, "multipart/form-data")),
    Refused("cut-off", 400, "malformed_upload", ("cut off",), malformed(_PART + TEXT)),
    Refused("no-form", 400, "malformed_upload", ("RFC 7578",), malformed(TEXT)),
    Refused("empty-form-body", 400, "malformed_upload", ("cut off",), malformed(b"")),
    Refused("long-header", 400, "malformed_upload", ("header size",), malformed(_PART[:-2] + _LONG + b"\r\n")),
    Refused("many-headers", 400, "malformed_upload", ("65536",), malformed(_OTHERS)),
    Refused(
        "two-files", 400, "malformed_upload", ("more than one",),
        {"files": [("video", ("a.mp4", TEXT)), ("video", ("b.mp4", TEXT))]},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(server: Server, client: httpx.Client, case: Refused) -> None:
    before = server.samples().get(f'reelserve_errors_total{{code="{case.code}"}}', 0)
    body = problem(client.post(PATH, **case.request), case.status, case.code)
    for word in case.words:
        assert word in body["detail"]
    assert server.samples()[f'reelserve_errors_total{{code="{case.code}"}}'] == before + 1


@pytest.mark.parametrize("sent", [form, lambda name, value: raw(value[1])], ids=["form", "raw"])
def test_a_list_of_files_opens_none_of_them(
    client: httpx.Client, tmp_path: Path, sent: Callable[[str, tuple[str, bytes]], dict[str, Any]]
) -> None:
    other = draw(tmp_path / "other.ts", num_frames=10).path
    script = f"ffconcat version 1.0\nfile {other}\n".encode()
    problem(client.post(PATH, **sent("video", ("c.mp4", script))), 422, "not_a_video")


def test_an_address_in_the_field_is_never_fetched(client: httpx.Client) -> None:
    with Listener() as listener:
        body = problem(client.post(PATH, **form("video", (None, listener.url.encode()))), 400, "no_file")
        assert "text, not a file" in body["detail"]
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{listener.url}\n#EXT-X-ENDLIST\n".encode()
        problem(client.post(PATH, **form("video", ("c.m3u8", playlist))), 422, "not_a_video")
        problem(client.post(PATH, json={"video": listener.url}), 415, "unsupported_media_type")
        assert not listener.was_called()


def test_a_header_without_frames(client: httpx.Client, clip: Drawn) -> None:
    blob = clip.path.read_bytes()
    start = blob.index(b"mdat") + 4
    size = int.from_bytes(blob[start - 8 : start - 4], "big") - 8
    zeroed = blob[:start] + bytes(size) + blob[start + size :]
    body = problem(client.post(PATH, **raw(zeroed)), 422, "no_decodable_frame")
    assert "h264" in body["detail"]


def test_a_cut_after_the_end_of_the_clip(client: httpx.Client, clip: Drawn) -> None:
    with clip.path.open("rb") as file:
        response = client.post(PATH, params={"start_seconds": "100"}, files={"video": file})
    body = problem(response, 422, "past_the_end")
    assert (body["value"], body["limit"]) == (100.0, 2.0)
    assert body["title"] == "Start past the end"
    assert body["detail"] == "start_seconds is 100, and the video ends at 2.00 s; give an earlier start"


@pytest.mark.parametrize("num_bytes", [MAX_UPLOAD_BYTES + 1, 5_000_000])
def test_too_large_by_the_announced_length(client: httpx.Client, num_bytes: int) -> None:
    body = problem(client.post(PATH, **raw(bytes(num_bytes))), 413, "too_large")
    assert (body["value"], body["limit"]) == (num_bytes, MAX_UPLOAD_BYTES)
    assert "max_upload_bytes" in body["detail"]


@pytest.mark.parametrize("num_bytes", [MAX_UPLOAD_BYTES + 1, 5_000_000])
def test_a_form_s_file_is_too_large(client: httpx.Client, num_bytes: int) -> None:
    """Its Content-Length counts the boundaries too: near the limit, only the bytes of the file tell."""
    body = problem(client.post(PATH, **form("video", ("c.mp4", bytes(num_bytes)))), 413, "too_large")
    assert body["value"] > body["limit"] == MAX_UPLOAD_BYTES


@pytest.mark.parametrize("sent", [form, lambda name, value: raw(value[1])], ids=["form", "raw"])
def test_a_file_of_the_largest_size_is_taken(
    client: httpx.Client, sent: Callable[[str, tuple[str, bytes]], dict[str, Any]]
) -> None:
    problem(client.post(PATH, **sent("video", ("c.mp4", bytes(MAX_UPLOAD_BYTES)))), 422, "not_a_video")


def test_too_large_without_a_length(client: httpx.Client) -> None:
    pieces = (bytes(100_000) for _ in range(50))
    body = problem(client.post(PATH, content=pieces, headers=MP4), 413, "too_large")
    assert body["value"] > body["limit"] == MAX_UPLOAD_BYTES


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), DEADLINE_SECONDS) as connection:
        yield connection


def head(length: int, *lines: str, path: str = PATH) -> bytes:
    """The head of a raw upload of `length` bytes."""
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: video/mp4", f"Content-Length: {length}", *lines, "", ""]
    ).encode()


def read_response(connection: socket.socket) -> tuple[str, bytes]:
    """Status line, and the whole of one response (with a Content-Length)."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return f"{response.status} {response.headers['content-type']}", response.read()


def test_expect_continue_is_refused_before_the_body_is_sent(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(head(5_000_000, "Expect: 100-continue"))
        answer = b""
        while b"too_large" not in answer:
            received = connection.recv(65536)
            assert received, f"closed after {answer!r}"
            answer += received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_expect_continue_is_told_to_go_on(server: Server, clip: Drawn) -> None:
    blob = clip.path.read_bytes()
    with connected(server) as connection:
        connection.sendall(head(len(blob), "Expect: 100-continue"))
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            received = connection.recv(1)
            assert received, f"closed after {interim!r}"
            interim += received
        assert interim.startswith(b"HTTP/1.1 100 ")
        connection.sendall(blob)
        assert read_response(connection)[0] == "200 application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/models/x/y", 404, "not_found"),
        ("POST", "/v2/predict", 404, "not_found"),
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    response = client.request(method, path)
    body = problem(response, status, code)
    assert f"{method} {path}" in body["detail"]
    assert "/docs" in body["detail"]
    assert ("allow" in response.headers) == (status == 405)


def test_spool_full(server: Server, client: httpx.Client) -> None:
    """One upload in flight holds what a second one, small enough in itself, needs."""
    held = 3 * MIB
    assert MAX_UPLOAD_BYTES + held > SPOOL_QUOTA_BYTES
    with connected(server) as connection:
        connection.sendall(head(held + 1) + bytes(held))
        wait_until(lambda: sum(server.spooled_bytes()) >= held - MIB, "an upload in the spool")
        spooled = sum(server.spooled_bytes())
        for request in (raw(bytes(MAX_UPLOAD_BYTES)), {"content": iter([bytes(MAX_UPLOAD_BYTES)]), "headers": MP4}):
            response = client.post(PATH, **request)
            body = problem(response, 503, "spool_full")
            assert body["value"] > body["limit"] == SPOOL_QUOTA_BYTES
            assert "spool_quota_bytes" in body["detail"]
            assert int(response.headers["retry-after"]) > 0
        assert sum(server.spooled_bytes()) >= spooled, "the upload in flight is not disturbed"
        connection.sendall(b"\0")
        assert read_response(connection)[0].startswith("422 ")
    assert server.samples()["reelserve_spool_bytes"] == 0


def test_overloaded(server: Server, client: httpx.Client, clip: Drawn) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(MAX_REQUESTS_IN_FLIGHT)]
        for connection in held:
            connection.sendall(head(clip.path.stat().st_size))
        wait_until(lambda: len(server.spooled_bytes()) == len(held), "uploads in flight")
        assert server.samples()["reelserve_requests_in_flight"] == len(held)
        response = client.post(PATH, **raw(clip.path.read_bytes()))
        body = problem(response, 503, "overloaded")
        assert (body["value"], body["limit"]) == (len(held), len(held))
        assert "max_requests_in_flight" in body["detail"]
        assert int(response.headers["retry-after"]) > 0
        for connection in held:
            connection.sendall(clip.path.read_bytes())
        assert {read_response(connection)[0] for connection in held} == {"200 application/json"}
    assert client.post(PATH, **raw(clip.path.read_bytes())).status_code == 200
    assert server.samples()["reelserve_requests_in_flight"] == 0


FORM_HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    "Content-Length: 3000000\r\n\r\n"
).encode() + _PART
CHUNKED_HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode() + b"2dc6c0\r\n"


@pytest.mark.parametrize("sent", [head(3_000_000), FORM_HEAD, CHUNKED_HEAD], ids=["raw", "form", "chunked"])
def test_a_client_that_goes_away_leaves_nothing(server: Server, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent + bytes(2 * MIB))
        wait_until(lambda: any(server.spooled_bytes()), "bytes in the spool")
    wait_until(lambda: not server.spooled_bytes(), "the file to go")
    assert server.samples()["reelserve_spool_bytes"] == 0
    assert server.samples()["reelserve_requests_in_flight"] == 0


def test_a_client_that_goes_away_is_no_error_of_ours(server: Server) -> None:
    internal = 'reelserve_errors_total{code="internal"}'
    before, logged = server.samples().get(internal, 0), len(server.log.read_text())
    with connected(server) as connection:
        connection.sendall(head(3_000_000) + bytes(2 * MIB))
        wait_until(lambda: any(server.spooled_bytes()), "bytes in the spool")
    wait_until(lambda: not server.spooled_bytes(), "the file to go")
    assert server.samples().get(internal, 0) == before
    assert "Traceback" not in server.log.read_text()[logged:]
