"""Encoders by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.encoders import efficientnet_lite, small, torchvision_family
from models.encoders.image import ImageEncoder
from models.encoders.kind import EncoderError, EncoderKind
from models.encoders.weights import load_weights

# torchvision's are not among them: they are found by name, as importing torchvision takes seconds.
KINDS: dict[str, EncoderKind] = {row.name: row for row in (*efficientnet_lite.ROWS, *small.ROWS)}


def named(name: str) -> EncoderKind:
    """Raises EncoderError."""
    kind = KINDS.get(name) or torchvision_family.find(name)
    if kind is None:
        raise EncoderError(
            f"encoder {name!r} is unknown; there are {', '.join(KINDS)}, and the classifiers of torchvision by their "
            "names there, as alexnet, googlenet, resnet18 and vgg16_bn"
        )
    return kind


def build(name: str, frame_height: int, frame_width: int, *, weights: str | Path = "pretrained") -> ImageEncoder:
    """An encoder in eval mode, without gradients, for frames of this size in pixels.

    weights: `pretrained`, those that its makers publish; `random`, as torch draws them (seed it before); or the path
    of a state dict of the whole classifier or of what is before it. Raises EncoderError.
    """
    kind = named(name)
    try:
        network = kind.build(frame_height, frame_width)
        feature_size = _feature_size(network.cnn, frame_height, frame_width)
    except (RuntimeError, AssertionError, ValueError) as error:
        fault = (str(error) or type(error).__name__).splitlines()[0]
        raise EncoderError(
            f"{name} can't take frames of {frame_width}×{frame_height}: {fault}; take larger ones, or another encoder"
        ) from error
    origin = load_weights(kind, network, weights)
    encoder = ImageEncoder(network.cnn, name, feature_size, kind.mean, kind.std, network.stages, origin)
    return encoder.eval().requires_grad_(False)


def _feature_size(cnn: nn.Module, frame_height: int, frame_width: int) -> int:
    with torch.inference_mode():
        return int(cnn.eval()(torch.zeros(1, 3, frame_height, frame_width)).shape[1])
