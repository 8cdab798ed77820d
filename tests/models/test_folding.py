"""Folding of batch norms: where the network runs one after the other, and never at the price of the features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models import encoders
from models.encoders import ImageEncoder, folded, folding
from tests.encoders import off, with_norms
from tests.models.toy_encoder import ToyNet

FRAMES = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class PostActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.norm(self.conv(images))
        return maps


class RegisteredBackwards(PostActivation):
    """What runs as convolution and norm stands the other way about."""

    def __init__(self) -> None:
        super().__init__()
        conv = self.conv
        del self.conv
        self.conv = conv


class ConvolutionSeenTwice(PostActivation):
    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        seen: Tensor = self.norm(maps) + maps
        return seen


class ActivatedInPlace(PostActivation):
    """The norm is given the very tensor that the convolution made, and something happened to it."""

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.norm(nn.functional.relu(self.conv(images), inplace=True))
        return maps


class NormTwice(PostActivation):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.norm(self.norm(self.conv(images)).relu())
        return maps


class Untraceable(PostActivation):
    """torch.fx can't follow it."""

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.norm(self.conv(images))
        return maps if float(maps.sum()) > 0 else -maps


def encoder_of(cnn: nn.Module) -> ImageEncoder:
    torch.manual_seed(0)
    encoder = with_norms(ImageEncoder(cnn, "x", 6).eval())
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight)
    return encoder


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(
    ("cnn", "left"),
    [
        (PostActivation, 0),
        (RegisteredBackwards, 0),
        (Untraceable, 0),
        (ToyNet, 2),  # in each block, the second norm alone reads the first convolution
        (ConvolutionSeenTwice, 1),
        (ActivatedInPlace, 1),
        (NormTwice, 1),
    ],
)
def test_a_norm_is_folded_where_it_alone_reads_a_convolution(cnn: type[nn.Module], left: int) -> None:
    encoder = encoder_of(cnn())
    before = {key: values.clone() for key, values in encoder.state_dict().items()}
    fast = folded(encoder, 32, 32)
    assert norms(fast) == left
    with torch.inference_mode():
        assert off(fast(FRAMES), encoder(FRAMES)) <= folding.TOLERANCE
    assert all(torch.equal(values, before[key]) for key, values in encoder.state_dict().items())


def test_every_norm_of_the_encoder_that_ships_is_folded() -> None:
    encoder = encoders.build("efficientnet-lite0", 64, 64)
    assert norms(encoder) == 49
    assert norms(folded(encoder, 64, 64)) == 0


def test_what_folding_would_change_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
        fused = fuse_conv_bn_eval(conv, norm)
        fused.weight.data *= 1.001
        return fused

    monkeypatch.setattr(folding, "fuse_conv_bn_eval", wrong)
    encoder = encoder_of(PostActivation())
    fast = folded(encoder, 32, 32)
    assert norms(fast) == 1
    with torch.inference_mode():
        torch.testing.assert_close(fast(FRAMES), encoder(FRAMES))
