"""Hyperparameters, compared on validation groups of train by a small grid; into choose.json. Test is not looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models import encoders
from models.data.loading import Loaded, load_clips
from models.data.manifests import DatasetError, labels_to_learn, read
from models.data.parts import cut
from models.data.targets import Targets
from models.errors import NotFiniteError
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.heads import Cell, ManyToOne
from models.recipe import DataSettings, EncoderSettings
from models.report.screen import cell_name, say, write_json
from models.study.kept import Row, kept_rows
from models.study.methods import train_method
from models.tasks import LABEL
from service.video.frames import REVISION
from service.video.spec import ClipSpec


@dataclass(frozen=True)
class Grid:
    """All combinations of these values are trained; what is not here has the default."""

    cells: tuple[Cell, ...] = ("lstm",)
    poolings: tuple[ManyToOne, ...] = ("mean",)
    hidden_sizes: tuple[int, ...] = (32, 64, 128)
    input_dropouts: tuple[float, ...] = (HeadSettings.input_dropout,)
    output_dropouts: tuple[float, ...] = (HeadSettings.output_dropout,)
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)

    def __iter__(self) -> Iterator[tuple[HeadSettings, float]]:
        """Heads and learning rates."""
        for cell, pooling, hidden, into, out, rate in product(
            self.cells, self.poolings, self.hidden_sizes, self.input_dropouts, self.output_dropouts, self.learning_rates
        ):
            yield HeadSettings(hidden, pooling, cell, input_dropout=into, output_dropout=out), rate


def choose(
    data: Path, split: str, grid: Grid, folds: int, epochs: int, out: Path, store: Path, spec: ClipSpec,
    console: Console,
) -> None:  # fmt: skip
    """Train each row of the grid on `folds` validation cuts, by seed, and name the best by mean accuracy.

    A row is written when it is measured; rows that `out` has already stay. Where two are equal the lower mean loss
    decides. A row whose training leaves the finite numbers is never chosen. The standard error is that of the mean over
    folds; as folds share clips, it is rather too small. Raises DatasetError, FeatureError.
    """
    clips = [clip for clip in read(data, split) if clip.split == "train"]
    encoder = encoders.build(EncoderSettings.name, spec.frame_height, spec.frame_width)
    loaded = load_clips(clips, spec, encoder, store, console)
    labels = labels_to_learn(loaded.clips)
    of = {
        "split": split, "folds": folds, "validation_fraction": DataSettings.validation_fraction, **_fixed(epochs, spec),
        "encoder": EncoderSettings.name, "encoder_weights": encoder.origin.to_dict() if encoder.origin else {},
        "frames_revision": REVISION, "clips": len(loaded.clips), "clips_sha256": _digest(loaded),
    }  # fmt: skip
    rows = kept_rows(out, of, "choose")
    for head, rate in grid:
        key = _key(head, rate)
        if any(_same(row, key) for row in rows):
            continue
        fit = FitSettings(epochs=epochs, learning_rate=rate)
        row: Row = dict(key)
        try:
            results = []
            for fold in range(folds):
                parts = cut(
                    loaded.clips, loaded.features, Targets(LABEL, labels), spec, DataSettings.validation_fraction, fold
                )
                results.append(train_method("recurrent", parts, len(labels), head, fit, seed=0, refit=False)[1])
        except NotFiniteError as error:
            row["why"] = str(error)
        else:
            values = np.array([result.best_figure for result in results])
            row |= {
                "accuracy": round(float(values.mean()), 4),
                "standard_error": round(float(values.std(ddof=1) / folds**0.5), 4) if folds > 1 else None,
                "loss": round(float(np.mean([result.best_loss for result in results])), 4),
                "accuracies": [round(float(value), 4) for value in values],
                "epochs": [result.best_epoch for result in results],
                "cap_reached": sum(result.cap_reached for result in results),
            }
        rows.append(row)
        write_json(out, {**of, "rows": rows, "chosen": chosen(rows)}, console)
    best = chosen(rows)
    console.print(_table(rows, best, folds))
    if best is None:
        raise DatasetError(f"no row of {out} was trained to its end; lower the learning rates")
    if best["cap_reached"]:
        said = f"early stopping did not stop {best['cap_reached']} of {folds} folds before --epochs {epochs}; raise it"
        say(console, said, "yellow")
    say(
        console,
        f"chosen: --cell {best['cell']} --pooling {best['pooling']} --hidden-size {best['hidden_size']} "
        f"--input-dropout {best['input_dropout']:g} --output-dropout {best['output_dropout']:g} "
        f"--learning-rate {best['learning_rate']:g} --epochs {epochs}",
    )


def chosen(rows: list[Row]) -> Row | None:
    """The row of the highest mean accuracy; the lower loss decides where two are equal. None where there is none."""
    trained = [row for row in rows if "accuracy" in row]
    return min(trained, key=lambda row: (-row["accuracy"], row["loss"]), default=None)


def is_made_so(row: Row, held: Row, training: dict[str, Any], spec: ClipSpec, encoder: str) -> bool:
    """Whether a model was made as a row of choose.json was: head, fitting, encoder with its weights, and pixels.

    held: all of choose.json; training, spec and encoder: of the model's bundle.
    """
    if not all(isinstance(training.get(part), dict) for part in ("head", "fit", "encoder_weights")):
        return False
    ours = training["head"] | training["fit"] | spec.model_dump(mode="json")
    ours |= {"encoder": encoder, "encoder_weights": training["encoder_weights"]}
    # A row has epochs of its own, those that its folds took.
    theirs = row | held | {"encoder": f"{held.get('encoder')}-{spec.frame_width}x{spec.frame_height}"}
    return all(name in theirs and theirs[name] == value for name, value in ours.items())


def _key(head: HeadSettings, learning_rate: float) -> Row:
    return {
        "cell": head.cell, "pooling": head.pooling, "hidden_size": head.hidden_size,
        "input_dropout": head.input_dropout, "output_dropout": head.output_dropout, "learning_rate": learning_rate,
    }  # fmt: skip


def _fixed(epochs: int, spec: ClipSpec) -> Row:
    """All settings of heads, of fitting and of pixels that the grid has not, by name."""
    varied = _key(HeadSettings(), FitSettings.learning_rate)
    settings = vars(HeadSettings()) | FitSettings(epochs=epochs).to_dict() | spec.model_dump(mode="json")
    return {name: value for name, value in settings.items() if name not in varied}


def _same(row: Row, key: Row) -> bool:
    return all(row[name] == value for name, value in key.items())


def _digest(loaded: Loaded) -> str:
    """Which contents, labels and groups the rows were measured on."""
    lines = sorted(f"{clip.label}\t{clip.group}\t{loaded.sha256[clip.path]}" for clip in loaded.clips)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _table(rows: list[Row], best: Row | None, folds: int) -> Table:
    title = f"mean of {folds} validation cuts ± standard error"
    table = Table("cell", "pooling", "hidden", "dropout", "rate", "accuracy", "loss", "epochs", title=title)
    for row in rows:
        settings = [
            cell_name(row["cell"]), row["pooling"], str(row["hidden_size"]),
            f"{row['input_dropout']:g}, {row['output_dropout']:g}", f"{row['learning_rate']:g}",
        ]  # fmt: skip
        if "accuracy" not in row:
            table.add_row(*settings, "not finite", "", "", style="dim")
            continue
        error = row["standard_error"]
        spread = "" if error is None else f" ± {error:.1%}"
        epochs = f"{np.mean(row['epochs']):.0f}"
        figures = [f"{row['accuracy']:.1%}{spread}", f"{row['loss']:.3f}", epochs]
        table.add_row(*settings, *figures, style="bold green" if row is best else "")
    return table
