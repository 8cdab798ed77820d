"""Every command of README.md is run: here against a real server, or by .ci/run and the slow tests, named below."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.tolerances import TOLERANCES
from tests.drawn import draw
from tests.real_clips import real_clip
from tests.server import Server

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPORT = (ROOT / "export" / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:3000"

DOCKER_RUN = "docker run --rm -p 3000:3000 --read-only --tmpfs /tmp:size=64m --memory 512m --cpus 2 reelserve"

# Commands that are run elsewhere, and the line that runs them.
ELSEWHERE = {
    "make serve": (".ci/run", "tests/bench/start.py"),
    "make env": (".ci/run", "make env"),
    "make test": (".ci/run", "make test"),
    "make lint": (".ci/run", "make lint"),
    "docker build -f docker/Dockerfile -t reelserve .": ("docker/check.sh", "docker/Dockerfile"),
    DOCKER_RUN: ("docker/check.sh", "--read-only"),
}


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[str]:
    """Lines of the fenced blocks of a shell."""
    return [line for block in blocks("bash", text) for line in block.splitlines() if line]


def run_in(folder: Path, command: str, url: str) -> str:
    """Run one line of the README in `folder`; `.venv*/bin/python` is this interpreter."""
    words = [word.replace(ADDRESS, url) for word in shlex.split(command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(folder / "bentoml")}
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        environment[name] = value
    if words[0].startswith(".venv"):
        words[0] = sys.executable
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: clip.mp4, my_model.py, and clips/ with one folder a class."""
    folder = tmp_path_factory.mktemp("readme")
    [(folder / "my_model.py").write_text(code) for code in blocks("python", EXPORT)]
    shutil.copy(real_clip("bikes.mp4"), folder / "clip.mp4")
    for label, fps in (("slow", 5.0), ("fast", 50.0)):
        (folder / "clips" / label).mkdir(parents=True)
        for number in range(4):
            draw(folder / "clips" / label / f"{number}.mp4", num_frames=40 + number, fps=fps)
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
    assert "mine 1: certificate passed" in out[0] and out[1] in out[0]  # noqa: PT018
    assert "mine" in out[2]
    assert "mine:1" in out[3]


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
