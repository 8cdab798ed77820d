"""A checkpoint is plain data: dims, state dicts, clip spec, labels, provenance. `weights_only=True` loads it."""

from __future__ import annotations

import pickle  # only for the name of its error: weights_only loads no code
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.encoders import ImageEncoder, build
from models.heads import HeadDims, SequenceHead
from service.video.spec import ClipSpec

_FORMAT = 1


class CheckpointError(ValueError):
    """The file is not a checkpoint of ours; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model before export. `training` holds data, split, seed, commit, settings and metrics."""

    name: str
    labels: tuple[str, ...]
    spec: ClipSpec
    encoder_name: str
    encoder_state: dict[str, Tensor]
    head_dims: HeadDims
    head_state: dict[str, Tensor]
    training: dict[str, Any]

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
        return Checkpoint(
            name=content["name"],
            labels=tuple(content["labels"]),
            spec=ClipSpec.model_validate(content["spec"]),
            encoder_name=content["encoder_name"],
            encoder_state=content["encoder_state"],
            head_dims=HeadDims(**content["head_dims"]),
            head_state=content["head_state"],
            training=content["training"],
        )

    def encoder(self) -> ImageEncoder:
        """The encoder with the checkpoint's weights, eval mode."""
        encoder = build(self.encoder_name, self.spec.frame_height, self.spec.frame_width, pretrained=False)
        encoder.load_state_dict(self.encoder_state)
        return encoder

    def head(self) -> SequenceHead:
        """The head with the checkpoint's weights, eval mode."""
        head = SequenceHead(self.head_dims)
        head.load_state_dict(self.head_state)
        return head.eval()
