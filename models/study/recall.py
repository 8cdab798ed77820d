"""Delayed recall: name the first clip after d other frames. What each cell can hold, and what its gradients say.

The task is that of Hochreiter and Schmidhuber 1997 (section 5) with real frames: a sequence begins with some ticks of a
clip, whose label is to be named at its end, after `delay` ticks of others. Nothing but memory helps: what comes last
says nothing of what came first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from models import encoders
from models.data.loading import load_clips
from models.data.manifests import Clip, hold_out, labels_to_learn, read
from models.data.windowed import WindowSet, windowed
from models.errors import DatasetError, NotFiniteError
from models.fit import fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.intervals import ratio_interval
from models.recipe import DataSettings, EncoderSettings
from models.report.screen import say, write_json
from models.served import right
from models.study.kept import Row, kept_rows
from service.video.spec import ClipSpec

# Ticks of the clip that is to be named, and of each that follows.
PIECE_TICKS = 4
# Features are mapped to so many, those in which train's vary most: a sequence of hundreds of ticks stays small.
NUM_FEATURES = 64
_CHANCE_GRADIENT = 1e-30


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained. clipped: whether gradients are, by their norm."""

    name: str
    head: HeadSettings
    clipped: bool = True


_HEAD = HeadSettings(64, "last", input_dropout=0.0, output_dropout=0.0)
VARIANTS = (
    Variant("rnn", replace(_HEAD, cell="rnn")),
    Variant("rnn, not clipped", replace(_HEAD, cell="rnn"), clipped=False),
    Variant("rnn, orthogonal", replace(_HEAD, cell="rnn", recurrent_weights="orthogonal")),
    Variant("lstm, forget bias 0", replace(_HEAD, forget_bias=0.0)),
    Variant("lstm, forget bias 1", replace(_HEAD, forget_bias=1.0)),
    Variant("lstm, forget bias 1, not clipped", replace(_HEAD, forget_bias=1.0), clipped=False),
    Variant("gru", replace(_HEAD, cell="gru")),
    Variant("gru, not clipped", replace(_HEAD, cell="gru"), clipped=False),
    Variant("mean of outputs (gru)", replace(_HEAD, cell="gru", pooling="mean")),
)


@dataclass(frozen=True)
class Sequences:
    """Made sequences: windows, and of each the group of the clip that is to be named."""

    windows: WindowSet
    groups: list[str]


def projection(features: Sequence[NDArray[np.float32]], size: int = NUM_FEATURES) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean (D) and axes (D, size) of the principal components of training features (T, D), scaled to unit variance."""
    rows = torch.from_numpy(np.concatenate(features))
    mean = rows.mean(dim=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, deviations, axes = torch.pca_lowrank(rows - mean, min(size, *rows.shape), center=False, niter=4)
    return mean.numpy(), (axes / (deviations / len(rows) ** 0.5).clamp_min(1e-6)).numpy()


def sequences(
    clips: Sequence[Clip],
    features: Mapping[Path, NDArray[np.float32]],
    labels: Sequence[str],
    delay: int,
    count: int,
    seed: int,
) -> Sequences:
    """`count` sequences of PIECE_TICKS + delay ticks. Every label is as often the first, whatever follows.

    features: (T, D) by clip path. Raises DatasetError where no clip is long enough.
    """
    random = np.random.default_rng([seed, delay, count])
    long = [clip for clip in clips if len(features[clip.path]) >= PIECE_TICKS]
    by_label = {label: [clip for clip in long if clip.label == label] for label in labels}
    if lacking := [label for label in labels if not by_label[label]]:
        raise DatasetError(f"label {lacking[0]} has no clip of {PIECE_TICKS} ticks; delayed recall needs one a label")

    def piece(clip: Clip) -> NDArray[np.float32]:
        rows = features[clip.path]
        start = int(random.integers(0, len(rows) - PIECE_TICKS + 1))
        return rows[start : start + PIECE_TICKS]

    rows, targets, groups = [], [], []
    for number in range(count):
        index = number % len(labels)
        first = by_label[labels[index]][int(random.integers(len(by_label[labels[index]])))]
        others = [piece(long[int(at)]) for at in random.integers(0, len(long), -(-delay // PIECE_TICKS))]
        rest = np.concatenate(others)[:delay] if others else np.empty((0, features[first.path].shape[1]), np.float32)
        rows.append(np.concatenate([piece(first), rest]))
        targets.append(index)
        groups.append(first.group)
    spec = ClipSpec(sample_fps=4, frame_height=16, frame_width=16)  # a sequence is one window
    return Sequences(windowed(rows, torch.tensor(targets), spec), groups)


def gradient_by_tick(model: nn.Module, windows: WindowSet) -> NDArray[np.float64]:
    """(T): the mean norm of the loss's gradient for each tick's features, as far as it reaches back from the end."""
    rows, lengths = windows.batch(torch.arange(min(len(windows), 256)))
    rows.requires_grad_()
    model.eval()
    loss = nn.functional.cross_entropy(model(rows, lengths), windows.targets[: len(rows)], reduction="sum")
    [gradient] = torch.autograd.grad(loss, rows)
    norms: NDArray[np.float64] = gradient.norm(dim=2).mean(dim=0).double().numpy()
    return norms


def measure(
    variant: Variant,
    delay: int,
    seed: int,
    parts: tuple[Sequences, Sequences, Sequences],
    num_labels: int,
    settings: FitSettings,
) -> tuple[Row, NDArray[np.float64] | None]:
    """Train one network on the first part, stop early on the second, test on the third: a row, and hits by sequence.

    Gradients that are not clipped may leave the finite numbers: that is a finding, not an error; the row says `why`,
    and has no accuracy.
    """
    train, validation, test = parts
    torch.manual_seed(seed)
    model = variant.head.build(train.windows.rows.shape[1], num_labels)
    before = gradient_by_tick(model, test.windows)
    settings = settings if variant.clipped else replace(settings, gradient_norm=1e9)
    row: Row = {"variant": variant.name, "delay": delay, "seed": seed}
    try:
        result = fit(model, train.windows, validation.windows, settings, seed)
    except NotFiniteError as error:
        return row | {"why": str(error)}, None
    hits = right(model, test.windows)
    after = gradient_by_tick(model, test.windows)
    norms = [line["gradient_norm"] for line in result.curve]
    return row | {
        "accuracy": round(float(hits.mean()), 4),
        "epochs": result.best_epoch, "largest_gradient_norm": max(norms),
        # How much less the first tick moves the loss than the last one, before and after training.
        "reach_before": float(before[0] / max(before[-1], _CHANCE_GRADIENT)),
        "reach_after": float(after[0] / max(after[-1], _CHANCE_GRADIENT)),
    }, hits  # fmt: skip


def summary(rows: Sequence[Row]) -> Table:
    """A row a variant and delay: mean accuracy over seeds, its interval over groups, and how far gradients reach."""
    table = Table("network", "delay", "accuracy", "95 % interval", "reach before", "reach after", "epochs")
    for name in dict.fromkeys(row["variant"] for row in rows):
        for delay in sorted({row["delay"] for row in rows if row["variant"] == name}):
            of_cell = [row for row in rows if (row["variant"], row["delay"]) == (name, delay)]
            found = [row for row in of_cell if "accuracy" in row]
            if not found:
                table.add_row(name, str(delay), "not finite", style="dim")
                continue
            low, high = (float(np.mean([row["interval"][end] for row in found])) for end in (0, 1))
            table.add_row(
                name, str(delay), f"{np.mean([row['accuracy'] for row in found]):.1%}", f"{low:.1%} to {high:.1%}",
                f"{np.median([row['reach_before'] for row in found]):.1e}",
                f"{np.median([row['reach_after'] for row in found]):.1e}",
                f"{np.mean([row['epochs'] for row in found]):.0f}",
            )  # fmt: skip
    return table


def _digest(clips: Sequence[Sequence[Clip]], features: Mapping[Path, NDArray[np.float32]]) -> str:
    """Which features, by part, label and group, the rows were measured on."""
    digest = hashlib.sha256()
    for part, of_part in enumerate(clips):
        for clip in of_part:
            digest.update(f"{part}\t{clip.label}\t{clip.group}\n".encode("utf-8", "surrogateescape"))
            digest.update(np.ascontiguousarray(features[clip.path]).tobytes())
    return digest.hexdigest()


def of_data(
    data: Path,
    split: str,
    delays: Sequence[int],
    seeds: int,
    out: Path,
    store: Path,
    spec: ClipSpec,
    source: EncoderSettings,
    console: Console,
) -> None:
    """On stored features of an encoder: train and validation groups of train, and test. Raises DatasetError."""
    encoder = encoders.build(source.name, spec.frame_height, spec.frame_width, weights=source.weights)
    loaded = load_clips(read(data, split), spec, encoder, store, console)
    train, held = hold_out(
        [clip for clip in loaded.clips if clip.split == "train"],
        DataSettings.validation_fraction,
        DataSettings.validation_seed,
    )
    test = [clip for clip in loaded.clips if clip.split == "test"]
    if not test:
        raise DatasetError(f"{data}: no clip is `test` in column {split}; delayed recall is measured on some")
    features_of = f"{source.name}, {encoder.origin.source}" if encoder.origin else source.name
    recall(
        (train, held, test), loaded.features, labels_to_learn(loaded.clips), delays, seeds, out, console,
        features_of=f"{features_of}; {spec.sample_fps:g} a second, {spec.frame_width}×{spec.frame_height}",
    )  # fmt: skip


def recall(
    clips: tuple[Sequence[Clip], Sequence[Clip], Sequence[Clip]],
    features: Mapping[Path, NDArray[np.float32]],
    labels: Sequence[str],
    delays: Sequence[int],
    seeds: int,
    out: Path,
    console: Console,
    *,
    features_of: str = "",
    num_sequences: tuple[int, int, int] = (3072, 768, 1536),
    settings: FitSettings | None = None,
    variants: Sequence[Variant] = VARIANTS,
) -> list[Row]:
    """Every variant, delay and seed; a row is written to `out` when it is measured, and rows that are there stay.

    clips: to train on, to stop early on, to test on, no group in two of them. features_of: what computed them, for
    `out`. Raises DatasetError.
    """
    if wrong := [delay for delay in delays if delay < 0]:
        raise DatasetError(f"--delays {wrong[0]}: so many frames can't follow; 0 is the least")
    settings = settings or FitSettings(epochs=40, patience=8, learning_rate=2e-3, weight_decay=0.0)
    mean, axes = projection([features[clip.path] for clip in clips[0]])
    small = {path: ((rows - mean) @ axes).astype(np.float32) for path, rows in features.items()}
    of = {
        "features_of": features_of, "features_sha256": _digest(clips, features), "labels": list(labels),
        "sequences": list(num_sequences), "fit": settings.to_dict(),
    }  # fmt: skip
    rows = kept_rows(out, of, "recall")
    for delay in delays:
        parts = tuple(
            sequences(part, small, labels, delay, count, seed=number)
            for number, (part, count) in enumerate(zip(clips, num_sequences, strict=True))
        )
        for variant in variants:
            for seed in range(seeds):
                if any((row["variant"], row["delay"], row["seed"]) == (variant.name, delay, seed) for row in rows):
                    continue
                row, hits = measure(variant, delay, seed, parts, len(labels), settings)  # type: ignore[arg-type]
                said = "not finite"
                if hits is not None:
                    interval = ratio_interval(hits, np.ones(len(hits)), parts[2].groups)
                    row["interval"] = [round(interval.low, 4), round(interval.high, 4)]
                    said = f"{row['accuracy']:.1%}"
                rows.append(row)
                write_json(out, {**of, "rows": rows}, Console(quiet=True))
                say(console, f"{variant.name}, delay {delay}, seed {seed}: {said}")
    console.print(summary(rows))
    return rows
