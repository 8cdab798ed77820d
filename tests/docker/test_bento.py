"""`bentoml build` packs the service, and the bento serves a clip from a folder where no checkout is in reach."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.drawn import draw

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "serve-cpu.txt"
DEADLINE_SECONDS = 120.0


def environment(home: Path) -> dict[str, str]:
    """Ours without settings and import paths; BentoML's store in `home`, and the venv's uv, which `build` calls."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REELSERVE_", "BENTOML_")) and name not in ("PORT", "PYTHONPATH")
    }
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "REELSERVE_SPOOL_DIR": str(home / "spool"),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME of its own."""
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def bento(home: Path) -> Path:
    """The folder of the built bento."""
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--version", "test", "."],
        cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return home / "bentos" / "video_service" / "test"


@contextmanager
def serving(bento: Path, home: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`bentoml serve` of the bento, run in `folder`: the process and its address, which may not yet answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=environment(home), stdout=log, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when /readyz answers 200; fail with the log when the process ends or time is up."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the bento is not ready:\n{log.read_text()}")


def test_holds_the_service_and_the_models_and_nothing_else(bento: Path) -> None:
    source = bento / "src"
    assert {path.name for path in source.iterdir()} == {"bentofile.yaml", "service", "models", "LICENSE", "NOTICE"}
    assert [path.name for path in (source / "models").iterdir()] == ["zoo"]
    assert not list(source.rglob("__pycache__"))
    for folder in ("service", "models/zoo"):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        packed = {path.relative_to(source) for path in (source / folder).rglob("*") if path.is_file()}
        assert packed == {path for path in ours if "__pycache__" not in path.parts}


def test_keeps_the_lock_with_its_hashes(bento: Path) -> None:
    def pins_and_hashes(file: Path) -> set[str]:
        return set(re.findall(r"^[\w.-]+==[\w.+-]+|sha256:\w+", file.read_text(), re.MULTILINE))

    assert pins_and_hashes(bento / "env" / "python" / "requirements.txt") == pins_and_hashes(LOCK)


def test_serves_a_clip_and_stops_on_sigterm(bento: Path, home: Path, tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mp4").path
    with serving(bento, home, tmp_path) as (process, url):
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client:
            wait_until_ready(client, process, tmp_path / "log")
            answer = client.post("/v1/predict", files={"video": clip.read_bytes()})
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.json()["predictions"]
        assert answer.json()["receipt"]["frames_used"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()
