"""X-Request-Timeout over HTTP: what it may be, and what becomes of a clip that cannot be answered in time."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.drawn import Drawn, draw
from tests.server import DEADLINE_SECONDS, Server, problem, serve, wait_until

PATH = "/v1/predict"
MP4 = {"Content-Type": "video/mp4"}
MAX_SECONDS = 500


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that gives a minute, and at most MAX_SECONDS; it remembers no clip."""
    folder = tmp_path_factory.mktemp("limited")
    with serve(folder, max_request_timeout_seconds=MAX_SECONDS, feature_cache_bytes=0, shutdown_seconds=3) as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """250 s at the model's four frames a second: 1000 frames for the encoder."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return draw(path, num_frames=1000, fps=4, width=64, height=64).path.read_bytes()


def send(server: Server, clip: bytes, timeout: str | None = None) -> httpx.Response:
    headers = MP4 if timeout is None else {**MP4, "X-Request-Timeout": timeout}
    with server.client() as client:
        return client.post(PATH, content=clip, headers=headers)


@pytest.mark.parametrize(
    ("timeout", "words"),
    [
        ("soon", ("X-Request-Timeout", "number", "'soon'")),
        ("", ("X-Request-Timeout is empty", "number of seconds")),
        ("0", ("X-Request-Timeout is '0'", "seconds above 0")),
        ("-1", ("X-Request-Timeout is '-1'", "seconds above 0")),
        ("nan", ("X-Request-Timeout is 'nan'", "number of seconds")),
        ("1e999", ("X-Request-Timeout is '1e999'", "finite number of seconds")),
        ("1s", ("X-Request-Timeout", "number", "'1s'")),
        (f"{MAX_SECONDS}.5", ("X-Request-Timeout", f"{MAX_SECONDS}.5 s", "max_request_timeout_seconds")),
    ],
)
def test_a_wrong_timeout(limited: Server, clip: Drawn, timeout: str, words: tuple[str, ...]) -> None:
    detail = problem(send(limited, clip.path.read_bytes(), timeout), 400, "bad_parameter")["detail"]
    assert all(word in detail for word in words), detail
    limited.assert_spool_is_empty()


@pytest.mark.parametrize("timeout", ["60", "59.5", f"{MAX_SECONDS}", "1e2"])
def test_a_right_timeout(limited: Server, clip: Drawn, timeout: str) -> None:
    assert send(limited, clip.path.read_bytes(), timeout).status_code == 200


def test_a_film_that_takes_longer_than_it_may_is_sent_to_the_jobs(limited: Server, film: bytes) -> None:
    name = 'reelserve_rejections_total{code="too_long_for_online"}'
    before = limited.samples()
    body = problem(send(limited, film, "0.5"), 413, "too_long_for_online")
    assert body["value"] > body["limit"] == 0.5
    assert "/v1/jobs" in body["detail"]
    after = limited.samples()
    assert after[name] == before.get(name, 0) + 1
    batches = "reelserve_encode_batch_frames_sum"
    assert after[batches] == before[batches], "it costs no frame"
    limited.assert_spool_is_empty()


def test_the_timeout_counts_from_the_end_of_the_upload(limited: Server, clip: Drawn) -> None:
    """The upload takes longer than the timeout: a slow link is no fault of the service."""
    blob, timeout = clip.path.read_bytes(), 3.0
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: {len(blob)}\r\n"
        f"X-Request-Timeout: {timeout:g}\r\n\r\n"
    )
    with socket.create_connection((limited.host, limited.port), DEADLINE_SECONDS) as connection:
        connection.sendall(head.encode() + blob[:-1])
        wait_until(lambda: bool(limited.spooled_bytes()), "the upload")
        connection.settimeout(2 * timeout)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(DEADLINE_SECONDS)
        connection.sendall(blob[-1:])
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200, response.read()


def test_busy_is_said_before_the_upload(limited: Server, film: bytes, clip: Drawn) -> None:
    """With films in progress, a clip with next to no time is refused by its headers alone; with time it is answered."""
    assert send(limited, clip.path.read_bytes()).status_code == 200  # what a clip costs is known from here on
    before = limited.samples().get('reelserve_rejections_total{code="busy"}', 0)
    with ThreadPoolExecutor(2) as clients:
        films = [clients.submit(send, limited, film, f"{MAX_SECONDS}") for _ in range(2)]
        wait_until(lambda: limited.samples()["reelserve_videos_open"] == 2, "the films in progress")
        with socket.create_connection((limited.host, limited.port), DEADLINE_SECONDS) as connection:
            connection.sendall(
                f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 5000000\r\n"
                "X-Request-Timeout: 0.001\r\n\r\n".encode()
            )
            response = http.client.HTTPResponse(connection)
            response.begin()  # not a byte of the upload was sent
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert b'"busy"' in response.read()
        assert limited.samples()['reelserve_rejections_total{code="busy"}'] == before + 1
        assert send(limited, clip.path.read_bytes()).status_code == 200
        assert {film.result().status_code for film in films} == {200}


def test_a_late_answer_is_not_computed_to_its_end(tmp_path: Path, film: bytes, clip: Drawn) -> None:
    """One place for clips: what waits behind the film runs out of time, and is told so; nothing of it is left."""
    with serve(tmp_path, max_clips_in_progress=1, feature_cache_bytes=0, shutdown_seconds=3) as server:
        with ThreadPoolExecutor(2) as clients:
            filming = clients.submit(send, server, film, "600")
            wait_until(lambda: server.samples()["reelserve_videos_open"] == 1, "the film in progress")
            late = clients.submit(send, server, clip.path.read_bytes(), "1").result()
            assert late.status_code in {429, 504}, late.text
            assert late.json()["code"] in {"busy", "deadline_exceeded"}
            assert "X-Request-Timeout" in late.json()["detail"]
            assert len(server.spooled_bytes()) == 1, "the film's alone"
            assert filming.result().status_code == 200
        server.assert_spool_is_empty()


def test_a_slide_show_under_dense_windows_has_a_deadline_too(limited: Server, tmp_path: Path) -> None:
    """Two frames, each shown for hours: nothing to decode or encode, and 64 windows over each of 40 001 ticks."""
    slides = draw(tmp_path / "slides.mp4", num_frames=2, width=64, height=64, timestamps=[0.0, 10_000.0]).path
    with limited.client() as client:
        answer = client.post(
            PATH, content=slides.read_bytes(), params={"window": 1024, "stride": 16},
            headers={**MP4, "X-Request-Timeout": "0.5"},
        )  # fmt: skip
    assert answer.json()["code"] in ("too_long_for_online", "deadline_exceeded")
    assert answer.status_code in (413, 504)


def test_no_wait_is_longer_than_the_whole(limited: Server, clip: Drawn) -> None:
    with limited.client() as client:
        timing = client.post(PATH, content=clip.path.read_bytes(), headers=MP4).json()["timing_ms"]
    assert timing["queue"] <= timing["total"]
    assert timing["decode"] <= timing["total"]
