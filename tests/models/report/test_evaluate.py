"""`python -m models train` and `evaluate`, on drawn films: what they say, and of what they complain in one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from models import pipeline
from models.__main__ import app
from models.checkpoint import Checkpoint
from models.heads import HeadDims, SequenceHead
from tests.models.footage import film, manifest


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a` and `b`, six source videos each, and a file that is no video."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(6):
        film(folder / "a" / f"a{number}.mp4", number)
        film(folder / "b" / f"b{number}.mp4", 10 + number)
    (folder / "text.mp4").write_text("not a video")
    return folder


ROWS = [
    f"{label}/{label}{n}.mp4,{label},{label}{n},{'test' if n == 5 else 'train'}" for label in "ab" for n in range(6)
]


def run(films: Path, *arguments: str) -> Result:
    words = [*arguments, "--store", str(films.parent / "store")]
    return CliRunner().invoke(app, words)


def train(films: Path, out: Path, rows: list[str], *flags: str) -> Result:
    path = manifest(films, *rows)
    return run(
        films,
        "train",
        "--data",
        str(path),
        "--split",
        "part",
        "--size",
        "64",
        "--out",
        str(out),
        "--name",
        "drawn",
        *flags,
    )


@pytest.fixture(scope="module")
def checkpoint(films: Path) -> tuple[Path, str]:
    """A GRU, and what was said when it was trained."""
    out = films.parent / "gru.pt"
    result = train(
        films, out, [*ROWS, "text.mp4,a,t,train"], "--cell", "gru", "--epochs", "2", "--hidden-size", "8",
        "--learning-rate", "0.0005", "--gradient-norm", "0.5", "--weight-decay", "0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, result.output


def evaluate(films: Path, checkpoint: Path, data: Path, tmp_path: Path, *flags: str) -> Result:
    return run(films, "evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "e"), *flags)


def is_one_line(result: Result) -> bool:
    lines = [line for line in result.output.splitlines() if not line.startswith(("left out: ", "files", "features"))]
    return result.exit_code == 1 and len(lines) == 1 and isinstance(result.exception, SystemExit)


def test_training_reports_what_it_did(checkpoint: tuple[Path, str]) -> None:
    path, said = checkpoint
    assert "drawn: GRU, 2 labels" in said
    assert "validation groups" in said
    assert " of 2 " in said
    assert "early stopping" in said
    assert "text.mp4: not_a_video: " in said
    assert "'validation_accuracy'" not in said
    held = Checkpoint.load(path)
    training = held.training
    assert training["clips"] == {"train": 10, "validation": 2, "test": 2}
    assert [row["path"] for row in training["left_out"]] == ["text.mp4"]
    assert training["head"]["hidden_size"] == held.head_dims.hidden_size == 8
    assert (training["fit"]["learning_rate"], training["fit"]["gradient_norm"]) == (0.0005, 0.5)
    assert training["early_stopping"] in said.replace("\n", " ")
    assert training["epoch_cap_reached"] is True, "2 epochs are fewer than the patience of 6"
    assert 0 <= training["metrics"]["test_accuracy"] <= 1


def test_a_gru_is_called_one(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    result = evaluate(films, checkpoint[0], manifest(films, *ROWS), tmp_path, "--split", "part")
    assert result.exit_code == 0, result.output
    assert "drawn, 2 test clips" in result.output
    assert "the same GRU" in result.output
    assert "single frame" in result.output
    assert "LSTM" not in result.output
    assert {path.name for path in (tmp_path / "e").iterdir()} == {"confusion.csv", "confusion.png"}


def test_a_manifest_of_test_alone_has_no_baseline(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    rows = [row for row in ROWS if row.endswith("test")]
    result = evaluate(films, checkpoint[0], manifest(films, *rows), tmp_path, "--split", "part")
    assert result.exit_code == 0, result.output
    assert "no baseline without recurrence: the data has no train part" in result.output


@pytest.mark.parametrize("rows", [[row for row in ROWS if row[0] == "a"], [ROWS[0], ROWS[5]]])
def test_one_label_can_be_evaluated(films: Path, checkpoint: tuple[Path, str], tmp_path: Path, rows: list[str]) -> None:
    """The second has one group in train, so that no baseline can be validated."""
    result = evaluate(films, checkpoint[0], manifest(films, *rows), tmp_path, "--split", "part")
    assert result.exit_code == 0, result.output
    assert "single frame" in result.output or "no baseline without recurrence: label a has one" in result.output


def test_a_tree_is_taken_whole_and_said_to_be(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for label in "ab":
        shutil.copytree(films / label, tree / label)
    result = evaluate(films, checkpoint[0], tree, tmp_path)
    assert result.exit_code == 0, result.output
    assert "all 12 clips are taken, and it may have been trained on these" in result.output
    assert "12 clips, all there are" in result.output


def test_all_clips_of_a_manifest(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    result = evaluate(films, checkpoint[0], manifest(films, *ROWS), tmp_path, "--all")
    assert result.exit_code == 0, result.output
    assert "all 12 clips are taken, and it was trained on these" in result.output


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row for row in ROWS if row.endswith("train")], "no clip is `test` in column part"),
        ([*ROWS, "text.mp4,Yoga,t,test"], "label 'Yoga' (text.mp4) is unknown to the checkpoint; it knows a, b"),
        (["gone.mp4,a,1,test"], ":2: gone.mp4 is not a file"),
        ([*ROWS, "a/a0.mp4,a,b5,train"], "group 'b5': "),
    ],
)
def test_complaints_of_evaluate_are_one_line(
    films: Path, checkpoint: tuple[Path, str], tmp_path: Path, rows: list[str], said: str
) -> None:
    result = evaluate(films, checkpoint[0], manifest(films, *rows), tmp_path, "--split", "part")
    assert is_one_line(result), result.output
    assert said in result.output


def test_another_file_is_one_line(films: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pt").write_bytes(b"no")
    result = evaluate(films, tmp_path / "no.pt", manifest(films, *ROWS), tmp_path)
    assert is_one_line(result), result.output
    assert "is not a Reelserve checkpoint" in result.output


def test_a_model_of_frames_is_refused(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    held = Checkpoint.load(checkpoint[0])
    head = SequenceHead(HeadDims(1280, 8, 2, "none"))
    frames = Checkpoint(
        "frames", held.labels, held.spec, held.encoder_name, held.encoder_state, head.dims, head.state_dict(), {}
    )
    frames.save(tmp_path / "frames.pt")
    result = evaluate(films, tmp_path / "frames.pt", manifest(films, *ROWS), tmp_path)
    assert is_one_line(result), result.output
    assert "answers for every frame" in result.output


@pytest.mark.parametrize(
    ("rows", "flags", "said"),
    [
        ([row for row in ROWS if row[0] == "a"], (), "at least 2 labels"),
        ([row for row in ROWS if row[0] == "a" or row.endswith("test")], (), "label b is in test only"),
        ([*ROWS[:2], *ROWS[6:7]], (), "label b has one group only"),
        ([*ROWS, "text.mp4,c,t,train"], (), "no clip of label c can be used"),
        (ROWS, ("--region", "0,0,500,500"), "goes beyond the picture, which is 96 x 72 pixels"),
        (
            ROWS,
            ("--learning-rate", "1000", "--weight-decay", "1000", "--batch-windows", "1"),
            "is not finite; nothing is saved",
        ),
    ],
)
def test_complaints_of_training_are_one_line_and_nothing_is_saved(
    films: Path, tmp_path: Path, rows: list[str], flags: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "no.pt"
    result = train(films, out, rows, "--epochs", "3", *flags)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert said in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


def test_a_region_is_what_is_learnt_from_and_what_is_served(films: Path, tmp_path: Path) -> None:
    """Of all that is stored beside the region's features nothing is taken."""
    means = {}
    for region in (None, "0.5,0,0.5,0.5"):
        out = tmp_path / f"{region}.pt"
        result = train(films, out, ROWS, "--epochs", "1", *(("--region", region) if region else ()))
        assert result.exit_code == 0, result.output
        held = Checkpoint.load(out)
        assert (str(held.spec.region) if held.spec.region else None) == region
        means[region] = held.statistics["feature_mean"]
        evaluated = evaluate(films, out, manifest(films, *ROWS), tmp_path, "--split", "part")
        assert evaluated.exit_code == 0, evaluated.output
    assert np.abs(means[None] - means["0.5,0,0.5,0.5"]).max() > 0.01


@pytest.mark.parametrize(
    ("region", "said"),
    [("0.5,0,0.6,1", "region 0.5,0,0.6,1 is in fractions, and goes beyond 1"), ("1,2", "give four numbers")],
)
def test_a_region_that_can_not_be_is_one_line(films: Path, tmp_path: Path, region: str, said: str) -> None:
    result = train(films, tmp_path / "no.pt", ROWS, "--region", region)
    assert is_one_line(result), result.output
    assert said in result.output


@pytest.mark.parametrize(("held", "now"), [(None, "0,0,1,1"), ("0,0,1,1", None)])
def test_costs_of_another_region_are_not_gone_on_with(
    films: Path, tmp_path: Path, held: str | None, now: str | None
) -> None:
    out = tmp_path / "cost.json"
    table = {"split": "part", "folds": 1, "validation_clips": 2, "rows": []} | ({"region": held} if held else {})
    out.write_text(json.dumps(table))
    words = ["cost", "--data", str(manifest(films, *ROWS)), "--split", "part", "--folds", "1", "--out", str(out)]
    result = run(films, *words, *(("--region", now) if now else ()))
    assert is_one_line(result), result.output
    assert "is of another region (" in result.output


def test_training_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch("[0-9a-f]{40}|unknown", pipeline._commit())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pipeline._commit() == "unknown"


def test_the_same_seed_gives_the_same_weights_whatever_was_stored(films: Path, tmp_path: Path) -> None:
    """First from files that are decoded ahead, then from what is stored."""
    states = []
    for number in range(2):
        out = tmp_path / f"{number}.pt"
        path = manifest(films, *ROWS)
        result = CliRunner().invoke(
            app,
            ["train", "--data", str(path), "--split", "part", "--size", "64", "--epochs", "1", "--out", str(out),
             "--store", str(tmp_path / "store")],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        states.append(Checkpoint.load(out).head_state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_accuracy_of_each_value_of_a_column(films: Path, checkpoint: tuple[Path, str], tmp_path: Path) -> None:
    table = manifest(films, *ROWS)
    lines = table.read_text().splitlines()
    table.write_text("\n".join(f"{line},{'camera' if not number else number % 2}" for number, line in enumerate(lines)))
    result = evaluate(films, checkpoint[0], table, tmp_path, "--split", "part", "--by", "camera")
    assert result.exit_code == 0, result.output
    found = result.output.partition("│ camera")[2] or result.output.partition("┃ camera")[2]
    assert "95 % interval" in found.partition("\n")[0]
    wrong = evaluate(films, checkpoint[0], table, tmp_path, "--split", "part", "--by", "lens")
    assert wrong.exit_code == 1
    assert "has no column 'lens'; --by names one of a manifest" in wrong.output.replace("\n", " ")
