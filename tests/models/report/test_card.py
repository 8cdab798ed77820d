"""What the card says of a study, a choice and a training, beside the bundle that ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.recipe import read
from models.report.card import shipped_head, write_card
from tests.bundles import sealed
from tests.server import ROOT
from tests.zoo import TRAINED, ZOO

RECIPE = ROOT / "models" / "recipes" / "actions-lstm.toml"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for path in (*ZOO.rglob("*.json"), *ZOO.rglob("*.csv"), *ZOO.rglob("notes.md")):
        (tmp_path / path.relative_to(ZOO)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ZOO))
    return tmp_path / TRAINED.relative_to(ZOO)


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def model_of(bundle: Path) -> dict[str, Any]:
    model: dict[str, Any] = json.loads((bundle / "model.json").read_text())
    return model


def test_the_card_names_the_head(bundle: Path) -> None:
    head = model_of(bundle)["head_sha256"]
    assert shipped_head(bundle) == head
    assert shipped_head(bundle.parent) is None
    assert f"| head's sha256 | `{head}` |" in write_card(bundle).read_text()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("ours", "The study was made beside the one that ships (`"),
        ("f" * 64, "**The study was made beside another head (`ffffffffffff`) than the one that ships (`"),
        (None, "The study was made before there was a bundle; its heads have the settings of the one that ships (`"),
    ],
)
def test_the_card_says_of_which_head_the_study_is(bundle: Path, head: str | None, said: str) -> None:
    model = model_of(bundle)
    ships = model["head_sha256"]
    change(bundle / "study.json", head_sha256=ships if head == "ours" else head, head=model["training"]["head"])
    assert said in write_card(bundle).read_text()


def test_a_study_of_other_settings_is_said_to_be_one(bundle: Path) -> None:
    model = model_of(bundle)
    other = model["training"]["head"] | {"hidden_size": 7}
    change(bundle / "study.json", head_sha256=model["head_sha256"], head=other)
    assert "**The heads of the study have other settings than the one that ships" in write_card(bundle).read_text()


def test_a_study_of_gru_heads_calls_them_so(bundle: Path) -> None:
    study = json.loads((bundle / "study.json").read_text())
    study["accuracies"]["gru"] = study["accuracies"].pop("lstm")
    study["gru_minus_mean"] = study.pop("lstm_minus_mean")
    study |= {"cell": "gru", "permutations": 5}
    (bundle / "study.json").write_text(json.dumps(study))
    card = write_card(bundle).read_text()
    assert "## Does the GRU earn its place?" in card
    assert "\n| GRU | " in card
    assert "GRU − mean of features, paired by clip" in card
    assert "its test is a mean over 5 orders" in card


def row(**fields: Any) -> dict[str, Any]:
    return {
        "cell": "lstm", "pooling": "mean", "hidden_size": 64, "input_dropout": 0.3, "output_dropout": 0.5,
        "learning_rate": 0.001, "accuracy": 0.9, "standard_error": 0.01, "loss": 0.3,
    } | fields  # fmt: skip


def chosen(bundle: Path, rows: list[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any]:
    """choose.json of rows whose other settings are those of the bundle."""
    model = model_of(bundle)
    training = model["training"]
    settings = training["head"] | training["fit"] | model["spec"] | {"region": None}
    fixed = {name: value for name, value in settings.items() if name not in row()}
    size = f"-{model['spec']['frame_width']}x{model['spec']['frame_height']}"
    encoder = model["encoder"]["name"].removesuffix(size)  # as if a fine-tuned one were frozen
    weights = {"encoder": encoder, "encoder_weights": training["encoder_weights"]}
    return {"split": "split1", "folds": 3, "clips": 791, **fixed, **weights, "rows": rows, "chosen": best}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(), row(hidden_size=32, accuracy=0.8)], "| **LSTM** | **mean** | **64** |"),
        ([row(), row(hidden_size=32, accuracy=0.95)], "The best row is another one than ships: 95.0%."),
        ([row(hidden_size=32)], "**The settings that ship are none of these rows.**"),
        ([row(), row(learning_rate=9.0, accuracy=0.85)], "| LSTM | mean | 64 | 0.3, 0.5 | 9 | 85.0% ± 1.0% |"),
    ],
)
def test_the_command_behind_the_hyperparameters_is_named(bundle: Path, rows: list[dict[str, Any]], said: str) -> None:
    best = max(rows, key=lambda one: one["accuracy"])
    choice = chosen(bundle, rows, best)
    assert "## Hyperparameters" not in write_card(bundle).read_text()
    (bundle / "choose.json").write_text(json.dumps(choice))
    card = write_card(bundle).read_text()
    assert "`python -m models choose` on 3 validation cuts of the 791 training clips of split1" in card
    assert said in card


def test_the_cap_and_what_was_left_out_are_in_the_card(bundle: Path) -> None:
    training = model_of(bundle)["training"]
    change(
        bundle / "model.json",
        training=training
        | {"epoch_cap_reached": True, "epochs": 30, "left_out": [{"path": "x.mp4", "why": "not_a_video: …"}]},
    )
    card = write_card(bundle).read_text()
    assert "(early stopping did not stop: it is the last that was allowed)" in card
    assert "791 training clips; 1 broken clips left out |" in card


def test_a_card_is_the_same_with_a_recipe_and_without(bundle: Path) -> None:
    training = model_of(bundle)["training"]
    training.pop("recipe", None)
    change(bundle / "model.json", training=training)
    without = write_card(bundle).read_text()
    change(bundle / "model.json", training={"recipe": read(RECIPE).to_dict()} | training)
    assert write_card(bundle).read_text() == without


@pytest.mark.parametrize(
    "other",
    [{"num_layers": 2}, {"bidirectional": True}, {"patience": 9}, {"weight_decay": 0.1}, {"epochs": 90},
     {"encoder": "resnet18"}, {"encoder_weights": {"source": "mine.pth", "licence": "mine"}}, {"sample_fps": 8.0},
     {"region": {"x": 0.0, "y": 0.0, "width": 0.5, "height": 0.5}}],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_a_row_of_other_settings_is_not_the_one_that_ships(bundle: Path, other: dict[str, Any]) -> None:
    (bundle / "choose.json").write_text(json.dumps(chosen(bundle, [row()], row()) | other))
    card = write_card(bundle).read_text()
    assert "**The settings that ship are none of these rows.**" in card
    assert "| LSTM | mean | 64 |" in card


def test_a_cap_behind_the_best_epoch_is_in_the_card(bundle: Path) -> None:
    training = model_of(bundle)["training"]
    change(bundle / "model.json", training=training | {"epoch_cap_reached": True, "epochs": 29})
    assert "(early stopping did not stop: 30 were allowed, and it waits for more)" in write_card(bundle).read_text()


def table_of(bundle: Path) -> dict[str, str]:
    """The first table of the card: what is said, by row."""
    table = write_card(bundle).read_text().split("|---|---|\n")[1].split("\n\n")[0]
    return {name.strip(): said.strip() for name, said in (line[1:-1].split("|") for line in table.splitlines())}


CALIBRATION = {"temperature": 1.5, "ece_before": 0.1, "ece_after": 0.05, "clips": 40}
ABSTAIN = {"threshold": 0.4, "kept": 0.9, "kept_accuracy": 0.8, "clips": 40}


@pytest.mark.parametrize("training", [{}, {"metrics": None, "clips": 7, "head": "mine"}])
def test_a_network_of_one_s_own_has_a_card(tmp_path: Path, training: dict[str, Any]) -> None:
    """As `module:factory` gives it: no training, no claim, whole clips, scores as they are."""
    own = sealed(tmp_path)
    spec = model_of(own)["spec"] | {"window_frames": None, "stride_frames": None}
    change(own / "model.json", training=training, spec=spec, score="none", calibration=CALIBRATION)
    table = table_of(own)
    rows = ["task", "encoder", *(["head"] if training else []), "head's sha256", "clip spec", "trained"]
    assert list(table) == rows
    assert table["task"] == "`clip` (many-to-one), scores: as the head gives them, of the whole clip"
    assert table["clip spec"] == "4 frames a second, 32×32, `crop`; the whole clip at once"
    assert table["trained"] == "2026-01-01T00:00:00+00:00"
    card = (own / "MODEL_CARD.md").read_text()
    assert "10.0% as trained, 5.0% at the temperature 1.50, which is inside head.onnx." in card
    assert "abstained" not in card
    assert "None" not in card


def test_abstention_alone_is_said(tmp_path: Path) -> None:
    own = sealed(tmp_path)
    change(own / "model.json", abstain=ABSTAIN)
    said = write_card(own).read_text().split("## Calibration\n\n")[1].split("\n")[0]
    assert said == (
        "`abstained` below a best score of 0.400: 90.0% of the validation clips reach it, 80.0% of those rightly named."
    )
    assert table_of(own)["seed"] == "0"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (None, "validation_accuracy 0.91, f1 0.5 (not proven by the certificate)"),
        ({"accuracy": 0.9, "clips": 40, "part": "test"}, "**90.0%** on 40 test clips; 91.0% on validation groups"),
        ({"accuracy": 0.9167, "clips": 12, "part": "validation"}, "**91.7%** on 12 validation clips"),
    ],
)
def test_the_accuracy_is_what_the_model_claims(tmp_path: Path, claim: dict[str, Any] | None, said: str) -> None:
    own = sealed(tmp_path)
    metrics = {"validation_accuracy": 0.91, "f1": 0.5, "by_label": [0.5]}
    region = {"x": 0.5, "y": 0.0, "width": 0.5, "height": 1.0}
    spec = model_of(own)["spec"] | {"region": region}
    change(own / "model.json", training={"metrics": metrics}, claim=claim, spec=spec)
    table = table_of(own)
    assert table["accuracy"] == said
    assert table["clip spec"] == "4 frames a second, 32×32, `crop`, region 0.5,0,0.5,1; windows of 8 every 4"


def test_of_ticks_the_card_says_how_many_in_segments_are_right(bundle: Path) -> None:
    model = model_of(bundle)
    model["training"]["metrics"]["test_figure_in_segments"] = 0.8123
    change(bundle / "model.json", training=model["training"])
    card = write_card(bundle).read_text()
    assert "; 81.2% of the ticks in segments |" in card
    assert f"| optimisation | {model['training']['fit'].get('optimizer', 'AdamW')}, {{" in card
