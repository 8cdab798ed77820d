"""What is exported: a checkpoint of ours, or whatever a user's `module:factory` returns."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from export.errors import ExportError
from models.checkpoint import Checkpoint
from models.encoders import LICENCES, SOURCES
from service.bundle import Source, Task
from service.video.spec import ClipSpec

# The curve is long, and the path of the data is of the machine that trained.
_NOT_PUBLISHED = frozenset({"curve", "data_path"})


@dataclass(frozen=True)
class VideoModel:
    """A trained model, split into an encoder of frames and a head over time.

    encoder: uint8 RGB (N, frame_height, frame_width, 3) → (N, D), of its weights' dtype; each frame by itself.
        `models.encoders.ImageEncoder` makes one of any image CNN.
    head: `forward(features (B, T, D), lengths (B) int64)` → (B, K) for the task `clip`, (B, T, K) for `frame`; each
        clip by itself, nothing past its length read. See `export.head` for heads that keep a state of their own.
    encoder_name: of its folder; models with the same encoder share it, byte for byte.
    score: what turns outputs into scores. sources: of weights and data, with their licences.
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
    weights = SOURCES[checkpoint.encoder_name]
    data = Source(
        name="training data",
        origin=str(training.get("data", "not stated")),
        licence=str(training.get("data_licence", "not stated")),
    )
    return VideoModel(
        name=checkpoint.name,
        labels=checkpoint.labels,
        spec=checkpoint.spec,
        encoder_name=checkpoint.encoder_name,
        encoder=checkpoint.encoder(),
        head=checkpoint.head(),
        task="frame" if checkpoint.head_dims.pooling == "none" else "clip",
        sources=(
            Source(name="encoder weights", origin=weights, licence=LICENCES[checkpoint.encoder_name]),
            data,
        ),
        training={name: value for name, value in training.items() if name not in _NOT_PUBLISHED},
        created=training["created"],
        clips=Path(data_path) if data_path else None,
    )
