"""`python -m models train | evaluate | study | cost | card`: everything before ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models import encoders
from models.baselines import METHODS, HeadSettings, Method, correct, cut, paired_interval, train_method
from models.card import write_card
from models.checkpoint import Checkpoint
from models.dataset import Clip, hold_out, read
from models.evaluate import confusion, write_confusion
from models.features import FeatureStore
from models.heads import Cell, ManyToOne, SequenceHead
from models.train import FitSettings
from models.windowed import accuracy, clip_scores, shuffled
from service.video.spec import ClipSpec

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Datasets, training and evaluation.")
console = Console()

Data = Annotated[Path, typer.Option(exists=True, help="CSV manifest, or a folder with one folder a class.")]
Split = Annotated[str, typer.Option(help="Manifest column that says train or test.")]
Store = Annotated[Path, typer.Option(help="Folder of stored features.")]
SampleFps = Annotated[float, typer.Option(help="Ticks a second.")]
Size = Annotated[int, typer.Option(help="Height and width of a frame, pixels.")]

# The model that ships: chosen on validation groups (`cost`, MODEL_CARD.md).
SAMPLE_FPS, SIZE, WINDOW_SECONDS, STRIDE_SECONDS = 4.0, 224, 4.0, 2.0
VALIDATION_FRACTION, VALIDATION_SEED = 0.25, 0
ENCODER = "efficientnet-lite0"


def spec_of(sample_fps: float, size: int) -> ClipSpec:
    """Windows of 4 s every 2 s, whatever the rate."""
    return ClipSpec(
        sample_fps=sample_fps,
        frame_height=size,
        frame_width=size,
        window_frames=round(WINDOW_SECONDS * sample_fps),
        stride_frames=round(STRIDE_SECONDS * sample_fps),
    )


def features_of(
    clips: list[Clip], spec: ClipSpec, encoder: encoders.ImageEncoder, store: Path
) -> dict[str, NDArray[np.float32]]:
    """Features by clip path, extracted where they are not stored yet."""
    rows = FeatureStore(store, encoder, spec).load([clip.path for clip in clips])
    return {str(clip.path): row for clip, row in zip(clips, rows, strict=True)}


@app.command()
def train(
    data: Data,
    split: Split = "split",
    name: Annotated[str, typer.Option(help="Model name.")] = "actions-lstm",
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("runs/actions-lstm.pt"),
    store: Store = Path(".features"),
    sample_fps: SampleFps = SAMPLE_FPS,
    size: Size = SIZE,
    seed: Annotated[int, typer.Option(help="Of weights, order and dropout.")] = 0,
    epochs: Annotated[int, typer.Option(min=1)] = FitSettings.epochs,
    cell: Annotated[Cell, typer.Option(help="Kind of recurrent layer.")] = HeadSettings.cell,
    layers: Annotated[int, typer.Option(min=1, help="Recurrent layers.")] = HeadSettings.num_layers,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read both ways; no streaming.")] = False,
    pooling: Annotated[ManyToOne, typer.Option(help="How the frames of a window become one answer.")] = "mean",
    data_name: Annotated[str, typer.Option(help="What the model card calls the data.")] = "",
    data_licence: Annotated[str, typer.Option(help="Licence of the data, for the certificate.")] = "not stated",
) -> None:
    """Train an LSTM head on stored features of a frozen encoder; test it where the split has a test part."""
    clips = read(data, split)
    labels = tuple(sorted({clip.label for clip in clips}))
    spec = spec_of(sample_fps, size)
    encoder = encoders.build(ENCODER, size, size)
    features = features_of(clips, spec, encoder, store)
    parts = cut(clips, features, labels, spec, VALIDATION_FRACTION, VALIDATION_SEED)
    settings = FitSettings(epochs=epochs)
    head = HeadSettings(pooling=pooling, cell=cell, num_layers=layers, bidirectional=bidirectional)
    model, result = train_method("lstm", parts, len(labels), head, settings, seed, show_progress=True)
    if not isinstance(model, SequenceHead):
        raise TypeError(f"the recurrent method built a {type(model).__name__}")
    metrics = {"validation_accuracy": result.best_accuracy, "validation_loss": result.best_loss}
    if parts.test is not None:
        metrics["test_accuracy"] = accuracy(model, parts.test)
    metrics = {key: round(value, 4) for key, value in metrics.items()}
    checkpoint = Checkpoint(
        name=name,
        labels=labels,
        spec=spec,
        encoder_name=ENCODER,
        encoder_state=encoder.state_dict(),
        head_dims=model.dims,
        head_state=model.state_dict(),
        training={
            "data": data_name or data.name,
            "data_licence": data_licence,
            "data_path": str(data.resolve()),
            "split": split,
            "clips": {"train": len(parts.all_train.labels), "test": len(parts.test_clips)},
            "validation": f"{VALIDATION_FRACTION:.0%} of train's groups, seed {VALIDATION_SEED}",
            "seed": seed,
            "epochs": result.best_epoch,
            "head": vars(head),
            "fit": settings.to_dict(),
            "encoder": "frozen",
            "commit": _commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": str(torch.__version__),
            "metrics": metrics,
            "curve": result.curve,
        },
    )
    checkpoint.save(out)
    console.print(f"{out}: {metrics}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    data: Data,
    split: Split = "split",
    out: Annotated[Path, typer.Option(help="Folder for the confusion matrix.")] = Path("runs/evaluation"),
    store: Store = Path(".features"),
) -> None:
    """Accuracy on the test part beside two baselines, and the confusion matrix as PNG and CSV."""
    held = Checkpoint.load(checkpoint)
    clips = read(data, split)
    features = features_of(clips, held.spec, held.encoder(), store)
    parts = cut(clips, features, held.labels, held.spec, VALIDATION_FRACTION, VALIDATION_SEED)
    if parts.test is None:
        raise typer.BadParameter(f"{data}: no clip is `test` in column {split}")
    model = held.head()
    scores = clip_scores(model, parts.test)
    single, _ = train_method("single_frame", parts, len(held.labels), HeadSettings(), FitSettings(), seed=0)
    table = Table("method", "accuracy", title=f"{held.name}, {len(parts.test_clips)} test clips")
    table.add_row("LSTM", f"{accuracy(model, parts.test):.1%}")
    table.add_row("the same LSTM, frames shuffled", f"{accuracy(model, shuffled(parts.test, 0)):.1%}")
    table.add_row("single frame", f"{accuracy(single, parts.test):.1%}")
    console.print(table)
    matrix = confusion(parts.test.labels.numpy(), scores.argmax(axis=1), len(held.labels))
    for path in write_confusion(matrix, held.labels, out):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


@app.command()
def study(
    data: Data,
    splits: Annotated[str, typer.Option(help="Manifest columns, comma-separated.")] = "split1,split2,split3",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path, typer.Option()] = Path("models/zoo/actions-lstm/1/study.json"),
    store: Store = Path(".features"),
    sample_fps: SampleFps = SAMPLE_FPS,
    size: Size = SIZE,
) -> None:
    """Single frame, mean of features, shuffled and LSTM on splits × seeds; LSTM − mean with a 95 % interval."""
    names = splits.split(",")
    spec = spec_of(sample_fps, size)
    clips = read(data, names[0])
    labels = tuple(sorted({clip.label for clip in clips}))
    features = features_of(clips, spec, encoders.build(ENCODER, size, size), store)
    accuracies: dict[str, list[dict[str, float | int | str]]] = {method: [] for method in METHODS}
    differences: list[float] = []
    groups: list[str] = []
    for name in names:
        parts = cut(read(data, name), features, labels, spec, VALIDATION_FRACTION, VALIDATION_SEED)
        right = {method: np.zeros((seeds, len(parts.test_clips))) for method in METHODS}
        for method in METHODS:
            for seed in range(seeds):
                model, _ = train_method(method, parts, len(labels), HeadSettings(), FitSettings(), seed)
                right[method][seed] = correct(method, model, parts, seed)
                share = float(right[method][seed].mean())
                accuracies[method].append({"split": name, "seed": seed, "accuracy": round(share, 4)})
                console.print(f"{name} seed {seed} {method}: {share:.1%}")
        differences += (right["lstm"].mean(axis=0) - right["mean_of_features"].mean(axis=0)).tolist()
        groups += [clip.group for clip in parts.test_clips]
    mean, low, high = paired_interval(np.array(differences), groups)
    result = {
        "splits": names, "seeds": seeds, "sample_fps": sample_fps, "size": size, "accuracies": accuracies,
        "lstm_minus_mean": {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4),
                            "clips": len(differences), "groups": len(set(groups))},
    }  # fmt: skip
    _write_json(out, result)
    console.print(result["lstm_minus_mean"])


@app.command()
def cost(
    data: Data,
    split: Split = "split1",
    cells: Annotated[str, typer.Option(help="size@rate, comma-separated.")] = (
        "160@4,192@4,224@4,160@6,192@6,224@6,160@8,192@8,224@8"
    ),
    folds: Annotated[int, typer.Option(min=1, help="Validation cuts, by seed.")] = 3,
    out: Annotated[Path, typer.Option()] = Path("models/zoo/actions-lstm/1/cost.json"),
    store: Store = Path(".features"),
) -> None:
    """The accuracy–cost table of frame sizes and sample rates, on validation groups of train; test is not looked at.

    Each cell is written when it is measured; cells that `out` has already stay.
    """
    clips = [clip for clip in read(data, split) if clip.split == "train"]
    labels = tuple(sorted({clip.label for clip in clips}))
    validated = sum(len(hold_out(clips, VALIDATION_FRACTION, fold)[1]) for fold in range(folds))
    table = {"split": split, "folds": folds, "validation_clips": validated}
    held: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {**table, "rows": []}
    if {key: held[key] for key in table} != table:
        raise typer.BadParameter(f"{out} is of another split or other folds; remove it")
    rows = {(row["size"], row["sample_fps"]): row for row in held["rows"]}
    for size, rate in ((int(size), float(rate)) for size, rate in (cell.split("@") for cell in cells.split(","))):
        if (size, rate) in rows:
            continue
        spec = spec_of(rate, size)
        features = features_of(clips, spec, encoders.build(ENCODER, size, size), store)
        found: dict[Method, list[float]] = {"lstm": [], "mean_of_features": []}
        for fold in range(folds):
            parts = cut(clips, features, labels, spec, VALIDATION_FRACTION, fold)
            for method, accuracies in found.items():
                settings = FitSettings()
                _, result = train_method(method, parts, len(labels), HeadSettings(), settings, seed=0, refit=False)
                accuracies.append(result.best_accuracy)
        # Of a CNN the cost is that of its pixels: relative to 224 x 224 at 8 frames a second.
        relative = (size / 224) ** 2 * rate / 8
        rows[size, rate] = {"size": size, "sample_fps": rate, "relative_cost": round(relative, 3)} | {
            f"{method}_accuracy": round(float(np.mean(values)), 4) for method, values in found.items()
        }
        console.print(rows[size, rate])
        _write_json(out, {**table, "rows": [rows[cell] for cell in sorted(rows)]})


@app.command()
def card(bundle: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with model.json.")]) -> None:
    """Write MODEL_CARD.md from model.json, study.json, cost.json and certificate.json."""
    console.print(f"wrote {write_card(bundle)}", markup=False, soft_wrap=True)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _commit() -> str:
    """The commit that trains; `unknown` outside a checkout."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    torch.use_deterministic_algorithms(mode=True)
    sys.exit(app())
