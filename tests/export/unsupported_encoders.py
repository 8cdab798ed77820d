"""Encoders that can't be exported, each with one fault of those that users make."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.export.models import SmallNet
from tests.export.unsupported import Gate


class FloatEncoder(nn.Module):
    """Wants normalised floats (N, 3, H, W) instead of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.net(images)
        return features


class BatchStatisticsNet(SmallNet):
    """A CNN whose residual norm never kept running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


class BranchingNet(SmallNet):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.gate(super().forward(images))
        return features


class MapOfMaps(SmallNet):
    """Features per place, flattened over space only."""

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = nn.functional.adaptive_avg_pool2d(self.stem(images), 4)
        places: Tensor = maps.flatten(2)
        return places


class Bessel(nn.Module):
    """An operation that no exporter knows."""

    def forward(self, features: Tensor) -> Tensor:
        values: Tensor = torch.special.bessel_j0(features)
        return values


class BesselNet(SmallNet):
    def __init__(self) -> None:
        super().__init__()
        self.bessel = Bessel()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.bessel(super().forward(images))
        return features
