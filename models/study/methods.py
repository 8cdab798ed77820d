"""The methods of the study: single frame, mean of features, shuffled frames and recurrent.

Each is trained on the same windows with the same loop, early-stopped on the same validation groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.data.parts import Parts
from models.data.windowed import shuffled
from models.fit_result import FitResult
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.heads import MeanOfFeatures, SingleFrame
from models.served import right, right_when_shuffled
from models.twice import train_twice

# `recurrent` has the cell of its HeadSettings, and where a person reads it its name.
Method = Literal["single_frame", "mean_of_features", "shuffled", "recurrent"]
METHODS: tuple[Method, ...] = ("single_frame", "mean_of_features", "shuffled", "recurrent")


def train_method(
    method: Method,
    parts: Parts,
    num_labels: int,
    head: HeadSettings,
    settings: FitSettings,
    seed: int,
    *,
    refit: bool = True,
) -> tuple[nn.Module, FitResult]:
    """Train one method from one seed. `shuffled` is the recurrent head, trained on frames in random order: another
    one in every epoch, and one that stays for validation, as its epochs are compared. See `train_twice`.
    """

    def fresh() -> nn.Module:
        torch.manual_seed(seed)
        return _build(method, head, parts.train.rows.shape[1], num_labels)

    shuffle = method == "shuffled"
    validation = shuffled(parts.validation, seed) if shuffle else parts.validation
    parts = replace(parts, validation=validation)
    return train_twice(fresh, parts, settings, seed, refit=refit, shuffle=shuffle)


def _build(method: Method, head: HeadSettings, feature_size: int, num_labels: int) -> nn.Module:
    builders: dict[Method, Callable[[], nn.Module]] = {
        "single_frame": lambda: SingleFrame(feature_size, num_labels, head.input_dropout),
        "mean_of_features": lambda: MeanOfFeatures(feature_size, num_labels, head.input_dropout),
        "shuffled": lambda: head.build(feature_size, num_labels),
        "recurrent": lambda: head.build(feature_size, num_labels),
    }
    return builders[method]()


def correct(method: Method, model: nn.Module, parts: Parts, seed: int) -> NDArray[np.float64]:
    """For each test clip 1 where its best label is right, else 0; for `shuffled` a mean over orders of the frames."""
    if parts.test is None:
        raise ValueError("there are no test clips")
    return right_when_shuffled(model, parts.test, seed) if method == "shuffled" else right(model, parts.test)
