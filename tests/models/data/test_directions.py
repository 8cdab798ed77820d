"""Clips forwards and in reverse: the same pictures, encoded alike, and nothing but their order tells them apart."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import models.__main__ as commands
from models.data.directions import synthesise
from models.data.manifests import DatasetError, read
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.models import footage

SPEC = ClipSpec(sample_fps=25, frame_height=180, frame_width=240)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of train, one of test, and one that is no video."""
    folder = tmp_path_factory.mktemp("sources")
    rows = []
    for number, side in enumerate(("train", "train", "test")):
        footage.film(folder / f"{number}.mp4", scene=number, num_frames=40)
        rows.append(f"{number}.mp4,walk|run,{number},{side}")
    (folder / "3.mp4").write_bytes(b"no video")
    return footage.manifest(folder, *rows, "3.mp4,walk|run,3,train")


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder, and what was said."""
    out, console = tmp_path_factory.mktemp("made") / "films", Console(file=io.StringIO(), width=200)
    assert synthesise(manifest, "part", out, console) == 6
    return out, console.file.getvalue()  # type: ignore[attr-defined]


def frames_of(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    with DecodePool(1) as pool, pool.open(path, SPEC) as video:
        return np.concatenate([np.repeat(each.frames, each.ticks, axis=0) for each in video.batches(16)])


def test_each_clip_is_there_both_ways_on_its_side(made: tuple[Path, str]) -> None:
    out, said = made
    rows = list(csv.DictReader((out / "manifest.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["label"], row["group"], row["split"], row["source_label"]) for row in rows] == [
        (label, str(number), side, "walk|run")
        for number, side in enumerate(("train", "train", "test"))
        for label in ("forwards", "reversed")
    ]
    assert len(read(out / "manifest.csv")) == 6
    assert "left out:" in said
    assert "3.mp4: not_a_video" in said.replace("\n", "")


def test_one_is_the_other_from_behind(made: tuple[Path, str]) -> None:
    """But for what the codec loses, which is the same on both sides: the first pictures of both are key frames."""
    forwards, backwards = (frames_of(made[0] / "clips" / f"00000-{label}.mp4") for label in ("forwards", "reversed"))
    assert len(forwards) == len(backwards) == 40
    apart = np.abs(forwards.astype(int) - backwards[::-1]).mean(axis=(1, 2, 3))
    turned = np.abs(forwards.astype(int) - backwards).mean(axis=(1, 2, 3))
    assert apart.max() < 4.0
    assert turned[0] > 3 * apart.max()
    sizes = [(made[0] / "clips" / f"00000-{label}.mp4").stat().st_size for label in ("forwards", "reversed")]
    assert max(sizes) / min(sizes) < 1.2


def test_the_command_makes_a_folder_or_says_one_line(manifest: Path, tmp_path: Path) -> None:
    command = ["synthesise", "directions", "--data", str(manifest), "--split", "part", "--out", str(tmp_path / "d")]
    done = CliRunner().invoke(commands.app, command)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(commands.app, command)
    assert again.exit_code == 1
    assert "is there already and not empty" in again.output.replace("\n", " ")


def test_nothing_that_can_be_decoded_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    table = footage.manifest(tmp_path, "a.mp4,walk,1,train")
    with pytest.raises(DatasetError, match="no clip can be decoded; `python -m models check` names what is wrong"):
        synthesise(table, "part", tmp_path / "out", Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()
