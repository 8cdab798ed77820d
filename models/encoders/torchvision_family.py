"""torchvision's classifiers by their names there: AlexNet, VGG, GoogLeNet, ResNet, and all others.

AlexNet: Krizhevsky 2014 (arXiv 1404.5997). VGG: Simonyan and Zisserman 2014 (1409.1556). GoogLeNet: Szegedy et al. 2014
(1409.4842). ResNet: He et al. 2015 (1512.03385). Features are what the last layer, which gives the labels, would see.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from models.encoders.kind import EncoderError, EncoderKind, Network, Origin, Stages

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_LABELS = 1000  # of ImageNet
# Classifiers of training only, half-way down.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
# Their published weights want pixels in [-1, 1], which torchvision makes of normalised ones within the network.
_OWN_NORMALISATION = ("googlenet", "inception_v3")
_HALVES = (0.5, 0.5, 0.5)
# Names in the published weights of DenseNet have dots that modules can't have.
_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_LICENCE = "BSD-3-Clause; trained on ImageNet, whose images have terms of their own"


def find(name: str) -> EncoderKind | None:
    """The row of one of torchvision's classifiers; None where it has none of that name. Raises EncoderError."""
    try:
        from torchvision import models  # slow, and of the extra `train` alone
    except ModuleNotFoundError as error:
        raise EncoderError(f"encoder {name!r} is none of ours, and torchvision is not installed: make env") from error
    if name not in models.list_models(module=models):
        return None
    weights = models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    own = name in _OWN_NORMALISATION
    return EncoderKind(
        name=name,
        build=functools.partial(_build, name),
        mean=_HALVES if own else _three(preset.mean),
        std=_HALVES if own else _three(preset.std),
        published=Origin(f"torchvision {weights}, {weights.url}", weights.meta.get("license", _LICENCE)),
        pretrained=functools.partial(_pretrained, name, weights),
    )


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _build(name: str, frame_height: int, frame_width: int) -> Network:
    from torchvision import models

    arguments: dict[str, Any] = {}
    if name in _OWN_NORMALISATION:
        arguments = {"aux_logits": False, "transform_input": False, "init_weights": False}
    elif name.startswith("vit_"):
        if frame_height != frame_width:
            raise RuntimeError("its positions are those of a square")
        arguments = {"image_size": frame_height}
    elif name.startswith("maxvit_"):
        arguments = {"input_size": (frame_height, frame_width)}
    network = models.get_model(name, weights=None, **arguments)
    last = [
        path
        for path, module in network.named_modules()
        if _LABELS in (getattr(module, "out_features", 0), getattr(module, "out_channels", 0))
    ][-1]
    network.set_submodule(last, nn.Identity())
    return Network(network, _stages(name, network), dropped=(f"{last}.", *_AUXILIARY))


def _pretrained(name: str, weights: WeightsEnum) -> Mapping[str, Tensor]:
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk; another hash
        file = PurePosixPath(weights.url).name
        raise EncoderError(
            f"the weights of {name} can't be fetched from {weights.url} ({error}): fetch {file} where there is a "
            f"network, and give it (--weights {file})"
        ) from error
    return {_DENSENET_KEY.sub(r"\1\2", key): values for key, values in state.items()}


def _stages(name: str, network: nn.Module) -> Stages:
    """By the papers' names where they have some, else the modules as they follow one another."""
    if name == "alexnet" or name.startswith("vgg"):
        stages = _plain_stages(network, by_block=name != "alexnet")
    elif hasattr(network, "layer4"):
        stages = {"stem": ("conv1", "bn1"), **{f"layer{n}": (f"layer{n}",) for n in (1, 2, 3, 4)}}
    elif name == "googlenet":
        stages = {"stem": ("conv1", "conv2", "conv3")}
        stages |= {path: (path,) for path, _ in network.named_children() if path.startswith("inception")}
    else:
        stages = {path: (path,) for path in _steps(network)}
    held = tuple(path for paths in stages.values() for path in paths)
    first = next(iter(stages))
    # Parameters of the network itself, as the class token of a ViT, belong to what is first.
    loose = [n for n, _ in network.named_parameters() if not any(n.startswith(f"{path}.") for path in held)]
    return {**stages, first: (*stages[first], *loose)}


def _plain_stages(network: nn.Module, *, by_block: bool) -> dict[str, tuple[str, ...]]:
    """AlexNet: conv1 … conv5. VGG: block1 … block5, cut where it pools. Both: fc6, fc7."""
    stages: dict[str, tuple[str, ...]] = {}
    number = 1
    for index, layer in enumerate(network.features):  # type: ignore[arg-type]
        if by_block and isinstance(layer, nn.MaxPool2d):
            number += 1
        elif any(True for _ in layer.parameters()):
            stage = f"block{number}" if by_block else f"conv{len(stages) + 1}"
            stages[stage] = (*stages.get(stage, ()), f"features.{index}")
    linear = [f"classifier.{i}" for i, layer in enumerate(network.classifier) if isinstance(layer, nn.Linear)]  # type: ignore[arg-type]
    return stages | {f"fc{number}": (path,) for number, path in enumerate(linear, start=6)}


def _steps(network: nn.Module) -> Iterator[str]:
    """Children with parameters in order; those of a sequence one by one."""
    for path, child in network.named_children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from (f"{path}.{n}" for n, part in child.named_children() if any(True for _ in part.parameters()))
        elif any(True for _ in child.parameters()):
            yield path
