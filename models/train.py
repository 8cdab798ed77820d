"""Training of a classifier over stored features: AdamW, gradient clipping, early stopping on validation groups."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn
from torch.nn.utils import clip_grad_norm_

from models.windowed import WindowSet, clip_scores


@dataclass(frozen=True)
class FitSettings:
    """Hyperparameters; the defaults are those of the model that ships (chosen on validation groups)."""

    epochs: int = 30
    patience: int = 6
    batch_windows: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    gradient_norm: float = 1.0

    def to_dict(self) -> dict[str, int | float]:
        """For a checkpoint: plain types only."""
        return asdict(self)


@dataclass
class FitResult:
    """What early stopping kept, and the curve that led there."""

    best_epoch: int = 0
    best_accuracy: float = 0.0
    best_loss: float = float("inf")
    curve: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: nn.Module,
    train: WindowSet,
    validation: WindowSet | None,
    settings: FitSettings,
    seed: int,
    *,
    stop_after: int | None = None,
    show_progress: bool = True,
) -> FitResult:
    """Train in place; the weights of the epoch with the lowest validation loss are kept.

    Without validation, train `stop_after` epochs and keep the last: to train again on all clips for as long
    as early stopping found best. The learning rate's schedule is the same.

    The loss is cross-entropy of windows with label smoothing; validation is that of clips (negative log of
    the mean score), so that early stopping watches what is served. Gradients are clipped by their norm
    (Pascanu, Mikolov, Bengio 2013). The order of windows comes from `seed`; the caller seeds the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    loss_of = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    result = FitResult()
    kept = copy.deepcopy(model.state_dict())
    labels = train.window_labels
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not show_progress) as bar:
        task = bar.add_task("epochs", total=settings.epochs if stop_after is None else stop_after)
        for epoch in range(1, (settings.epochs if stop_after is None else stop_after) + 1):
            model.train()
            total = 0.0
            order = torch.randperm(len(labels), generator=generator)
            for part in torch.split(order, settings.batch_windows):
                optimizer.zero_grad()
                loss = loss_of(model(train.features[part], train.lengths[part]), labels[part])
                loss.backward()
                clip_grad_norm_(model.parameters(), settings.gradient_norm)
                optimizer.step()
                total += loss.item() * len(part)
            schedule.step()
            line = {"epoch": epoch, "train_loss": total / len(labels)}
            if validation is None:
                kept = model.state_dict()
            else:
                loss_now, accuracy_now = clip_loss_and_accuracy(model, validation)
                line |= {"validation_loss": loss_now, "validation_accuracy": accuracy_now}
                if loss_now < result.best_loss:
                    result.best_epoch, result.best_loss, result.best_accuracy = epoch, loss_now, accuracy_now
                    kept = copy.deepcopy(model.state_dict())
            result.curve.append(line)
            said = ", ".join(f"{name} {value:.3f}" for name, value in line.items() if name != "epoch")
            bar.update(task, advance=1, description=said)
            if validation is not None and epoch - result.best_epoch >= settings.patience:
                break
    if validation is not None and result.best_epoch == 0:
        raise FloatingPointError("validation loss was never finite; lower the learning rate")
    model.load_state_dict(kept)
    model.eval()
    return result


def clip_loss_and_accuracy(model: nn.Module, windows: WindowSet) -> tuple[float, float]:
    """Mean negative log-likelihood of the clips' labels under the mean window score, and share of right clips."""
    scores = torch.from_numpy(clip_scores(model, windows))
    loss = nn.functional.nll_loss(scores.clamp_min(1e-9).log(), windows.labels)
    return float(loss), float((scores.argmax(dim=1) == windows.labels).float().mean())
