"""Trained twice: until early stopping on validation groups, then afresh, as long, on all of train."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from models.data.parts import Parts
from models.fit import QUIET, Machine, fit
from models.fit_result import FitResult
from models.fit_settings import FitSettings
from models.tasks import LABEL, Task


def train_twice(
    fresh: Callable[[], nn.Module],
    parts: Parts,
    settings: FitSettings,
    seed: int,
    *,
    task: Task = LABEL,
    num_labels: int | None = None,
    refit: bool = True,
    shuffle: bool = False,
    machine: Machine = QUIET,
) -> tuple[nn.Module, FitResult]:
    """Early stopping on validation groups finds the number of epochs; with `refit` a fresh network is then
    trained that long on all of *train*, validation groups included. The result is that of early stopping.

    fresh: seeds torch and builds the network.
    """
    model = fresh()
    result = fit(
        model, parts.train, parts.validation, settings, seed,
        task=task, num_labels=num_labels, shuffle=shuffle, machine=machine,
    )  # fmt: skip
    result.early_stopped = model
    if refit:
        model = fresh()
        fit(
            model, parts.all_train, None, settings, seed,
            task=task, num_labels=num_labels, stop_after=result.best_epoch,
            watched=[line["validation_loss"] for line in result.curve], shuffle=shuffle, machine=machine,
        )  # fmt: skip
    return model, result
