"""Optimizers and schedules of PyTorch by name, and gradients clipped by value and by norm."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from models.errors import RecipeError
from models.fit_settings import FitSettings

# A schedule that lasts as long as training does: its parameter for that, in epochs.
_EPOCHS_OF = {"CosineAnnealingLR": "T_max", "LinearLR": "total_iters", "PolynomialLR": "total_iters"}
# These want another function for each step, another schedule, or a closure that computes the loss anew.
_NOT_BY_NAME = {
    "LBFGS": "it computes the loss several times a step",
    "SparseAdam": "it takes sparse gradients only",
    "LambdaLR": "it needs a function",
    "MultiplicativeLR": "it needs a function",
    "ChainedScheduler": "it is made of schedules",
    "SequentialLR": "it is made of schedules",
    "OneCycleLR": "it steps with every batch",
    "CyclicLR": "it steps with every batch",
}


def parameter_groups(model: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
    """For an optimizer: what is trained, with the learning rate of each part where `model` has some of its own.

    A model with parts that learn at another rate has `learning_rates()` → rate by the name of a child module.
    """
    rates: Mapping[str, float] = model.learning_rates() if hasattr(model, "learning_rates") else {}  # type: ignore[operator]
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name.partition(".")[0], settings.learning_rate)
            groups.setdefault(rate, []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]


def build_optimizer(model: nn.Module, settings: FitSettings) -> Optimizer:
    """Raises RecipeError, which names what PyTorch has."""
    kind = _named(torch.optim, settings.optimizer, Optimizer, "optimizer")
    options = dict(settings.optimizer_options or {})
    if "lr" in options:
        raise RecipeError("optimizer_options.lr would be passed over: name it as learning_rate, or --learning-rate")
    if "weight_decay" in inspect.signature(kind).parameters:
        options.setdefault("weight_decay", settings.weight_decay)
    elif settings.weight_decay != FitSettings.weight_decay:
        raise RecipeError(f"the optimizer {settings.optimizer} knows no weight_decay; leave it out")
    optimizer: Optimizer = _built(
        kind, (parameter_groups(model, settings),), {"lr": settings.learning_rate, **options}, "optimizer"
    )
    return optimizer


def build_schedule(optimizer: Optimizer, settings: FitSettings) -> LRScheduler | None:
    """A step an epoch; None where the rate stays. Raises RecipeError, which names what PyTorch has."""
    if settings.schedule == "none":
        return None
    kind = _named(lr_scheduler, settings.schedule, LRScheduler, "schedule")
    options = dict(settings.schedule_options or {})
    if lasting := _EPOCHS_OF.get(settings.schedule):
        options.setdefault(lasting, settings.epochs)
    schedule: LRScheduler = _built(kind, (optimizer,), options, "schedule")
    return schedule


def advance(schedule: LRScheduler | None, loss: float) -> None:
    """One epoch on. loss: of validation, else of training; what `ReduceLROnPlateau` looks at."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(loss)
    elif schedule is not None:
        schedule.step()


def clip_gradients(parameters: Iterable[nn.Parameter], settings: FitSettings) -> Tensor:
    """By value, then by norm (Pascanu, Mikolov, Bengio 2013); returns the norm between the two.

    Of gradients that are not finite it returns their norm, which is not either, and leaves them: cut, they would pass.
    """
    parameters = list(parameters)
    if settings.gradient_value is not None:
        norm = get_total_norm([each.grad for each in parameters if each.grad is not None])
        if not torch.isfinite(norm):
            return norm
        clip_grad_value_(parameters, settings.gradient_value)
    return clip_grad_norm_(parameters, settings.gradient_norm)


def _named(module: Any, name: str, base: type, what: str) -> type[Any]:
    kinds = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base and not key.startswith("_")
    }
    kinds.pop("LRScheduler", None)
    if name in _NOT_BY_NAME and name in kinds:
        raise RecipeError(f"the {what} {name} can't be taken by name: {_NOT_BY_NAME[name]}")
    if name not in kinds:
        known = ", ".join(sorted(kinds.keys() - _NOT_BY_NAME.keys()))
        raise RecipeError(f"the {what} {name!r} is none of PyTorch's: {known}{', none' * (what == 'schedule')}")
    return kinds[name]


def _built(kind: type[Any], positional: tuple[Any, ...], options: Mapping[str, Any], what: str) -> Any:
    known = dict(inspect.signature(kind).parameters)
    known.pop("last_epoch", None)  # where to go on is `--resume`'s to know
    if unknown := sorted(options.keys() - known.keys()):
        raise RecipeError(
            f"{what}_options.{unknown[0]} is unknown to {kind.__name__}; it takes {', '.join(list(known)[1:])}"
        )
    try:
        return kind(*positional, **options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"the {what} {kind.__name__} can't be made with {dict(options)}: {error}") from error
