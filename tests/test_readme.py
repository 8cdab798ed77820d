"""Every command of README.md is run: here against a real server, or by .ci/run and the slow tests, named below."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from service.engine.openvino_runtime import has_bf16
from service.tolerances import TOLERANCES
from tests.drawn import draw
from tests.ports import free_port
from tests.real_clips import real_clip
from tests.server import Server, environment, wait_until

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPORT = (ROOT / "export" / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:3000"

DOCKER_RUN = "docker run --rm -p 3000:3000 --read-only --tmpfs /tmp:size=64m --memory 512m --cpus 2 reelserve"

OPENVINO = (
    "make -B install-serve LOCK=requirements/serve-openvino.txt",
    "REELSERVE_RUNTIME=openvino-cpu REELSERVE_ENCODE_PRECISION=bf16 make serve",
)

# Commands that are run elsewhere, and the line that runs them.
ELSEWHERE = {
    "make serve": (".ci/run", "tests/bench/start.py"),
    "make env": (".ci/run", "make env"),
    "make test": (".ci/run", "make test"),
    "make lint": (".ci/run", "make lint"),
    "docker build -f docker/Dockerfile -t reelserve .": ("docker/check.sh", "docker/Dockerfile"),
    DOCKER_RUN: ("docker/check.sh", "--read-only"),
    **dict.fromkeys(OPENVINO, ("tests/test_readme.py", "def test_the_lines_of_openvino_run")),
}


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[str]:
    """Lines of the fenced blocks of a shell."""
    return [line for block in blocks("bash", text) for line in block.splitlines() if line]


def parsed(command: str, url: str = ADDRESS) -> tuple[dict[str, str], list[str]]:
    """A line of the README as variables and words."""
    words = [word.replace(ADDRESS, url) for word in shlex.split(command)]
    variables = {}
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        variables[name] = value
    return variables, words


def run_in(folder: Path, command: str, url: str) -> str:
    """Run one line of the README in `folder`; `.venv*/bin/python` is this interpreter."""
    variables, words = parsed(command, url)
    inside = {**os.environ, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(folder / "bentoml"), **variables}
    if words[0].startswith(".venv"):
        words[0] = sys.executable
    done = subprocess.run(words, cwd=folder, env=inside, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: clip.mp4, my_model.py, the end of its training script, and clips/ with one folder a class."""
    folder = tmp_path_factory.mktemp("readme")
    for name, code in zip(("my_model.py", "at_the_end_of_training.py"), blocks("python", EXPORT), strict=True):
        (folder / name).write_text(code)
    shutil.copy(real_clip("bikes.mp4"), folder / "clip.mp4")
    for label, fps, num_frames in (("slow", 5.0, 14), ("fast", 50.0, 40)):
        (folder / "clips" / label).mkdir(parents=True)
        for number in range(4):
            draw(folder / "clips" / label / f"{number}.mp4", num_frames=num_frames + number, fps=fps)
    return folder


def test_the_first_command_stands_by_line_25_of_at_most_130() -> None:
    lines = README.splitlines()
    assert len(lines) < 130
    assert lines.index("make serve") < 25


@pytest.mark.parametrize("command", [line for line in commands() if line not in ELSEWHERE])
def test_a_command_runs(command: str, folder: Path, server: Server) -> None:
    out = run_in(folder, command, server.url)
    if "/v1/predict" in command:
        assert '"predictions"' in out


@pytest.mark.slow
def test_the_lines_of_export_run_in_their_order(folder: Path, server: Server) -> None:
    out = [run_in(folder, command, server.url) for command in commands(EXPORT)]
    assert "mine 1: certificate passed" in out[1] and out[2] in out[1]  # noqa: PT018
    assert "mine" in out[3]
    assert "mine:1" in out[4]


@pytest.mark.slow
def test_the_lines_of_openvino_run(tmp_path: Path) -> None:
    """In a copy of what serves: they install an environment, and start a server from it."""
    for name in ("requirements", "service", "models/zoo"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Makefile", tmp_path)
    port = free_port()
    (_, install), (variables, start) = map(parsed, OPENVINO)
    outside = {name: value for name, value in environment(tmp_path, {}).items() if "MAKE" not in name}
    outside |= {
        "PYTHON": sys.executable,
        "PORT": str(port),
        "REELSERVE_SPOOL_DIR": str(tmp_path / "spool"),
        **variables,
    }
    subprocess.run(install, cwd=tmp_path, env=outside, timeout=900, check=True)
    with subprocess.Popen(start, cwd=tmp_path, env=outside, start_new_session=True) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                wait_until(lambda: server.poll() is not None or is_ready(client), "/readyz of OpenVINO's server")
                body = real_clip("bikes.mp4").read_bytes()
                answer = client.post("/v1/predict", content=body, headers={"Content-Type": "video/mp4"})
                receipt = answer.raise_for_status().json()["receipt"]
        finally:
            family = psutil.Process(server.pid).children(recursive=True)
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
            assert psutil.wait_procs(family, timeout=60)[1] == []
    assert (receipt["runtime"], receipt["precision"]) == ("openvino-cpu", "bf16" if has_bf16() else "fp32")


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def test_the_answer_ends_with_its_video() -> None:
    [answer] = blocks("json")
    ends = re.search(r'"segments": \[.*"end_seconds": ([\d.]+)', answer)
    duration = re.search(r'"duration_seconds": ([\d.]+)', answer)
    assert ends and duration and ends[1] == duration[1]  # noqa: PT018


def test_every_line_of_a_certificate_is_explained() -> None:
    assert [check for check in TOLERANCES if f"`{check}`" not in EXPORT] == []


@pytest.mark.parametrize("command", sorted(ELSEWHERE))
def test_a_command_is_run_elsewhere(command: str) -> None:
    file, line = ELSEWHERE[command]
    assert command in commands(), f"{command} is not in the README any more"
    assert line in (ROOT / file).read_text(encoding="utf-8")


def test_the_python_lines_run(folder: Path, server: Server) -> None:
    code = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, server.url)],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout
