"""A real server on loopback: `python -m service serve` as a child process, and what tests ask of its answers."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
MIB = 1024 * 1024

# How long to wait for what will happen: a slow machine needs more of it, no assertion depends on it.
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and where its uploads and its log are."""

    host: str
    port: int
    spool_dir: Path
    log: Path
    pid: int

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def client(self) -> httpx.Client:
        """An HTTP client of this server; use it as a context manager."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, trust_env=False)

    def spooled_bytes(self) -> list[int]:
        """Sizes of the files in the spool folder, whatever their names; one may go while this looks."""
        sizes = []
        for path in list(self.spool_dir.iterdir()):
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return sizes

    def family(self) -> list[psutil.Process]:
        """The process and all that descend from it; none once it has ended."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """All of it at once, as a machine that dies."""
        for one in self.family():
            with suppress(psutil.NoSuchProcess):  # a decoder has ended meanwhile
                one.kill()

    def assert_spool_is_empty(self) -> None:
        """Right after an answer: its file must be gone before the answer is sent."""
        assert [path.name for path in self.spool_dir.iterdir()] == []

    def samples(self) -> dict[str, float]:
        """Every sample of /metrics, by `name{label="value",…}` with the labels sorted."""
        with self.client() as client:
            text = client.get("/metrics").text
        return {
            sample_name(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def sample_name(name: str, labels: Mapping[str, str]) -> str:
    """A sample's name with its labels sorted, as Prometheus writes it."""
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


@contextmanager
def serve(folder: Path, ready_path: str = "/readyz", **settings: object) -> Iterator[Server]:
    """Start a server, wait until `ready_path` answers 200, stop it by SIGTERM and check how it ended.

    folder: for its spool, its log and BentoML's home. settings: as in `service.settings`, by name.
    """
    with _serve(folder, ready_path, settings) as (server, process):
        yield server
        family = server.family()
        process.send_signal(signal.SIGTERM)
        status = process.wait(DEADLINE_SECONDS)
        assert status == 0, f"the server ended with status {status}:\n{server.log.read_text()}"
        _, left = psutil.wait_procs(family, timeout=5)
        assert not left, f"the server left processes behind: {left}"


@contextmanager
def serve_until_killed(folder: Path, **settings: object) -> Iterator[Server]:
    """As `serve`; the test ends it by `Server.kill`."""
    with _serve(folder, "/readyz", settings) as (server, process):
        yield server
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL


@contextmanager
def _serve(
    folder: Path, ready_path: str, settings: Mapping[str, object]
) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    server, process = _start(folder, settings)
    try:
        wait_until(lambda: _answers(server, process, ready_path), f"{ready_path} of the server")
        yield server, process
    finally:
        for one in server.family():  # workers and decoders are in groups of their own
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Poll; TimeoutError names what was waited for."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {DEADLINE_SECONDS:g} s for {what}")
        time.sleep(0.02)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is an RFC 9457 problem of this status and code; returns it."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == f"/docs/errors#{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert str(ROOT) not in response.text, "a path of the server is none of the client's business"
    return body


class Listener:
    """A port that nobody should connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """An address that a careless server would fetch."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/clip.mp4"

    def was_called(self) -> bool:
        """Whether a connection came in; the kernel queues it without our accepting it."""
        return bool(select.select([self._socket], [], [], 0.2)[0])

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def environment(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment without what would reach the service, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    ours = {f"REELSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True", **ours}


_OURS = ("REELSERVE_", "BENTOML_", "PROMETHEUS_", "PORT")


def _start(folder: Path, settings: Mapping[str, object]) -> tuple[Server, subprocess.Popen[bytes]]:
    port = free_port()
    spool, log = folder / "spool", folder / "server.log"
    ours = {"host": "127.0.0.1", "port": port, "spool_dir": spool, "jobs_dir": folder / "jobs", **settings}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            cwd=ROOT,
            env=environment(folder, ours),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return Server("127.0.0.1", port, spool, log, process.pid), process


def _answers(server: Server, process: subprocess.Popen[bytes], path: str) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with status {process.returncode}:\n{server.log.read_text()}")
    with server.client() as client:
        try:
            return client.get(path).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
