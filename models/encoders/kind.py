"""What a row of a family says of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.errors import ModelsError

# For each stage, from the pixels to the features, the paths in the CNN that its parameters begin with.
Stages = Mapping[str, tuple[str, ...]]


class EncoderError(ModelsError):
    """An encoder is unknown, can't take such frames, or its weights can't be had; the message says what can be done."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from and under which licence, for the certificate.

    model: of ours that they were trained with, where they are of its checkpoint. seen: SHA-256 of the clips that they
    were trained on there.
    """

    source: str
    licence: str
    model: str = ""
    seen: frozenset[str] = field(default=frozenset(), repr=False)

    def to_dict(self) -> dict[str, str]:
        """For a checkpoint, without `seen`; `model` only where there is one, as in records of before there was any."""
        kept = {"source": self.source, "licence": self.licence}
        return kept | ({"model": self.model} if self.model else {})


@dataclass(frozen=True)
class Network:
    """An image CNN without its classifier.

    cnn: normalised pixels (N, 3, H, W) → features (N, D), or a map (N, D, h, w).
    dropped: what keys of published state dicts begin with that have no place here, as those of the classifier.
    prefix: of the CNN's keys, before those of published state dicts.
    """

    cnn: nn.Module
    stages: Stages
    dropped: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class EncoderKind:
    """One encoder.

    build: for frames of this height and width in pixels, with random weights.
    mean, std: of each channel, RGB, of pixels in [0, 1]. published: where the weights of its makers come from;
    `pretrained` reads them, as a state dict, and raises EncoderError where it can't. None where there are none.
    """

    name: str
    build: Callable[[int, int], Network]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    published: Origin | None = None
    pretrained: Callable[[], Mapping[str, Tensor]] | None = field(default=None, repr=False)
