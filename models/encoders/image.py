"""Any image CNN as an encoder of frames."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from models.encoders.kind import EncoderError, Origin, Stages

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """Any image CNN as a frame encoder: uint8 RGB (N, H, W, 3) → float (N, D), of the weights' dtype.

    `cnn` maps pixels (N, 3, H, W), scaled to [0, 1] and normalised by `mean` and `std` of each channel, to
    features (N, D), or to a feature map (N, D, h, w), which is averaged over space. `stages` names parts of it, from
    the pixels to the features, from each of which fine-tuning can start.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        cnn: nn.Module,
        name: str,
        feature_size: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        stages: Stages | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.cnn = cnn
        self.name = name
        self.feature_size = feature_size
        self.stages: Stages = stages or {}
        self.origin = origin
        # Other numbers give other features: they are of the weights' identity, and travel with them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB → (N, D)."""
        # NHWC memory seen as NCHW is channels-last: no copy, and the layout in which CPUs convolve best.
        features: Tensor = self.cnn(normalised(frames.permute(0, 3, 1, 2), self.mean, self.std))
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features

    def paths_from(self, stage: str) -> tuple[str, ...]:
        """What names of parameters of `cnn` begin with, in `stage` and all behind it. Raises EncoderError."""
        names = list(self.stages)
        if stage not in names:
            raise EncoderError(f"encoder {self.name} has no stage {stage!r}; there are {', '.join(names) or 'none'}")
        return tuple(path for name in names[names.index(stage) :] for path in self.stages[name])

    def parameters_from(self, stage: str) -> dict[str, nn.Parameter]:
        """Parameters of `stage` and of all behind it, by their names in the encoder. Raises EncoderError."""
        paths = self.paths_from(stage)
        return {
            f"cnn.{name}": values
            for name, values in self.cnn.named_parameters()
            if any(name == path or name.startswith(f"{path}.") for path in paths)
        }


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(N, 3, H, W) from 0 to 255 → what a CNN takes, of mean's dtype."""
    return (pixels.to(mean.dtype) / 255.0 - mean) / std


def weights_sha256(encoder: ImageEncoder) -> str:
    """SHA-256 over names, shapes and bytes of weights, mean and std, hex: the identity of an encoder before export."""
    digest = hashlib.sha256(encoder.name.encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
