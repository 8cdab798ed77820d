"""What one request may not do to the others: timestamps, forms and clients that ask for too much."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.heads import Head
from service.errors import Cancelled
from service.pipeline import ClipRequest
from service.serving import Serving
from service.settings import Settings
from tests.bundles import copy_of_the_zoo
from tests.drawn import Drawn, draw
from tests.server import Server, problem, serve, wait_until
from tests.zoo import ZOO

MP4 = {"Content-Type": "video/mp4"}
FIELD = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits a second for the next byte."""
    with serve(tmp_path_factory.mktemp("impatient"), upload_idle_seconds=1, shutdown_seconds=3) as running:
        yield running


@pytest.mark.parametrize(("gaps", "gap_seconds"), [(1, 500.0), (1, 2_000_000.0), (25, 599.0)])
def test_a_frame_that_claims_to_stand_for_weeks(
    client: httpx.Client, tmp_path: Path, gaps: int, gap_seconds: float
) -> None:
    """As long as is believed; for longer: the clock has jumped; for long, again and again."""
    timestamps = [0.0, *(1.0 + gap_seconds * number for number in range(gaps + 1))]
    clip = draw(tmp_path / "gap.mkv", num_frames=len(timestamps), timestamps=timestamps).path
    answer = client.post("/v1/predict", content=clip.read_bytes(), headers=MP4)
    if gaps > 1:
        assert "max_duration_seconds" in problem(answer, 413, "too_long")["detail"]
    elif gap_seconds > 600:
        assert answer.json()["receipt"]["duration_seconds"] < 3
        assert any("the clock jumps from 1.000 s to 2000001.000 s" in words for words in answer.json()["warnings"])
    else:
        assert answer.json()["receipt"]["frames_repeated"] >= gap_seconds * 4


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"".join(FIELD % (b"x%d" % i) for i in range(40)), "no parameter x0"),
        (FIELD % b"top_k" + b"1\r\n" + FIELD % b"model" + b"x" * 100_000 + b"\r\n--b--\r\n", "more than 8192 bytes"),
    ],
    ids=["parts", "another-field"],
)
def test_a_form_of_other_things(client: httpx.Client, body: bytes, words: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/predict", content=iter([body]), headers=headers)
    assert words in problem(answer, 400, "bad_parameter")["detail"]


def test_an_epilogue_is_bounded(client: httpx.Client) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/predict", content=iter([form, bytes(2_000_000)]), headers=headers)
    assert "65536 bytes" in problem(answer, 400, "malformed_upload")["detail"]


def test_an_epilogue_is_allowed(client: httpx.Client, clip: Drawn) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="video"; filename="c"\r\n\r\n' + clip.path.read_bytes()
    pieces = iter([form + b"\r\n--b--", b"\r\nanything\r\n"])
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/predict", content=pieces, headers=headers).status_code == 200


def test_a_boundary_that_is_too_long(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 300}
    problem(client.post("/v1/predict", content=b"--", headers=headers), 400, "malformed_upload")


def test_a_client_that_stops_sending(impatient: Server) -> None:
    with socket.create_connection((impatient.host, impatient.port)) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: h\r\nContent-Type: video/mp4\r\nContent-Length: 9\r\n\r\nx"
        )
        connection.settimeout(60)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"upload_timeout"' in answer


def test_a_client_that_goes_away_frees_its_thread(server: Server, tmp_path: Path) -> None:
    clip = draw(tmp_path / "long.mp4", num_frames=1000, fps=4, width=64, height=64).path.read_bytes()

    def count(code: str) -> float:
        return server.samples().get(f'reelserve_errors_total{{code="{code}"}}', 0.0)

    before = count("cancelled")
    with socket.create_connection((server.host, server.port)) as connection:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: h\r\nContent-Type: video/mp4\r\nContent-Length: {len(clip)}\r\n\r\n"
        connection.sendall(head.encode() + clip)
        wait_until(lambda: server.spooled_bytes() == [len(clip)], "the upload")
    wait_until(lambda: count("cancelled") == before + 1, "the cancellation")
    server.assert_spool_is_empty()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The zoo in this process."""
    serving = Serving(Settings(spool_dir=tmp_path_factory.mktemp("spool"), models_dir=ZOO))
    serving.load()
    yield serving
    serving.close()


def test_the_wait_for_a_thread_counts_in_the_total(loaded: Serving, clip: Drawn) -> None:
    waited = 5.0
    request = ClipRequest(clip.path, "0" * 64, submitted=time.perf_counter() - waited)
    [prediction] = loaded.predict(request, loaded.models_of(None))
    timing = prediction.timing_ms
    assert timing.queue >= waited * 1e3
    assert timing.total >= waited * 1e3


def test_a_cancelled_clip_stops(loaded: Serving, clip: Drawn) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        loaded.predict(ClipRequest(clip.path, "0" * 64, cancelled=cancelled), loaded.models_of(None))


def test_a_bundle_that_does_not_load_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_of_the_zoo(tmp_path, "good")
    copy_of_the_zoo(tmp_path, "bad")
    scores = Head.scores

    def failing(head: Head, windows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if head.model.name == "bad":
            raise RuntimeError("no kernel")
        return scores(head, windows)

    monkeypatch.setattr(Head, "scores", failing)
    serving = Serving(Settings(models_dir=tmp_path, models="all", spool_dir=tmp_path / "spool"))
    serving.load()
    try:
        assert set(serving.models) == {"good"}
        assert "no kernel" in serving.registry.refused["bad"].reason
        assert serving.problem() is None
    finally:
        serving.close()
