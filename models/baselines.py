"""The study: single frame, mean of features, shuffled frames and LSTM, on splits × seeds, with a paired interval.

Each is trained on the same windows with the same loop, early-stopped on the same validation groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.dataset import Clip, hold_out
from models.heads import Cell, HeadDims, ManyToOne, MeanOfFeatures, SequenceHead, SingleFrame
from models.train import FitResult, FitSettings, fit
from models.windowed import WindowSet, clip_scores, shuffled, windowed
from service.video.spec import ClipSpec

Method = Literal["single_frame", "mean_of_features", "shuffled", "lstm"]
METHODS: tuple[Method, ...] = ("single_frame", "mean_of_features", "shuffled", "lstm")


@dataclass(frozen=True)
class HeadSettings:
    """Kind, size and regularisation of the recurrent head; the defaults are those of the model that ships."""

    hidden_size: int = 64
    pooling: ManyToOne = "mean"
    cell: Cell = "lstm"
    num_layers: int = 1
    bidirectional: bool = False
    input_dropout: float = 0.3
    output_dropout: float = 0.5

    def build(self, feature_size: int, num_labels: int) -> SequenceHead:
        """A fresh head; seed torch before."""
        dims = HeadDims(
            feature_size, self.hidden_size, num_labels, self.pooling, self.cell, self.num_layers, self.bidirectional
        )
        return SequenceHead(dims, self.input_dropout, self.output_dropout)


@dataclass(frozen=True)
class Parts:
    """Windows of the clips trained on, validated on and tested on, and the test clips themselves.

    `all_train` is train and validation together: what the final weights are trained on.
    """

    train: WindowSet
    validation: WindowSet
    all_train: WindowSet
    test: WindowSet | None
    test_clips: list[Clip]


def cut(
    clips: list[Clip],
    features: dict[str, NDArray[np.float32]],
    labels: tuple[str, ...],
    spec: ClipSpec,
    validation_fraction: float,
    validation_seed: int,
) -> Parts:
    """Cut *train* by group into training and validation; `features` by clip path, (T, D) each."""

    def windows_of(part: list[Clip]) -> WindowSet:
        return windowed([features[str(c.path)] for c in part], [labels.index(c.label) for c in part], spec)

    all_train = [c for c in clips if c.split == "train"]
    train, validation = hold_out(all_train, validation_fraction, validation_seed)
    test = [c for c in clips if c.split == "test"]
    return Parts(
        windows_of(train), windows_of(validation), windows_of(all_train), windows_of(test) if test else None, test
    )


def train_method(
    method: Method,
    parts: Parts,
    num_labels: int,
    head: HeadSettings,
    settings: FitSettings,
    seed: int,
    *,
    refit: bool = True,
    show_progress: bool = False,
) -> tuple[nn.Module, FitResult]:
    """Train one method from one seed. `shuffled` is the LSTM trained on frames in random order.

    Early stopping on validation groups finds the number of epochs; with `refit` a fresh network is then
    trained that long on all of *train*, validation groups included. The result is that of early stopping.
    """

    def fresh() -> nn.Module:
        torch.manual_seed(seed)
        return _build(method, head, parts.train.features.shape[2], num_labels)

    def view(windows: WindowSet) -> WindowSet:
        return shuffled(windows, seed) if method == "shuffled" else windows

    model = fresh()
    result = fit(model, view(parts.train), view(parts.validation), settings, seed, show_progress=show_progress)
    if refit:
        model = fresh()
        fit(
            model,
            view(parts.all_train),
            None,
            settings,
            seed,
            stop_after=result.best_epoch,
            show_progress=show_progress,
        )
    return model, result


def _build(method: Method, head: HeadSettings, feature_size: int, num_labels: int) -> nn.Module:
    builders: dict[Method, Callable[[], nn.Module]] = {
        "single_frame": lambda: SingleFrame(feature_size, num_labels, head.input_dropout),
        "mean_of_features": lambda: MeanOfFeatures(feature_size, num_labels, head.input_dropout),
        "shuffled": lambda: head.build(feature_size, num_labels),
        "lstm": lambda: head.build(feature_size, num_labels),
    }
    return builders[method]()


def correct(method: Method, model: nn.Module, parts: Parts, seed: int) -> NDArray[np.bool_]:
    """For each test clip, whether its best label is right; frames shuffled for `shuffled`."""
    if parts.test is None:
        raise ValueError("there are no test clips")
    test = shuffled(parts.test, seed) if method == "shuffled" else parts.test
    right: NDArray[np.bool_] = clip_scores(model, test).argmax(axis=1) == test.labels.numpy()
    return right


def paired_interval(
    differences: NDArray[np.float64], groups: list[str], resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference of clips and its 95 % interval, bootstrapped by group (Efron 1979; clusters are groups).

    differences: one a clip (already averaged over seeds). Returns (mean, low, high).
    """
    names, index = np.unique(np.array(groups), return_inverse=True)
    sums = np.bincount(index, weights=differences)
    counts = np.bincount(index)
    picks = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)
