"""`python -m tests.encoders [NAME …]`: encoders with random weights, built, held against torchvision, folded, exported.

Without names those that papers name (AlexNet, VGG, GoogLeNet, ResNet) and ours; `all` adds every other classifier of
torchvision that fits into 16 GB. Prints how far the features are off, relative to the largest. Downloads nothing.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision import models

from export.trace.encoder import export_encoder
from models import encoders
from models.encoders import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder, folded

NAMED = (
    "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "small-16", "small-32", "alexnet",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "googlenet",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
)  # fmt: skip
TOO_LARGE = ("vit_h_14", "regnet_y_128gf")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Checked:
    """How far features are off, relative to the largest; None where torchvision has no such network."""

    name: str
    size: int
    features: int
    parameters: int
    of_torchvision: float | None
    of_folded: float
    of_onnx: float
    seconds: float


def with_norms(encoder: ImageEncoder) -> ImageEncoder:
    """Batch norms as after training, in place: fresh ones change nothing."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return encoder


def check(name: str) -> Checked:
    """Build, compare, fold, export. Raises whatever fails."""
    started = time.perf_counter()
    size = size_of(name)
    torch.manual_seed(0)
    encoder = with_norms(encoders.build(name, size, size, weights="random"))
    frames = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        features = encoder(frames)
        of_torchvision = off(penultimate(name, encoder, frames), features) if name in models.list_models() else None
        of_folded = off(folded(encoder, size, size)(frames), features)
    content = export_encoder(encoder, size, size)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    [got] = session.run(["features"], {"frames": frames.numpy()})
    return Checked(
        name, size, features.shape[1], sum(values.numel() for values in encoder.parameters()), of_torchvision,
        of_folded, off(torch.from_numpy(got), features), time.perf_counter() - started,
    )  # fmt: skip


def size_of(name: str) -> int:
    """Height and width of frames, pixels: small, as far as the network bears it."""
    if name.startswith(("vit_", "swin_", "maxvit_")):
        return 224
    return 96 if name == "inception_v3" else 64


def off(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest feature; shapes have to be the same."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def penultimate(name: str, encoder: ImageEncoder, frames: Tensor) -> Tensor:
    """What torchvision's own network, with the encoder's weights, gives its last layer, averaged over space.

    Pixels are normalised as torchvision's transforms do; GoogLeNet and Inception make of that what they want.
    """
    arguments: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "transform_input": True, "init_weights": False}
    elif name.startswith("vit_"):
        arguments = {"image_size": frames.shape[1]}
    elif name.startswith("maxvit_"):
        arguments = {"input_size": tuple(frames.shape[1:3])}
    network = models.get_model(name, weights=None, **arguments).eval()
    missing, unexpected = network.load_state_dict(encoder.cnn.state_dict(), strict=False)
    assert len(missing) <= 2
    assert unexpected == []
    seen: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    pixels = frames.permute(0, 3, 1, 2) / 255
    network((pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1))
    return seen[-1].mean(dim=(2, 3)) if seen[-1].ndim == 4 else seen[-1]


def main(names: list[str]) -> int:
    """The table; 1 where one is further off than `TOLERANCE`."""
    others = [name for name in models.list_models(module=models) if name not in (*NAMED, *TOO_LARGE)]
    wanted = [*NAMED, *others] if names == ["all"] else names or list(NAMED)
    columns = ("encoder", "frames", "features", "million weights", "torchvision", "folded", "ONNX", "seconds")
    table, bad = Table(*columns), 0
    for name in wanted:
        try:
            row = check(name)
        except Exception as error:  # noqa: BLE001  (a line of the table)
            table.add_row(name, f"{type(error).__name__}: {error!s:.60}")
            bad += 1
            continue
        measured = (row.of_torchvision, row.of_folded, row.of_onnx)
        bad += not all(value is None or value <= TOLERANCE for value in measured)
        table.add_row(
            name, str(row.size), str(row.features), f"{row.parameters / 1e6:.1f}",
            *("–" if value is None else f"{value:.1e}" for value in measured), f"{row.seconds:.0f}",
        )  # fmt: skip
        print(name, *(np.format_float_scientific(value or 0, 1) for value in measured), file=sys.stderr)
    Console(width=120).print(table)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
