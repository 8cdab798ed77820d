"""A checkpoint is plain data: dims, state dicts, clip spec, labels, provenance. `weights_only=True` loads it."""

from __future__ import annotations

import pickle  # only for the name of its error: weights_only loads no code
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.training_clips import TrainingClip
from models.encoders import ImageEncoder, build, load_exactly
from models.errors import ModelsError
from models.heads import HeadDims, SequenceHead
from service.video.spec import ClipSpec

_FORMAT = 1


class CheckpointError(ModelsError):
    """The file is not a checkpoint of ours; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model before export. `training` holds data, split, seed, commit, settings and metrics.

    task: of `models.tasks.TASKS`. statistics: of features and scores, arrays by name (see `models.data.statistics`).
    clips: what the networks said of some clips when they had been trained; the export is held against it.
    encoder_saw: SHA-256 of the clips that the encoder was trained on, with this head or before.
    """

    name: str
    labels: tuple[str, ...]
    spec: ClipSpec
    encoder_name: str
    encoder_state: dict[str, Tensor]
    head_dims: HeadDims
    head_state: dict[str, Tensor]
    training: dict[str, Any]
    task: str = "label"
    clips: tuple[TrainingClip, ...] = ()
    statistics: dict[str, NDArray[Any]] = field(default_factory=dict)
    encoder_saw: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write aside, then rename."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        torch.save(
            {
                "format": _FORMAT,
                "name": self.name,
                "labels": list(self.labels),
                "spec": self.spec.model_dump(),
                "encoder_name": self.encoder_name,
                "encoder_state": self.encoder_state,
                "head_dims": self.head_dims.to_dict(),
                "head_state": self.head_state,
                "training": self.training,
                "task": self.task,
                "statistics": {name: torch.from_numpy(array) for name, array in self.statistics.items()},
                "clips": [clip.to_dict() for clip in self.clips],
                "encoder_saw": list(self.encoder_saw),
            },
            aside,
        )
        aside.replace(path)

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Raises CheckpointError when the file is something else."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (KeyError, EOFError, RuntimeError, ValueError, struct.error, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path} is not a Reelserve checkpoint: {type(error).__name__}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is not a Reelserve checkpoint of format {_FORMAT}")
        try:
            return Checkpoint(
                name=content["name"],
                labels=tuple(content["labels"]),
                spec=ClipSpec.model_validate(content["spec"]),
                encoder_name=content["encoder_name"],
                encoder_state=content["encoder_state"],
                head_dims=HeadDims(**content["head_dims"]),
                head_state=content["head_state"],
                training=content["training"],
                task=content.get("task", "label"),
                statistics={name: tensor.numpy() for name, tensor in content.get("statistics", {}).items()},
                clips=tuple(TrainingClip.of_dict(clip) for clip in content.get("clips", ())),
                encoder_saw=tuple(content.get("encoder_saw", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is a checkpoint that lacks what this version needs: {error!r}; train again"
            ) from error

    def encoder(self) -> ImageEncoder:
        """The encoder with the checkpoint's weights, mean and std, eval mode. Raises EncoderError."""
        encoder = build(self.encoder_name, self.spec.frame_height, self.spec.frame_width, weights="random")
        # Older checkpoints have no mean and std: theirs are those of the encoder's row.
        state = {"mean": encoder.mean, "std": encoder.std} | self.encoder_state
        load_exactly(encoder, state, f"the checkpoint of {self.name}")
        return encoder

    def head(self) -> SequenceHead:
        """The head with the checkpoint's weights, eval mode."""
        head = SequenceHead(self.head_dims)
        head.load_state_dict(self.head_state)
        return head.eval()
