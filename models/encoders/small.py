"""Small encoders of our own for small frames (24 to 96 pixels a side).

`thumbnail-4` has no weights: the means of 4×4 pixels, what tells of a cut (Lienhart 1999 compares such pictures).
`small-16` and `small-32` are CNNs for faces, lips or sprites, trained from scratch: four stages of a 3×3 convolution,
batch norm (Ioffe and Szegedy 2015) and ReLU, each halved by a 2×2 maximum, twice as wide as the one before, as in VGG
(Simonyan and Zisserman 2014); then the mean over space. Frames need not be square.
"""

from __future__ import annotations

import functools

from torch import nn

from models.encoders.kind import EncoderKind, Network, Origin

_STAGES = 4
_SMALLEST = 2**_STAGES


def _build(width: int, frame_height: int, frame_width: int) -> Network:
    if min(frame_height, frame_width) < _SMALLEST:
        raise RuntimeError(f"its {_STAGES} stages halve them, so that a side has at least {_SMALLEST} pixels")
    stages, channels = [], 3
    for index in range(_STAGES):
        wider = width * 2**index
        conv = nn.Conv2d(channels, wider, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015
        stages.append(nn.Sequential(conv, nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)))
        channels = wider
    return Network(nn.Sequential(*stages), {f"stage{index}": (str(index),) for index in range(_STAGES)})


def _thumbnail(cell: int, frame_height: int, frame_width: int) -> Network:
    if frame_height % cell or frame_width % cell:
        raise RuntimeError(f"its cells are {cell} pixels a side, and both sides of a frame so many times as long")
    return Network(nn.Sequential(nn.AvgPool2d(cell), nn.Flatten()), {})


_THUMBNAIL = EncoderKind(
    name="thumbnail-4",
    build=functools.partial(_thumbnail, 4),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    published=Origin("no weights: pixels are averaged", "none needed"),
    pretrained=dict,
)
# The number is the width of the first stage; features are eight times as many.
ROWS = (
    _THUMBNAIL,
    *(
        EncoderKind(
            name=f"small-{width}",
            build=functools.partial(_build, width),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        )
        for width in (16, 32)
    ),
)
