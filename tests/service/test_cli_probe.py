"""`python -m service probe`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.drawn import Drawn, animated_webp, draw
from tests.server import ROOT, environment
from tests.service.test_cli import run
from tests.zoo import MODEL


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.out", Console(width=200))


@pytest.mark.usefixtures("wide")
def test_a_clip(clip: Drawn) -> None:
    result = run("probe", clip.path, "--full")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for words in (
        str(clip.path), "container MPEG-4 · video", "codec h264", "YUV 4:2:0 8 bit", "picture 320 x 240",
        "header 50 frames · 2.00 s · 25 a second", "counted 50 frames · 2.00 s · 25 a second · constant rate",
        "I pictures 1", f"cost {MODEL}: 50 frames to decode", "info index_last:",
    ):  # fmt: skip
        assert words in text


@pytest.mark.usefixtures("wide")
def test_without_a_walk_the_header_is_quoted_and_no_more(clip: Drawn) -> None:
    text = run("probe", clip.path).stdout
    assert "header" in text
    assert "if the header is right" in text
    assert "counted" not in text


def test_the_mending_line_is_not_wrapped_and_names_the_file(tmp_path: Path) -> None:
    path = draw(tmp_path / "a long name, with spaces & more.mp4", 10).path
    result = run("probe", path, COLUMNS=40, max_frame_pixels=1000)
    assert result.exit_code == 1
    [line] = [line for line in result.stdout.splitlines() if line.startswith("ffmpeg")]
    words = shlex.split(line)
    assert words[words.index("-i") + 1] == str(path)
    assert words[-1] == str(path.with_name("a long name, with spaces & more.mended.mp4"))


def test_json_is_one_object_a_line(clip: Drawn, tmp_path: Path) -> None:
    webp = tmp_path / "animated.webp"
    webp.write_bytes(animated_webp())
    text, empty, missing = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "missing.mp4"
    text.write_text("This is not a video.")
    empty.touch()
    files = [clip.path, webp, text, empty, missing]
    result = run("probe", "--json", *files)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert [line.get("code") for line in lines] == [None, None, "not_a_video", "empty_file", "no_file"]
    assert lines[0]["cost"]["frames_decoded"] == 50
    assert lines[1]["video"]["refusal"]["code"] == "codec_not_supported"
    assert "4 of 5 files would be refused" in result.stderr


@pytest.mark.usefixtures("wide")
def test_a_file_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "[bold]text.mp4"
    path.write_text("This is not a video.")
    result = run("probe", path)
    assert result.exit_code == 1
    assert str(path) in result.stdout
    assert "not_a_video" in result.stdout


def test_a_warning_is_no_failure(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mpg", 30, encoder="mpeg2video", options={"flags": "+ilme+ildct"}).path
    result = run("probe", path)
    assert result.exit_code == 0
    assert "interlaced" in result.stdout


@pytest.mark.usefixtures("wide")
def test_a_limit_of_the_settings(clip: Drawn) -> None:
    result = run("probe", clip.path, max_frame_pixels=5000)
    assert result.exit_code == 1
    assert "too_many_pixels" in result.stdout
    assert "scale=80:60" in result.stdout


def test_an_unknown_model(clip: Drawn) -> None:
    result = run("probe", clip.path, "--model", "no-such")
    assert result.exit_code == 2
    assert "unknown_model" in result.stderr


def test_without_any_model_there_is_no_cost(clip: Drawn, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    result = run("probe", "--json", clip.path, models_dir=tmp_path / "models")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["model"], answer["cost"]) == (None, None)
    assert answer["video"]["decodable"]


def test_no_model_is_loaded(clip: Drawn, tmp_path: Path) -> None:
    code = (
        "import sys; from service.cli import app; app(['probe', '--json', sys.argv[1]], standalone_mode=False); "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip.path)],
        cwd=ROOT, env=environment(tmp_path, {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == MODEL
    assert done.stderr == ""


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("name", [b"caf\xe9 [b].mpg", b"two\nlines'\x1b[31m.mpg"])
def test_the_mending_line_of_an_odd_name_can_be_copied(tmp_path: Path, name: bytes) -> None:
    drawn = draw(tmp_path / "clip.mpg", 10, encoder="mpeg2video", options={"flags": "+ilme+ildct"}).path
    path = drawn.rename(tmp_path / os.fsdecode(name))
    [line] = [line for line in run("probe", path).stdout.splitlines() if line.startswith("ffmpeg")]
    said = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    words = said.split(b"\0")
    assert words[words.index(b"-i") + 1] == os.fsencode(path)
