"""An encoder that `models` lacks, in one file: pre-activation blocks (He et al. 2016), for frames of any size."""

from __future__ import annotations

from torch import Tensor, nn

from models.encoders import EncoderKind, Network


class PreActivation(nn.Module):
    """Norm, ReLU, convolution; yet each norm is registered behind the convolution that it is before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        within: Tensor = self.conv1(self.norm1(maps).relu())
        after: Tensor = maps + self.conv2(self.norm2(within).relu())
        return after


class ToyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.block1, self.block2 = PreActivation(8), PreActivation(8)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.block2(self.block1(self.stem(images)))
        return maps


def _build(frame_height: int, frame_width: int) -> Network:
    del frame_height, frame_width
    return Network(ToyNet(), {name: (name,) for name in ("stem", "block1", "block2")}, dropped=("labels.",))


ROW = EncoderKind("toy", _build, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
