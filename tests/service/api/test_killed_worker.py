"""A worker that is killed: BentoML starts another, and what the dead one's gauges said is gone."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import httpx
import psutil

from tests.server import Server, serve, wait_until


def worker_of(server: Server) -> psutil.Process:
    """The process that holds the models: of those below the supervisor the one that has most in memory."""
    return max(psutil.Process(server.pid).children(recursive=True), key=lambda process: process.memory_info().rss)


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError), server.client() as client:
        return client.get("/readyz", timeout=2).status_code == httpx.codes.OK
    return False


def test_gauges_of_a_killed_worker_do_not_stay(tmp_path: Path) -> None:
    with serve(tmp_path, shutdown_seconds=3) as server:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: 9\r\n\r\n"
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(head)
            wait_until(lambda: server.samples()["reelserve_requests_in_flight"] == 1, "a request in flight")
            before = server.samples()
            killed = worker_of(server)
            killed.kill()
        wait_until(lambda: not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE, "its end")
        wait_until(lambda: answers(server), "another worker")
        after = server.samples()
        assert worker_of(server).pid != killed.pid
        assert after.get("reelserve_requests_in_flight", 0) == 0
        assert after["reelserve_models_loaded"] == before["reelserve_models_loaded"]
        assert after.get("reelserve_spool_bytes", 0) == 0
