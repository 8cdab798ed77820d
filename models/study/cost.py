"""What frame size and sample rate cost and bring, on validation groups of train; into cost.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from models import encoders
from models.data.loading import load_clips
from models.data.manifests import hold_out, labels_to_learn, read
from models.data.parts import cut
from models.data.targets import Targets
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.options import values_of
from models.recipe import ClipSettings, DataSettings, EncoderSettings
from models.report.screen import say, write_json
from models.settings import settings_of
from models.study.kept import kept_rows
from models.study.methods import Method, train_method
from models.tasks import LABEL
from service.video.region import Region


def cells_of(text: str) -> tuple[tuple[int, float], ...]:
    """`160@4,192@6`: sizes, pixels, and rates, ticks a second. Raises ModelsError."""
    return values_of("--cells", text, _cell)


def _cell(word: str) -> tuple[int, float]:
    size, _, rate = word.partition("@")
    clip = settings_of(ClipSettings)
    try:
        return clip["frame_height"].read(size), clip["sample_fps"].read(rate)
    except ValueError as error:
        raise ValueError(
            f"sizes are {clip['frame_height'].limit} pixels, rates {clip['sample_fps'].limit} a second"
        ) from error


def measure(
    data: Path,
    split: str,
    cells: tuple[tuple[int, float], ...],
    folds: int,
    out: Path,
    store: Path,
    console: Console,
    region: Region | None = None,
) -> None:
    """Each cell is written when it is measured; cells that `out` has already stay. Test is not looked at."""
    clips = [clip for clip in read(data, split) if clip.split == "train"]
    labels = labels_to_learn(clips)
    targets = Targets(LABEL, labels)
    validated = sum(len(hold_out(clips, DataSettings.validation_fraction, fold)[1]) for fold in range(folds))
    table = {"split": split, "folds": folds, "validation_clips": validated}
    table |= {"region": str(region)} if region else {}
    rows = {(row["size"], row["sample_fps"]): row for row in kept_rows(out, table, "cost")}
    head = HeadSettings()
    names: dict[Method, str] = {"recurrent": head.cell, "mean_of_features": "mean_of_features"}
    for size, rate in cells:
        if (size, rate) in rows:
            continue
        spec = ClipSettings(sample_fps=rate, frame_height=size, frame_width=size, region=region).spec
        loaded = load_clips(clips, spec, encoders.build(EncoderSettings.name, size, size), store, console)
        found: dict[Method, list[float]] = {method: [] for method in names}
        for fold in range(folds):
            parts = cut(loaded.clips, loaded.features, targets, spec, DataSettings.validation_fraction, fold)
            for method, accuracies in found.items():
                _, result = train_method(method, parts, len(labels), head, FitSettings(), seed=0, refit=False)
                accuracies.append(result.best_figure)
        # Of a CNN the cost is that of its pixels: relative to 224 x 224 at 8 frames a second.
        relative = (size / 224) ** 2 * rate / 8
        rows[size, rate] = {"size": size, "sample_fps": rate, "relative_cost": round(relative, 3)} | {
            f"{names[method]}_accuracy": round(float(np.mean(values)), 4) for method, values in found.items()
        }
        say(console, ", ".join(f"{key} {value}" for key, value in rows[size, rate].items()))
        write_json(out, {**table, "rows": [rows[cell] for cell in sorted(rows)]}, console)
