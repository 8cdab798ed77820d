from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.__main__ import app
from models.errors import NotFiniteError
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.study import choose as module
from models.study import methods as baselines
from models.study.choose import chosen
from service.video.spec import ClipSpec
from tests.models.footage import film, manifest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of four source videos in train; of test there are rows alone, and no videos."""
    folder = tmp_path_factory.mktemp("films")
    rows = []
    for label, first in (("a", 0), ("b", 10)):
        for number in range(4):
            film(folder / f"{label}{number}.mp4", first + number)
            rows.append(f"{label}{number}.mp4,{label},{label}{number},train")
        (folder / f"{label}-test.mp4").write_text("never opened")
        rows.append(f"{label}-test.mp4,{label},{label}-test,test")
    return manifest(folder, *rows)


def choose(data: Path, out: Path, *flags: str) -> Result:
    words = ["choose", str(data), "--split", "part", "--size", "64", "--epochs", "2", "--folds", "2"]
    return CliRunner().invoke(app, [*words, "--out", str(out), "--store", str(data.parent / "store"), *flags])


GRID = ("--hidden-size", "4,8", "--cell", "gru,lstm", "--learning-rate", "0.01")


def test_a_grid_is_measured_on_validation_and_goes_on_where_it_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "choose.json"
    result = choose(data, out, "--hidden-size", "4", "--cell", "gru", "--learning-rate", "0.01")
    assert result.exit_code == 0, result.output
    assert "left out" not in result.output
    [first] = json.loads(out.read_text())["rows"]
    trained: list[tuple[str, int]] = []
    train_method = baselines.train_method

    def counted(method: Any, parts: Any, labels: int, head: Any, *rest: Any, **how: Any) -> Any:
        assert parts.test is None
        trained.append((head.cell, head.hidden_size))
        return train_method(method, parts, labels, head, *rest, **how)

    monkeypatch.setattr(module, "train_method", counted)
    result = choose(data, out, *GRID)
    assert result.exit_code == 0, result.output
    assert trained == [("gru", 8)] * 2 + [("lstm", 4)] * 2 + [("lstm", 8)] * 2
    held = json.loads(out.read_text())
    assert held["rows"][0] == first
    assert [(row["cell"], row["hidden_size"]) for row in held["rows"]] == [
        ("gru", 4), ("gru", 8), ("lstm", 4), ("lstm", 8)
    ]  # fmt: skip
    for row in held["rows"]:
        assert row["accuracy"] == pytest.approx(sum(row["accuracies"]) / 2, abs=1e-4)
        # Of two values the standard error is half their distance.
        assert row["standard_error"] == pytest.approx(abs(row["accuracies"][0] - row["accuracies"][1]) / 2, abs=1e-4)
    assert held["chosen"] == chosen(held["rows"])
    settings = {**vars(HeadSettings()), **vars(FitSettings()), **ClipSpec.model_fields}
    assert settings.keys() <= {*held, *held["rows"][0]}, "all that decides a row"
    assert f"chosen: --cell {held['chosen']['cell']} " in result.output
    assert " ± " in result.output
    table = [line for line in result.output.splitlines() if line[:1] in "┏┃┡│└"]
    assert 6 <= len(table) == sum(len(line) <= 80 for line in table)


def test_rows_of_other_data_are_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "choose.json"
    grid = ("--hidden-size", "4", "--learning-rate", "0.01")
    assert choose(data, out, *grid).exit_code == 0
    before = out.read_text()
    result = choose(data, out, *grid, "--folds", "3")
    assert result.exit_code == 1
    assert "is of another folds (2, now 3); remove it" in result.output
    assert out.read_text() == before
    for name, other in (("num_layers", 2), ("patience", 9), ("encoder", "resnet18"), ("window_frames", 8)):
        held = json.loads(before)
        out.write_text(json.dumps(held | {name: other}))
        assert f"is of another {name} ({other!r}, now {held[name]!r}); remove it" in choose(data, out, *grid).output
    out.write_text("[]")
    assert "is no file of `models choose`" in choose(data, out, *grid).output


def test_rows_are_of_what_files_hold_and_not_of_their_names(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "films"
    shutil.copytree(data.parent, own)
    out, grid = tmp_path / "choose.json", ("--hidden-size", "4", "--learning-rate", "0.01")
    assert choose(own / data.name, out, *grid).exit_code == 0
    film(own / "a0.mp4", 20)
    result = choose(own / data.name, out, *grid)
    assert result.exit_code == 1
    assert "is of another clips_sha256" in result.output


def test_a_row_that_is_not_finite_is_kept_and_never_chosen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, train_method = tmp_path / "choose.json", baselines.train_method

    def lost(*parts: Any, **how: Any) -> Any:
        if parts[4].learning_rate == 9.0:
            raise NotFiniteError("the training loss is not finite")
        return train_method(*parts, **how)

    monkeypatch.setattr(module, "train_method", lost)
    result = choose(data, out, "--hidden-size", "4", "--learning-rate", "9,0.01")
    assert result.exit_code == 0, result.output
    first, second = json.loads(out.read_text())["rows"]
    assert first["why"] == "the training loss is not finite"
    assert json.loads(out.read_text())["chosen"] == second
    result = choose(data, tmp_path / "lost.json", "--hidden-size", "4", "--learning-rate", "9")
    assert result.exit_code == 1
    assert "no row of" in result.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--cell", "lstm,transformer"),
            "--cell: 'transformer': it is none of rnn, rnn-relu, lstm, peephole-lstm, gru",
        ),
        (("--hidden-size", "4,0"), "--hidden-size: '0': it is not at least 1"),
        (("--learning-rate", "x"), "--learning-rate: 'x': "),
        (("--input-dropout", "1.5"), "--input-dropout: '1.5': it is not from 0 to 0.99"),
    ],
)
def test_a_wrong_value_is_named(data: Path, tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    result = choose(data, tmp_path / "choose.json", *flags)
    assert result.exit_code == 1
    assert said in result.output.replace("\n", " ")


def test_the_higher_accuracy_is_chosen_then_the_lower_loss() -> None:
    rows: list[dict[str, Any]] = [
        {"accuracy": 0.8, "loss": 0.1}, {"accuracy": 0.9, "loss": 0.5}, {"accuracy": 0.9, "loss": 0.4}, {"why": "…"}
    ]  # fmt: skip
    assert chosen(rows) == rows[2]
    assert chosen([{"why": "…"}]) is None
