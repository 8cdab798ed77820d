"""Gate (a): what the headers decide is answered before the upload, and clients that send it all the same see it."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import MAX_REQUESTS_IN_FLIGHT, MAX_UPLOAD_BYTES
from tests.drawn import Drawn
from tests.server import DEADLINE_SECONDS, MIB, Server, problem, wait_until

PATH = "/v1/predict"
MP4 = {"Content-Type": "video/mp4"}
UPLOAD_BYTES = 5_000_000
assert UPLOAD_BYTES > MAX_UPLOAD_BYTES


@pytest.fixture(autouse=True)
def _nothing_stays(server: Server) -> Iterator[None]:
    yield
    server.assert_spool_is_empty()


def head(path: str = PATH, num_bytes: int = UPLOAD_BYTES, **headers: str) -> bytes:
    lines = {"Host": "x", "Content-Type": "video/mp4", "Content-Length": str(num_bytes)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{text}\r\n".encode()


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), DEADLINE_SECONDS) as connection:
        yield connection


@dataclass(frozen=True)
class Answer:
    """One whole answer, as far as its Content-Length."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def read_answer(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, response.headers, response.read())


@dataclass(frozen=True)
class Gate:
    """A request that its headers condemn."""

    status: int
    code: str
    head: bytes


GATES = [
    Gate(400, "bad_parameter", head(X_Request_Timeout="soon")),
    Gate(400, "bad_parameter", head(f"{PATH}?window=0")),
    Gate(400, "bad_parameter", head(f"{PATH}?window=4&stride=5")),
    Gate(400, "bad_parameter", head(f"{PATH}?smoothing=2")),
    Gate(404, "unknown_model", head(f"{PATH}?model=no-such")),
    Gate(404, "not_found", head("/v1/no-such-path")),
    Gate(413, "too_large", head()),
    Gate(415, "unsupported_media_type", head(Content_Type="image/png")),
]


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.code}-{gate.head.split()[1].decode()}")
def test_the_answer_is_there_before_a_byte_of_the_upload(server: Server, gate: Gate) -> None:
    with connected(server) as connection:
        connection.sendall(gate.head)
        answer = read_answer(connection)
        assert answer.status == gate.status
        assert f'"{gate.code}"'.encode() in answer.body
        assert answer.headers["x-request-id"]
        connection.sendall(bytes(UPLOAD_BYTES))  # it is read, and thrown away
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(connection).status == 200, "the connection goes on"


def test_overloaded_is_answered_before_the_upload(server: Server, clip: Drawn) -> None:
    blob = clip.path.read_bytes()
    name = 'reelserve_rejections_total{code="overloaded"}'
    before = server.samples().get(name, 0)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(MAX_REQUESTS_IN_FLIGHT)]
        for connection in held:
            connection.sendall(head(num_bytes=len(blob)))
        wait_until(lambda: len(server.spooled_bytes()) == len(held), "uploads in flight")
        refused = stack.enter_context(connected(server))
        refused.sendall(head())  # too large as well, but that is asked later
        answer = read_answer(refused)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert server.samples()[name] == before + 1
        for connection in held:
            connection.sendall(blob)
        assert {read_answer(connection).status for connection in held} == {200}


@pytest.mark.parametrize(
    ("path", "timeout", "code"),
    [(f"{PATH}?model=no-such", "-1", "bad_parameter"), (f"{PATH}?model=no-such", "9", "unknown_model")],
)
def test_the_order_of_the_gates(server: Server, path: str, timeout: str, code: str) -> None:
    with connected(server) as connection:
        connection.sendall(head(path, X_Request_Timeout=timeout, Content_Type="image/png"))
        assert f'"{code}"'.encode() in read_answer(connection).body


def by_standard_library(server: Server, num_bytes: int) -> int:
    """Sends all, then reads."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", PATH, body=bytes(num_bytes), headers=MP4)
        response = connection.getresponse()
        assert b'"too_large"' in response.read()
        return response.status


def by_httpx(server: Server, num_bytes: int) -> int:
    with server.client() as client:
        return client.post(PATH, content=bytes(num_bytes), headers=MP4).status_code


def by_httpx_in_pieces(server: Server, num_bytes: int) -> int:
    """Without a length that says it: the refusal comes in the middle of the upload."""
    pieces = (bytes(MIB) for _ in range(1 + num_bytes // MIB))
    with server.client() as client:
        return client.post(PATH, content=pieces, headers=MP4).status_code


@pytest.mark.parametrize("send", [by_standard_library, by_httpx, by_httpx_in_pieces], ids=lambda send: send.__name__)
@pytest.mark.parametrize(("num_bytes", "times"), [(UPLOAD_BYTES, 20), (50_000_000, 5)])
def test_clients_that_send_before_they_read_see_the_refusal(
    server: Server, send: Callable[[Server, int], int], num_bytes: int, times: int
) -> None:
    assert [send(server, num_bytes) for _ in range(times)] == [413] * times


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"], ids=["at-once", "expect"])
@pytest.mark.parametrize("num_bytes", [UPLOAD_BYTES, 50_000_000])
def test_curl_sees_the_refusal(server: Server, tmp_path: Path, expect: str, num_bytes: int) -> None:
    clip = tmp_path / "clip.mp4"
    with clip.open("wb") as file:
        file.truncate(num_bytes)
    command = ["curl", "--silent", "--show-error", "-H", expect, "-H", "Content-Type: video/mp4"]
    for _ in range(5):
        result = subprocess.run(
            [*command, "--data-binary", f"@{clip}", server.url + PATH], capture_output=True, check=False
        )
        assert (result.returncode, b'"too_large"' in result.stdout) == (0, True), result


def test_who_sends_for_ever_is_cut_off(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(head(num_bytes=1024 * MIB))
        assert read_answer(connection).status == 413
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(1024 * MIB))


def test_who_sends_nothing_is_not_waited_for(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(head(Expect="100-continue"))
        assert read_answer(connection).status == 413
        assert connection.recv(1) == b""


def test_a_refusal_after_the_upload_keeps_the_connection(server: Server) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(head(num_bytes=100) + bytes(100))
            answer = read_answer(connection)
            assert (answer.status, answer.headers["connection"]) == (422, None)


def test_a_refusal_is_counted_once_and_carries_its_id(server: Server) -> None:
    name = f'reelserve_requests_total{{route="{PATH}",status="413"}}'
    before = server.samples().get(name, 0)
    with server.client() as client:
        response = client.post(PATH, content=bytes(UPLOAD_BYTES), headers={**MP4, "X-Request-ID": "mine"})
    assert problem(response, 413, "too_large")["request_id"] == "mine"
    assert server.samples()[name] == before + 1
