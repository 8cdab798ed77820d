"""Tasks: what is learned of a clip. Its loss, what is served of its outputs, and the measure of how good that is.

A task is a row of `TASKS`: `label` (one of several), `labels` (any of several), `value` (numbers), `tick_label` (one of
several at every tick, many-to-many). Training minimises the loss of windows; validation and figures are of what a
client gets: the mean over a clip's windows, or, at every tick, over the windows that cover it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from models.data.windowed import WindowSet
from models.errors import RecipeError

Score = Literal["softmax", "sigmoid", "none"]
# Of a tick that is not to be learned.
IGNORED = -100
# Below this a float32's logarithm is no longer a figure.
_LEAST = 1e-9


@dataclass(frozen=True)
class Task:
    """One kind of target.

    title: for people. score: what makes scores of logits, as the bundle has it. every_tick: outputs are (N, T, K) and
    targets (R), else (N, K) and (C, …). losses: of torch.nn, by name; the first is the default. measure: name of the
    figure that says how good scores are, `higher_is_better` or not.
    """

    name: str
    title: str
    score: Score
    every_tick: bool
    losses: tuple[str, ...]
    measure: str
    higher_is_better: bool
    _served_loss: Callable[[Tensor, Tensor], Tensor]
    _figure: Callable[[Tensor, Tensor], float]

    @property
    def has_classes(self) -> bool:
        """Whether labels are learned, and not numbers."""
        return self.score != "none"

    def window_loss(self, settings: LossSettings, class_weights: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        """logits (N, K) and targets of as many windows, or (N, T, K) and (N, T), → each window's loss (N).

        A window's loss of ticks is the mean over those that are not IGNORED. class_weights: (K), of mean 1 over what is
        trained on. Raises RecipeError.
        """
        name = settings.name or self.losses[0]
        if name not in self.losses:
            raise RecipeError(f"the loss {name!r} is none of the task {self.name!r}: {', '.join(self.losses)}")
        arguments: dict[str, Any] = {"reduction": "none"}
        if name == "CrossEntropyLoss":
            arguments |= {"label_smoothing": settings.label_smoothing, "weight": class_weights}
        elif settings.label_smoothing:
            raise RecipeError(f"label_smoothing is {settings.label_smoothing:g}: only CrossEntropyLoss knows it")
        elif class_weights is not None:
            if name == "MultiLabelSoftMarginLoss":
                raise RecipeError(
                    "class_weights is `balanced`, and MultiLabelSoftMarginLoss weighs a label's absence as its "
                    "presence: take BCEWithLogitsLoss, or leave class_weights out"
                )
            arguments["pos_weight" if name == "BCEWithLogitsLoss" else "weight"] = class_weights
        loss: nn.Module = getattr(nn, name)(**arguments)

        def of_clips(logits: Tensor, targets: Tensor) -> Tensor:
            each: Tensor = loss(logits, targets)
            return each.flatten(1).mean(dim=1) if each.ndim > 1 else each

        def of_ticks(logits: Tensor, targets: Tensor) -> Tensor:
            each: Tensor = loss(logits.flatten(0, 1), targets.flatten()).view(targets.shape)
            return each.sum(dim=1) / (targets != IGNORED).sum(dim=1).clamp_min(1)

        return of_ticks if self.every_tick else of_clips

    def scores(self, logits: Tensor) -> Tensor:
        """As the bundle's `score` makes them, over the last dimension."""
        if self.score == "softmax":
            return logits.softmax(dim=-1)
        return logits.sigmoid() if self.score == "sigmoid" else logits

    def served_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of served scores (C, K), or of ticks (R, K): negative log-likelihood, nats; of values, squared."""
        known = targets != IGNORED if self.every_tick else torch.ones(len(targets), dtype=torch.bool)
        return self._served_loss(scores[known], targets[known])

    def figure(self, scores: Tensor, targets: Tensor) -> float:
        """The `measure` of served scores (C, K), or of ticks (R, K)."""
        known = targets != IGNORED if self.every_tick else torch.ones(len(targets), dtype=torch.bool)
        return self._figure(scores[known], targets[known])

    def class_weights(self, windows: WindowSet, num_labels: int) -> Tensor:
        """(K) float32: each label inversely to how often it is to be learned, so that all weigh alike (King and Zeng
        2001, as scikit-learn's `balanced`); of `labels`, the share of clips without it over that of those with it.
        """
        if not self.has_classes:
            raise RecipeError("class_weights is `balanced`, and the task `value` has no classes")
        if self.name == "labels":
            least = 1 / (len(windows.targets) + 1)  # a label of all clips, or of none, is not to weigh nothing
            positive = windows.targets.mean(dim=0).clamp(least, 1 - least)
            return (1 - positive) / positive
        known = windows.targets[windows.targets != IGNORED]
        counts = torch.bincount(known, minlength=num_labels).float()
        # A label that is not there weighs nothing: smoothing would spread the others' loss over it.
        return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)


@dataclass(frozen=True)
class LossSettings:
    """name: of torch.nn; empty: the task's default. label_smoothing: share of each label given to all."""

    name: str = ""
    label_smoothing: float = 0.0


def _accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share whose best label is right."""
    return float((scores.argmax(dim=1) == targets).float().mean())


def _negative_log_likelihood(scores: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.nll_loss(scores.clamp_min(_LEAST).log(), targets)


def _binary_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy(scores.clamp(_LEAST, 1.0), targets.to(scores.dtype))


def _squared_error(scores: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(scores, targets.to(scores.dtype))


def average_precisions(scores: Tensor, targets: Tensor) -> list[float]:
    """Of each label (Everingham et al. 2010, without interpolation); of one without a positive NaN.

    scores, targets: (C, K). Of equal scores the precision is that after all of them.
    """
    found = []
    for column in range(scores.shape[1]):
        score, truth = scores[:, column].numpy(), targets[:, column].numpy() > 0
        if not truth.any():
            found.append(math.nan)
            continue
        order = np.argsort(-score, kind="stable")
        score, truth = score[order], truth[order]
        last = np.append(score[1:] != score[:-1], True)  # of those that score alike
        hits = np.cumsum(truth)[last]
        precision = hits / (np.flatnonzero(last) + 1)
        found.append(float((precision * np.diff(hits, prepend=0)).sum() / truth.sum()))
    return found


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Mean of `average_precisions` over the labels that have a positive; 0 where none has."""
    found = [each for each in average_precisions(scores, targets) if not math.isnan(each)]
    return float(np.mean(found)) if found else 0.0


def _absolute_error(scores: Tensor, targets: Tensor) -> float:
    return float((scores - targets).abs().mean())


_OF_LABELS = ("CrossEntropyLoss", "MultiMarginLoss")
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "label", "one label a clip", "softmax", False, _OF_LABELS,
            "accuracy", True, _negative_log_likelihood, _accuracy,
        ),
        Task(
            "labels", "several labels a clip", "sigmoid", False, ("BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"),
            "mean average precision", True, _binary_cross_entropy, mean_average_precision,
        ),
        Task(
            "value", "numbers of a clip", "none", False, ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"),
            "mean absolute error", False, _squared_error, _absolute_error,
        ),
        Task(
            "tick_label", "a label a tick", "softmax", True, ("CrossEntropyLoss",),
            "accuracy of ticks", True, _negative_log_likelihood, _accuracy,
        ),
    )
}  # fmt: skip
LABEL = TASKS["label"]
