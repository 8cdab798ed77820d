"""SIGTERM with a film in progress: its client is told before the server goes."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.long_clips import loop
from tests.real_clips import real_clip
from tests.server import Server, problem, serve, wait_until


def send(server: Server, film: Path) -> httpx.Response:
    headers = {"Content-Type": "video/mp4", "X-Request-Timeout": "3600"}
    with server.client() as client:
        return client.post("/v1/predict", content=film.read_bytes(), headers=headers)


def test_what_is_in_progress_when_the_grace_ends_gets_its_503(tmp_path: Path) -> None:
    film = loop(real_clip("bikes.mp4"), tmp_path / "film.mp4", 600.0)
    with serve(tmp_path, shutdown_seconds=3) as server, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(send, server, film)
        wait_until(lambda: server.samples()["reelserve_videos_open"] == 1, "the film in progress")
        os.kill(server.pid, signal.SIGTERM)
        response = answer.result()
        problem(response, 503, "not_ready")
        assert int(response.headers["Retry-After"]) >= 1
