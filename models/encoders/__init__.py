"""Image encoders: uint8 RGB frames in, one feature vector a frame out. Normalisation and layout are inside.

A family is a file, an encoder a row in it (`EncoderKind`): how it is built, where fine-tuning can start, its weights,
their licence, mean and std.
"""

from models.encoders.folding import folded
from models.encoders.halves import MapsOf, StagesFrom
from models.encoders.image import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder, weights_sha256
from models.encoders.kind import EncoderError, EncoderKind, Network, Origin
from models.encoders.registry import KINDS, build, named
from models.encoders.weights import load_exactly, origin_after

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KINDS",
    "EncoderError",
    "EncoderKind",
    "ImageEncoder",
    "MapsOf",
    "Network",
    "Origin",
    "StagesFrom",
    "build",
    "folded",
    "load_exactly",
    "named",
    "origin_after",
    "weights_sha256",
]
