"""Decode processes behind a real server under load: killed, cancelled, and gone with the server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.decoders import decoders, zygote_of
from tests.drawn import animated_webp, draw
from tests.long_clips import loop
from tests.real_clips import real_clip
from tests.server import DEADLINE_SECONDS, Server, problem, serve, wait_until

NUM_REQUESTS = 4


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has four videos open at once."""
    folder, places = tmp_path_factory.mktemp("busy"), 2 * NUM_REQUESTS  # a quarter is for short clips
    with serve(folder, max_clips_in_progress=places, feature_cache_bytes=0, shutdown_seconds=3) as running:
        yield running


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A minute of a real clip: it takes seconds to answer."""
    return loop(real_clip("bikes.mp4"), tmp_path_factory.mktemp("minute") / "minute.mp4", 60.0).read_bytes()


def _send(server: Server, clip: bytes, **query: object) -> httpx.Response:
    with server.client() as client:
        return client.post("/v1/predict", files={"video": clip}, params=query)  # type: ignore[arg-type]


def _open_videos(server: Server) -> list[psutil.Process]:
    return decoders(zygote_of(server.pid).pid)


def _wait_for_decoders(server: Server, wanted: Callable[[int], bool]) -> list[psutil.Process]:
    wait_until(lambda: wanted(len(_open_videos(server))), "as many decode processes as expected")
    return _open_videos(server)


def test_no_request_fails_when_every_decoder_is_killed_once(busy: Server, minute: bytes) -> None:
    expected = _send(busy, minute).raise_for_status().json()
    with ThreadPoolExecutor(NUM_REQUESTS) as clients:
        answers = [clients.submit(_send, busy, minute) for _ in range(NUM_REQUESTS)]
        victims = _wait_for_decoders(busy, lambda number: number == NUM_REQUESTS)
        for victim in victims:
            victim.kill()
        for answer in answers:
            body = answer.result().raise_for_status().json()
            assert body["predictions"] == expected["predictions"]
            assert body["segments"] == expected["segments"]
            assert body["receipt"] == expected["receipt"]
    assert busy.samples()['reelserve_decoders_ended_total{how="replaced"}'] >= NUM_REQUESTS
    busy.assert_spool_is_empty()


def test_a_second_loss_is_503_decoder_lost(busy: Server, minute: bytes) -> None:
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(_send, busy, minute)
        [first] = _wait_for_decoders(busy, lambda number: number == 1)
        first.kill()
        wait_until(lambda: _open_videos(busy) not in ([], [first]), "the one that takes its place")
        [second] = _open_videos(busy)
        second.kill()
        response = answer.result()
    problem(response, 503, "decoder_lost")
    assert int(response.headers["retry-after"]) > 0
    busy.assert_spool_is_empty()


def test_a_killed_zygote_is_replaced(busy: Server, minute: bytes) -> None:
    before = zygote_of(busy.pid)
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(_send, busy, minute)
        _wait_for_decoders(busy, lambda number: number == 1)
        before.kill()
        answer.result().raise_for_status()
    assert zygote_of(busy.pid).pid != before.pid


def test_a_client_that_goes_away_frees_its_decoder(busy: Server, minute: bytes) -> None:
    impatient = httpx.Timeout(DEADLINE_SECONDS, read=0.5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{busy.url}/v1/predict", files={"video": minute}, timeout=impatient, trust_env=False)
    _wait_for_decoders(busy, lambda number: number == 0)
    wait_until(lambda: not busy.spooled_bytes(), "an empty spool")


def test_strict_refuses_a_damaged_clip_and_the_default_warns(busy: Server) -> None:
    blob = bytearray(real_clip("bikes.mp4").read_bytes())
    for at in range(len(blob) // 2, len(blob) // 2 + 4000, 97):
        blob[at] ^= 0xFF
    [warning] = _send(busy, bytes(blob)).raise_for_status().json()["warnings"]
    assert warning.startswith("corrupt at ")
    refusal = problem(_send(busy, bytes(blob), strict=True), 422, "corrupt_video")
    assert 2.0 < refusal["value"] < 9.0


def test_a_codec_without_decoder_is_named(busy: Server) -> None:
    refusal = problem(_send(busy, animated_webp()), 415, "codec_not_supported")
    assert refusal["value"] == "WebP"


def test_what_is_not_corrected_is_reported(busy: Server, tmp_path: Path) -> None:
    clip = draw(tmp_path / "fields.mp4", options={"x264-params": "tff=1"}).path.read_bytes()
    answer = _send(busy, clip).raise_for_status().json()
    assert answer["receipt"]["interlaced"]
    assert any("interlaced" in warning for warning in answer["warnings"])


def test_nothing_outlives_a_killed_server(tmp_path: Path, minute: bytes) -> None:
    """SIGKILL of every process of the service itself: its decoders notice, and the next start sweeps its spool."""
    with pytest.raises(AssertionError, match="ended with status"), serve(tmp_path) as server:  # noqa: PT012
        with ThreadPoolExecutor(2) as clients:
            answers = [clients.submit(_send, server, minute) for _ in range(2)]
            left = [zygote_of(server.pid), *_wait_for_decoders(server, lambda number: number == 2)]
            for process in _service_processes(server, left):
                process.send_signal(signal.SIGKILL)
            for answer in answers:
                assert isinstance(answer.exception(), httpx.TransportError)
        _, alive = psutil.wait_procs(left, timeout=DEADLINE_SECONDS)
        assert not alive
        assert len(server.spooled_bytes()) == 2
    with serve(tmp_path) as server:
        wait_until(lambda: not server.spooled_bytes(), "the sweep at start")


def _service_processes(server: Server, others: list[psutil.Process]) -> list[psutil.Process]:
    root = psutil.Process(server.pid)
    return [each for each in (*root.children(recursive=True), root) if each not in others]


def test_the_zygote_starts_with_the_server(busy: Server) -> None:
    zygote = zygote_of(busy.pid)
    assert zygote.num_threads() == 1
    assert zygote.parent() in psutil.Process(busy.pid).children(recursive=True)
