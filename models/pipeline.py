"""From labelled clips to a checkpoint: features, early stopping on validation groups, the last training, the test."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from models import encoders
from models.calibration import Calibration, calibrate, cool, expected_calibration_error
from models.checkpoint import Checkpoint
from models.contradictions import refuse_augmented_maps, refuse_contradictions
from models.data.features import FeatureStore
from models.data.loading import Loaded, load_clips
from models.data.manifests import Clip, read
from models.data.parts import Parts, cut
from models.data.segments import read_segments, segments_file
from models.data.statistics import training_statistics
from models.data.targets import Targets, targets_of
from models.data.training_clips import chosen_clips, training_clips
from models.encoders import ImageEncoder, weights_sha256
from models.fit import Machine
from models.heads import SequenceHead
from models.recipe import Recipe
from models.report.screen import Scored, accuracies, cell_name, figures, say
from models.resume import Keeper
from models.seen import validation_clips_seen
from models.served import served_scores
from models.tasks import IGNORED
from models.transfer import FineTuned
from models.twice import train_twice


@dataclass(frozen=True)
class Place:
    """Where things lie on this machine.

    data: a manifest or a tree. store: folder of features. segments: labels in time; None: segments.csv beside the
    manifest. state: file that training is resumed from, where `resume` is set; None: it is not kept.
    """

    data: Path
    store: Path
    segments: Path | None = None
    state: Path | None = None
    resume: bool = False


def train(recipe: Recipe, place: Place, console: Console, machine: Machine | None = None) -> Checkpoint:
    """Train the head, and the encoder's stages from `train_from` on; test where the split has a test part.

    Broken clips are left out, and named. Raises DatasetError, FeatureError, NotFiniteError, RecipeError, ResumeError.
    """
    machine = machine or Machine(show_progress=True)
    refuse_contradictions(recipe)
    source, spec, head = recipe.data, recipe.clip.spec, recipe.head
    torch.manual_seed(recipe.seed)  # for weights that are random
    encoder = encoders.build(recipe.encoder.name, spec.frame_height, spec.frame_width, weights=recipe.encoder.weights)
    refuse_augmented_maps(recipe, encoder)
    if encoder.origin:
        say(console, f"{recipe.encoder.name}: {encoder.origin.source}")
    clips = read(place.data, source.split, columns=recipe.task.names, empty_labels=recipe.task.kind == "labels")
    targets = _targets(recipe, place, clips, console)
    loaded = load_clips(
        clips, spec, encoder, place.store, console, recipe.encoder.train_from, targets.strata, machine.device
    )
    parts = cut(
        loaded.clips, loaded.features, targets, spec, source.validation_fraction, source.validation_seed, loaded.times
    )
    known = validation_clips_seen(encoder, recipe.encoder.weights, parts, loaded.sha256)
    if known:
        said = f"the encoder was trained on {known} of the {parts.validation.num_clips} clips of validation"
        say(console, f"{said}: what they say is too good", "yellow")
    keeper = _keeper(recipe, place, encoder, loaded, targets, machine.device, console)
    started = time.monotonic()
    model, result = train_twice(
        lambda: _fresh(recipe, encoder, targets), parts, recipe.fit, recipe.seed,
        task=targets.task, num_labels=len(targets.labels), machine=replace(machine, keeper=keeper),
    )  # fmt: skip
    seconds = time.monotonic() - started
    early_stopped = result.early_stopped
    assert early_stopped is not None  # noqa: S101  (train_twice sets it)
    networks = (early_stopped, model)
    for each in networks:
        each.to(machine.device)
    calibration = None
    if targets.task.score == "softmax":
        # Fitted by the network that has not seen the clips of validation; the temperature is then the last one's too.
        calibration = calibrate(early_stopped, parts.validation, targets.task)
        for each in networks:
            cool(_head_of(each).classifier, calibration.temperature)
    metrics = {"validation_figure": result.best_figure, "validation_loss": result.best_loss}
    metrics |= _measured(model, parts, targets, calibration)
    _say_figures(recipe, targets, parts, metrics, console)
    say(console, f"early stopping {result.early_stopping}", "yellow" if result.cap_reached else "")
    if calibration is not None:
        say(console, calibration.said)
    say(console, f"{seconds:.1f} s of training; then all {parts.all_train.num_clips} clips of train were used")
    for each in networks:
        each.cpu()
    trained = model.encoder if isinstance(model, FineTuned) else encoder
    if targets.task.name == "label":
        metrics = {name.replace("figure", "accuracy"): value for name, value in metrics.items()}
    return Checkpoint(
        name=recipe.name,
        labels=targets.labels,
        spec=spec,
        encoder_name=recipe.encoder.name,
        encoder_state=trained.state_dict(),
        head_dims=_head_of(model).dims,
        head_state=_head_of(model).state_dict(),
        task=targets.task.name,
        training={
            "recipe": recipe.to_dict(),
            # Of the recipe again where models of before recipes have it: the card reads both alike.
            "data": source.name or place.data.name,
            "data_licence": source.licence,
            "data_path": str(place.data.resolve()),
            "split": source.split,
            "clips": {
                "train": parts.all_train.num_clips,
                "validation": parts.validation.num_clips,
                "test": len(parts.test_clips),
            },
            "ticks": _ticks(parts) if targets.task.every_tick else {},
            "left_out": loaded.left_out_rows(),
            "validation": f"{source.validation_fraction:.0%} of train's groups, seed {source.validation_seed}",
            "seed": recipe.seed,
            "epochs": result.best_epoch,
            "epoch_cap_reached": result.cap_reached,
            "early_stopping": result.early_stopping,
            "head": vars(head),
            "fit": recipe.fit.to_dict(),
            "encoder": f"fine-tuned from {recipe.encoder.train_from}" if recipe.encoder.train_from else "frozen",
            "encoder_weights": encoder.origin.to_dict() if encoder.origin else {},
            **({"encoder_saw_validation": known} if known else {}),
            "device": str(machine.device),
            "commit": _commit(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": str(torch.__version__),
            "measure": targets.task.measure,
            "metrics": {key: round(value, 4) for key, value in metrics.items()},
            "calibration": calibration.to_dict() if calibration else None,
            "curve": result.curve,
        },
        **_remembered(model, early_stopped, trained, targets, parts, loaded, recipe, place),
    )


def _targets(recipe: Recipe, place: Place, clips: list[Clip], console: Console) -> Targets:
    segments = None
    if recipe.task.kind == "tick_label":
        segments = read_segments(
            segments_file(place.data, place.segments), clips, lambda text: say(console, text, "yellow")
        )
    return targets_of(
        recipe.task.kind, clips, recipe.task.names, segments, recipe.task.background, recipe.task.widen_ticks
    )


def _fresh(recipe: Recipe, encoder: ImageEncoder, targets: Targets) -> nn.Module:
    """A network that begins anew: from the encoder's own weights, and the head's from the seed."""
    torch.manual_seed(recipe.seed)
    head = recipe.head.build(encoder.feature_size, len(targets.labels), every_tick=targets.task.every_tick)
    if recipe.encoder.train_from is None:
        return head
    return FineTuned(
        copy.deepcopy(encoder), recipe.encoder.train_from, head,
        recipe.encoder.learning_rate, recipe.encoder.batch_norm, recipe.fit.mixed_precision, recipe.encoder.head_epochs,
    )  # fmt: skip


def _head_of(model: nn.Module) -> SequenceHead:
    head = model.head if isinstance(model, FineTuned) else model
    if not isinstance(head, SequenceHead):
        raise TypeError(f"training built a {type(head).__name__}")
    return head


def _keeper(
    recipe: Recipe,
    place: Place,
    encoder: ImageEncoder,
    loaded: Loaded,
    targets: Targets,
    device: torch.device,
    console: Console,
) -> Keeper | None:
    if place.state is None:
        return None
    contents = [  # in their order, which windows are drawn from
        f"{clip.label}\t{clip.group}\t{clip.split}\t{loaded.sha256[clip.path]}\t{targets.segments.get(clip.path, ())}"
        for clip in loaded.clips
    ]
    key = {
        "recipe": recipe.to_dict(),
        "encoder": weights_sha256(encoder),
        "clips": hashlib.sha256("\n".join(contents).encode("utf-8", "surrogateescape")).hexdigest(),
        "device": device.type,  # others round otherwise, and have generators of their own
        "torch": str(torch.__version__),
    }
    there = place.state.exists()
    keeper = Keeper(place.state, json.dumps(key, sort_keys=True), resume=place.resume)
    if there and not place.resume:
        say(
            console,
            f"{place.state} is of a training that was cut off; this one begins anew (--resume goes on)",
            "yellow",
        )
    if place.resume and not there:
        say(console, f"--resume: there is no {place.state}; training begins at its start", "yellow")
    for phase, epochs in keeper.found.items():
        say(console, f"{phase}: {epochs} epochs were done before")
    return keeper


def _measured(model: nn.Module, parts: Parts, targets: Targets, calibration: Calibration | None) -> dict[str, float]:
    if parts.test is None:
        return {}
    scores = served_scores(model, parts.test, targets.task)
    found = {"test_figure": targets.task.figure(scores, parts.test.targets)}
    if calibration is not None:
        found["test_ece"] = expected_calibration_error(scores.numpy(), parts.test.targets.numpy())
    if targets.task.every_tick and (spoken := parts.test.targets != targets.labels.index(targets.background)).any():
        found["test_figure_in_segments"] = targets.task.figure(scores[spoken], parts.test.targets[spoken])
    return found


def _ticks(parts: Parts) -> dict[str, int]:
    """How many have a label, by part: what the figures are shares of."""
    cut = {"validation": parts.validation, "test": parts.test}
    return {name: int((windows.targets != IGNORED).sum()) for name, windows in cut.items() if windows is not None}


def _say_figures(
    recipe: Recipe, targets: Targets, parts: Parts, metrics: Mapping[str, float], console: Console
) -> None:
    name = cell_name(recipe.head.cell, bidirectional=recipe.head.bidirectional)
    title = f"{recipe.name}: {name}, {len(targets.labels)} labels"
    clips = {"validation groups": parts.validation.num_clips, "test": len(parts.test_clips)}
    values = {"validation groups": metrics["validation_figure"], "test": metrics.get("test_figure")}
    if targets.task.name == "label":
        scored = [Scored(part, round(v * clips[part]), clips[part]) for part, v in values.items() if v is not None]
        console.print(accuracies(title, "part", scored))
        return
    rows = [(part, value, clips[part]) for part, value in values.items() if value is not None]
    if "test_figure_in_segments" in metrics:
        rows.append(("test, ticks in segments", metrics["test_figure_in_segments"], clips["test"]))
    console.print(figures(title, targets.task.measure, rows))


def _remembered(
    model: nn.Module,
    early_stopped: nn.Module,
    trained: ImageEncoder,
    targets: Targets,
    parts: Parts,
    loaded: Loaded,
    recipe: Recipe,
    place: Place,
) -> dict[str, Any]:
    """What an export is held against, and what drift will be: scores of some clips, statistics of features.

    Of a fine-tuned encoder the clips' features are computed anew, from their files: maps were stored as float16.
    """
    chosen = chosen_clips((parts.validation_clips, parts.train_clips))
    features: Mapping[Path, NDArray[np.float32]] = loaded.features
    times = loaded.times
    everything = [loaded.features[clip.path] for clip in (*parts.train_clips, *parts.validation_clips)]
    if isinstance(model, FineTuned):
        rows = FeatureStore(place.store, trained, recipe.clip.spec).load([clip.path for clip in chosen]).rows
        chosen = [clip for clip in chosen if clip.path in rows]  # a file may be gone by now
        features = {path: each.features for path, each in rows.items()}
        everything = [model.features_of_rows(torch.from_numpy(maps)).numpy() for maps in everything]
    trained_on = {loaded.sha256[clip.path] for clip in (*parts.train_clips, *parts.validation_clips)}
    statistics = {}
    if targets.task.score == "softmax":
        statistics = training_statistics(
            everything, served_scores(early_stopped, parts.validation, targets.task).numpy()
        )
    return {
        "clips": training_clips(_head_of(model), targets, recipe.clip.spec, chosen, features, times, loaded.sha256),
        "statistics": statistics,
        "encoder_saw": sorted(
            (trained.origin.seen if trained.origin else frozenset())
            | (trained_on if isinstance(model, FineTuned) else frozenset())
        ),
    }


def _commit() -> str:
    """The commit that trains; `unknown` outside a checkout, and without git: no training is lost for it."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
