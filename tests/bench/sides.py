"""The servers of a comparison: ours and the peers, each a real process on loopback, started and stopped by name."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psutil

from tests.bench.load import Answer, Clip, Target
from tests.ports import free_port
from tests.server import DEADLINE_SECONDS, ROOT, environment, serve, wait_until

# The generator repeats clips: a cache of features would answer without the work that is measured.
_NO_CACHE: dict[str, object] = {"feature_cache_bytes": 0}
OURS: dict[str, dict[str, object]] = {
    "reelserve": _NO_CACHE,
    "reelserve-openvino": {**_NO_CACHE, "runtime": "openvino-cpu"},
    "reelserve-openvino-bf16": {**_NO_CACHE, "runtime": "openvino-cpu", "encode_precision": "bf16"},
}
_STOP_SECONDS = 20


@dataclass(frozen=True)
class Peer:
    """How one starts, in its environment .venv-bench-NAME: arguments of python, `{port}` filled in."""

    name: str
    arguments: tuple[str, ...]
    ready_path: str
    sends: Callable[[Clip], Clip] = lambda clip: clip
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Its interpreter; FileNotFoundError says how to make it."""
        path = ROOT / f".venv-bench-{self.name}" / "bin" / "python"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: make .venv-bench-{self.name}/.ready")
        return path


def in_json(clip: Clip) -> Clip:
    """The same clip as base64 in JSON."""
    start = clip.body.index(b"\r\n\r\n") + 4
    content = clip.body[start : clip.body.rindex(b"\r\n--")]
    return replace(clip, body=json.dumps({"video": base64.b64encode(content).decode()}).encode())


_HERE = "tests.bench.peers"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "bentoml",
            (
                "-m",
                "bentoml",
                "serve",
                f"{_HERE}.bentoml_service:ClipService",
                "--host",
                "127.0.0.1",
                "--port",
                "{port}",
            ),
            "/readyz",
        ),
        Peer(
            "litserve",
            ("-m", f"{_HERE}.litserve_service", "{port}"),
            "/health",
            sends=in_json,
            headers={"Content-Type": "application/json"},
        ),
        Peer(
            "fastapi",
            ("-m", "uvicorn", f"{_HERE}.fastapi_service:app", "--no-access-log", "--port", "{port}"),
            "/ready",
        ),
    )
}
ENGINES = ("onnx", "eager")
STANDARD = ("reelserve", *(f"{peer}-{engine}" for engine in ENGINES for peer in PEERS))


@dataclass(frozen=True)
class Side:
    """A running server, and how clips are sent to it."""

    name: str
    target: Target
    pid: int
    log: Path
    sends: Callable[[Clip], Clip]

    def clips(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips in the form that it takes."""
        return [self.sends(clip) for clip in clips]

    def memory_bytes(self) -> int:
        """Proportional set size of its processes: pages that they share count once."""
        total = 0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def pause(self) -> None:
        """Stop all its processes where they are: a LitServe that waits takes a tenth of a core from the others."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Resumed while the block runs."""
        self.resume()
        try:
            yield
        finally:
            self.pause()

    def _processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]


def chosen(names: str | None, standard: Sequence[str] = STANDARD) -> list[str]:
    """The sides of a run: as named, else the standard ones. ValueError names the first that is no side."""
    known = [*OURS, *(f"{peer}-{engine}" for peer in PEERS for engine in ENGINES)]
    if names is None:
        return list(standard)
    for name in names.split(","):
        if name not in known:
            raise ValueError(f"side {name!r} is unknown; there are {', '.join(known)}")
    return names.split(",")


@contextmanager
def running(name: str, folder: Path) -> Iterator[Side]:
    """Start a side, wait until it is ready, stop it. folder: its spool, log and home, made here."""
    folder.mkdir(parents=True)
    if name in OURS:
        with serve(folder, "/readyz", **OURS[name]) as server:
            yield Side(name, Target(name, server.url), server.pid, server.log, lambda clip: clip)
        return
    peer_name, _, engine = name.partition("-")
    peer = PEERS[peer_name]
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(peer.python), *(argument.format(port=port) for argument in peer.arguments)],
            cwd=ROOT,
            env={**environment(folder, {}), "BENCH_ENGINE": engine},
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(process, url + peer.ready_path, log), f"{name} to be ready")
        yield Side(name, Target(name, url, "/predict", peer.headers), process.pid, log, peer.sends)
    finally:
        _stop(process)


def scores(answer: Answer) -> dict[str, float]:
    """Scores by label of an answer of any side; RuntimeError unless it is a 200."""
    if answer.status != 200:
        raise RuntimeError(f"{answer.clip}: {answer.status} {answer.lost} {answer.body[:300]!r}")
    return {line["label"]: line["score"] for line in json.loads(answer.body)["predictions"]}


def peer_versions() -> dict[str, dict[str, str]]:
    """Of each peer's framework and engines, from its lock."""
    wanted = ("bentoml", "litserve", "fastapi", "uvicorn", "onnxruntime", "torch", "opencv-python-headless")
    versions = {}
    for peer in PEERS:
        lines = (ROOT / "requirements" / f"bench-{peer}.txt").read_text().splitlines()
        pins = dict(line.split(" ")[0].split("==") for line in lines if "==" in line.split(" ")[0])
        versions[peer] = {package: pins[package] for package in wanted if package in pins}
    return versions


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with status {process.returncode}:\n{log.read_text()[-3000:]}")
    try:
        return httpx.get(url, timeout=DEADLINE_SECONDS, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Its own process group, and that alone: first asked, then made to."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
