"""What is exported: a checkpoint of ours, or whatever a user's `module:factory` returns."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import nn

from export.errors import ExportError
from models import encoders
from models.checkpoint import Checkpoint
from models.data.training_clips import TrainingClip
from models.tasks import TASKS
from service.bundle import LEAST_CLIPS, Abstention, Calibration, Claim, Source, Task
from service.statistics import TrainingStatistics
from service.video.spec import ClipSpec

_P = TypeVar("_P", Calibration, Abstention)

# The curve is long, the path of the data is of the machine that trained, and the calibration has its own fields.
_NOT_PUBLISHED = frozenset({"curve", "data_path", "calibration"})


@dataclass(frozen=True)
class VideoModel:
    """A trained model, split into an encoder of frames and a head over time.

    encoder: uint8 RGB (N, frame_height, frame_width, 3) → (N, D), of its weights' dtype; each frame by itself.
        `models.encoders.ImageEncoder` makes one of any image CNN.
    head: `forward(features (B, T, D), lengths (B) int64)` → (B, K) for the task `clip`, (B, T, K) for `frame`; each
        clip by itself, nothing past its length read. See `export.trace.head` for heads that keep a state of their own.
    encoder_name: of its folder; models with the same encoder share it, byte for byte.
    score: what turns outputs into scores. sources: of weights and data, with their licences.
    statistics: of training's features and scores, where they are known.
    calibration, abstain: of its scores, by `models.calibration`; None where nothing is known.
    claim: what is said of its accuracy; the certificate holds the model to it. clips_scored: what the trained networks
        said of some clips, 8 at least (`export.scores`); the certificate holds what is served against it.
    training: plain JSON for model.json. created: when it was trained, ISO 8601 UTC. clips: where it was trained.
    """

    name: str
    labels: tuple[str, ...]
    spec: ClipSpec
    encoder_name: str
    encoder: nn.Module
    head: nn.Module
    task: Task = "clip"
    score: Literal["softmax", "sigmoid", "none"] = "softmax"
    sources: tuple[Source, ...] = ()
    claim: Claim | None = None
    statistics: TrainingStatistics | None = None
    calibration: Calibration | None = None
    abstain: Abstention | None = None
    clips_scored: tuple[TrainingClip, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    clips: Path | None = None


def load(source: str) -> VideoModel:
    """From a checkpoint's path or `module:factory`. Raises ExportError, CheckpointError."""
    if Path(source).is_file():
        return of_checkpoint(Checkpoint.load(Path(source)))
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source):
        raise ExportError(f"{source!r} is neither a file nor module:factory, as in my_package.model:build")
    module_name, _, factory_name = source.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"{source!r} can't be imported: {error}; name it as Python would from this folder") from error
    model = factory()
    if not isinstance(model, VideoModel):
        raise ExportError(f"{source} returned a {type(model).__name__}, not an export.source.VideoModel")
    return model


def of_checkpoint(checkpoint: Checkpoint) -> VideoModel:
    """The model in a checkpoint of `python -m models train`."""
    training = checkpoint.training
    data_path = training.get("data_path")
    weights = encoders.origin_after(training, checkpoint.name, _published(checkpoint.encoder_name))
    data = Source(
        name="training data",
        origin=str(training.get("data", "not stated")),
        licence=str(training.get("data_licence", "not stated")),
    )
    return VideoModel(
        name=checkpoint.name,
        labels=checkpoint.labels,
        spec=checkpoint.spec,
        # What was trained with a head has that model's name too, and lies beside what others share: the published one.
        encoder_name=f"{checkpoint.encoder_name}-{weights.model}" if weights.model else checkpoint.encoder_name,
        encoder=checkpoint.encoder(),
        head=checkpoint.head(),
        task="frame" if checkpoint.head_dims.pooling == "none" else "clip",
        score=TASKS[checkpoint.task].score,
        sources=(
            Source(name="encoder weights", origin=weights.source, licence=weights.licence),
            data,
        ),
        statistics=TrainingStatistics(**checkpoint.statistics) if checkpoint.statistics else None,
        claim=_claim(training, checkpoint.task),
        calibration=_part_of(Calibration, training.get("calibration")),
        # The threshold is one of clips' scores: that of ticks says nothing of their mean.
        abstain=_part_of(Abstention, training.get("calibration")) if checkpoint.task == "label" else None,
        clips_scored=checkpoint.clips,
        training={name: value for name, value in training.items() if name not in _NOT_PUBLISHED},
        created=training["created"],
        clips=Path(data_path) if data_path else None,
    )


def _part_of(document: type[_P], found: dict[str, Any] | None) -> _P | None:
    """Of `models.calibration.Calibration`, what model.json has in two parts."""
    return found and document(**{name: found[name] for name in document.model_fields})  # type: ignore[return-value]


def _claim(training: dict[str, Any], task: str) -> Claim | None:
    """Of the test part where it has clips enough to say something, else of validation, else none.

    Of several labels and of numbers nothing is claimed: their figures are no shares.
    """
    name = {"label": "accuracy", "tick_label": "figure"}.get(task)
    for part in ("test", "validation"):
        accuracy, clips = training.get("metrics", {}).get(f"{part}_{name}"), training.get("clips", {}).get(part)
        if accuracy is not None and (clips or 0) >= LEAST_CLIPS:
            return Claim(accuracy=accuracy, clips=clips, part=part, ticks=training.get("ticks", {}).get(part))
    return None


def _published(encoder_name: str) -> dict[str, str]:
    """Of checkpoints that do not say where the weights come from: they all began with those that are published."""
    origin = encoders.named(encoder_name).published
    return vars(origin) if origin else {"source": "not stated", "licence": "not stated"}
