"""The loop that trains: windows in random order, clipped gradients, early stopping on validation groups, resumable."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.optim import Optimizer

from models import optimisation
from models.augmentation import augmented
from models.data.windowed import WindowSet, first_of_each_clip, shuffle_frames
from models.errors import NotFiniteError, OutOfDeviceMemoryError
from models.fit_result import FitResult
from models.fit_settings import FitSettings
from models.resume import Keeper, chance_of, restore_chance
from models.served import outputs
from models.tasks import IGNORED, LABEL, LossSettings, Task
from models.transfer import FineTuned
from models.truncated import backward_in_pieces

# Of loss scaling in float16: below it the gradients themselves are not finite, not their scale.
_LEAST_SCALE = 2.0**-14
Track = Callable[[str, dict[str, float]], None]


@dataclass(frozen=True)
class Machine:
    """What is about this machine and this run, and no part of a recipe.

    keeper: where the state after each epoch goes, and where an earlier run left it. track: hears of each epoch, by
    phase. show_progress: a bar.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    keeper: Keeper | None = None
    track: Track = lambda phase, line: None
    show_progress: bool = False


QUIET = Machine()


def fit(
    model: nn.Module,
    train: WindowSet,
    validation: WindowSet | None,
    settings: FitSettings,
    seed: int,
    *,
    task: Task = LABEL,
    num_labels: int | None = None,
    stop_after: int | None = None,
    watched: Sequence[float] | None = None,
    shuffle: bool = False,
    machine: Machine = QUIET,
) -> FitResult:
    """Train in place; the weights of the epoch with the lowest validation loss are kept.

    Without validation, train `stop_after` epochs and keep the last: to train again on all clips for as long
    as early stopping found best. The learning rate's schedule is the same: one that looks at the loss is given
    `watched`, early stopping's of each epoch, else training's own.

    The loss is the task's, of windows, each weighted by its clip's number of windows, so that clips count alike however
    long they are; `train_loss` of the curve is its mean over clips. A batch's mean is that weighted mean up to chance,
    as windows are drawn evenly. Validation is of what is served (`Task.served_loss`), so that early stopping watches
    that. The order of windows, and with `shuffle` of the frames in each, anew in every epoch, comes from `seed`; the
    caller seeds the weights, and torch, whose dropout draws from its own generator. num_labels: K, where classes are
    weighted.

    Where `machine.keeper` has a state of this phase, training goes on behind it, bit for bit as if it had not been cut
    off. Raises NotFiniteError at the first loss, gradient or weight that is not finite; RecipeError, ResumeError.
    """
    phase = "the last training, on all clips" if validation is None else "early stopping"
    epochs = settings.epochs if stop_after is None else stop_after
    run = _Run(model.to(machine.device), train, settings, seed, task, num_labels, machine.device, shuffle=shuffle)
    head_epochs = model.head_epochs if isinstance(model, FineTuned) else 0
    result = FitResult(epoch_cap=settings.epochs, patience=settings.patience, head_epochs=head_epochs)
    kept = copy.deepcopy(model.state_dict())
    if machine.keeper is not None and (state := machine.keeper.load(phase)) is not None:
        run.restore(state)
        result, kept = FitResult(**state["result"]), state["kept"]
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not machine.show_progress) as bar:
        shown = bar.add_task(phase.partition(",")[0], total=epochs, completed=len(result.curve))
        while len(result.curve) < epochs and not _waited_enough(result, validation):
            epoch = len(result.curve) + 1
            if isinstance(model, FineTuned):
                model.begin_epoch(epoch)
            line = {"epoch": epoch, **run.epoch(f"{phase}, epoch {epoch}")}
            if validation is None:
                kept = model.state_dict()
            else:
                found = outputs(*run.seen(validation), task, machine.device)
                scores = found.mean(task.scores(found.logits))
                loss_now = float(task.served_loss(scores, validation.targets))
                run.refuse_not_finite(torch.tensor(loss_now), "validation loss", f"{phase}, epoch {epoch}")
                figure = task.figure(scores, validation.targets)
                line |= {"validation_loss": loss_now, "validation_figure": figure}
                if loss_now < result.best_loss and epoch > result.head_epochs:
                    result.best_epoch, result.best_loss, result.best_figure = epoch, loss_now, figure
                    kept = copy.deepcopy(model.state_dict())
            known = watched[epoch - 1] if watched else line["train_loss"]
            optimisation.advance(run.schedule, line.get("validation_loss", known))
            result.curve.append(line)
            machine.track(phase, line)
            bar.update(shown, advance=1, description=_said(line))
            if machine.keeper is not None:
                held = {"result": vars(replace(result)), "kept": kept}
                machine.keeper.save(phase, run.state() | held)
    model.load_state_dict(kept)
    model.cpu().eval()
    return result


def _waited_enough(result: FitResult, validation: WindowSet | None) -> bool:
    since = max(result.best_epoch, result.head_epochs)
    return validation is not None and len(result.curve) - since >= result.patience


def _said(line: dict[str, float]) -> str:
    """Short: the bar has to fit into 80 columns."""
    said = f"loss {line['train_loss']:.3f}"
    if "validation_loss" in line:
        said += f", validation {line['validation_loss']:.3f}, {line['validation_figure']:.3f}"
    return said


class _Run:
    """What changes from step to step: weights, optimizer, schedule, scale, and the generators of chance."""

    def __init__(
        self,
        model: nn.Module,
        train: WindowSet,
        settings: FitSettings,
        seed: int,
        task: Task,
        num_labels: int | None,
        device: torch.device,
        *,
        shuffle: bool,
    ) -> None:
        self.model = model
        self.settings = settings
        self.optimizer: Optimizer = optimisation.build_optimizer(model, settings)
        self.schedule = optimisation.build_schedule(self.optimizer, settings)
        self._train = train
        self._features: dict[int, WindowSet] = {}  # of windows that the head alone is trained on, by their id
        self._every_tick = task.every_tick
        self._device = device
        self._shuffle = shuffle
        self._generator = torch.Generator().manual_seed(seed)
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings.mixed_precision == "float16")
        weights = None
        if settings.class_weights == "balanced":
            weights = task.class_weights(train, num_labels or 0).to(device)
        self._loss_of = task.window_loss(LossSettings(settings.loss, settings.label_smoothing), weights)

    def epoch(self, when: str) -> dict[str, float]:
        """Windows in random order, all, or some of each clip.

        The mean loss over clips, the mean norm of the steps' gradients, the first group's rate.
        """
        self.model.train()
        if self._device.type == "cuda":
            # cuDNN keeps the dropout of recurrent layers in a state of its own, which no generator's state holds, and
            # draws it anew after `set_rng_state`: so it is in each epoch, gone on with or not.
            restore_chance(self._device, chance_of(self._device))
        total, norms = 0.0, []
        rate = self.optimizer.param_groups[0]["lr"]
        network, train = self.seen(self._train)
        order = torch.randperm(len(train), generator=self._generator)
        if self.settings.windows_per_clip is not None:
            order = first_of_each_clip(order, train.clip_index, self.settings.windows_per_clip)
        weights = train.weights_of(order)
        for batch in torch.split(torch.arange(len(order)), self.settings.batch_windows):
            part, weight = order[batch], weights[batch]
            rows, lengths = train.batch(part)
            if self._shuffle:
                rows = shuffle_frames(rows, lengths, self._generator)
            if self.settings.augments:
                rows = augmented(rows, self.settings, self._generator)
            self.optimizer.zero_grad()
            try:
                loss = self._backward(network, rows.to(self._device), lengths, self._targets(part), weight)
            except torch.OutOfMemoryError as error:
                raise OutOfDeviceMemoryError(
                    f"{when}: {len(part)} windows of up to {int(lengths.max())} ticks, each of "
                    f"{' × '.join(map(str, rows.shape[2:]))}, do not fit into the memory of {self._device}: lower "
                    "--batch-windows, train from a later stage (--train-from) or in --mixed-precision, or cut windows "
                    "with --truncate-ticks"
                ) from error
            self.refuse_not_finite(loss, "training loss", when)
            self._scaler.unscale_(self.optimizer)
            norm = optimisation.clip_gradients(self.model.parameters(), self.settings)
            if not self._scaler.is_enabled() or self._scaler.get_scale() < _LEAST_SCALE:
                self._refuse_gradients(norm, when)
            self._scaler.step(self.optimizer)
            self._scaler.update()
            total += float(loss) * len(part)
            if torch.isfinite(norm):  # else float16's scale was too high, and no step was made
                norms.append(float(norm))
        self._refuse_weights(when)
        return {
            "learning_rate": rate,
            "train_loss": total / len(order),
            "gradient_norm": sum(norms) / max(1, len(norms)),
        }

    def seen(self, windows: WindowSet) -> tuple[nn.Module, WindowSet]:
        """What learns, and what it sees: while the head learns alone, the head and its features, computed once."""
        model = self.model
        if not isinstance(model, FineTuned) or self.settings.augments or not model.head_alone:
            self._features.clear()
            return model, windows
        if id(windows) not in self._features:
            self._features[id(windows)] = replace(windows, rows=model.features_of_rows(windows.rows))
        return model.head, self._features[id(windows)]

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain types."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self._scaler.state_dict(),
            "generator": self._generator.get_state(),
            "chance": chance_of(self._device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """As it was when `state` gave it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._generator.set_state(state["generator"])
        restore_chance(self._device, state["chance"])

    def _targets(self, part: Tensor) -> Tensor:
        if not self._every_tick:
            return self._train.targets[self._train.clip_index[part]].to(self._device)
        index, held = self._train.row_index(part)
        return torch.where(held, self._train.targets[index], IGNORED).to(self._device)

    def _backward(self, network: nn.Module, rows: Tensor, lengths: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Adds to the gradients; returns the batch's loss."""
        weights = weights.to(self._device)
        if self.settings.truncate_ticks is not None:
            return backward_in_pieces(
                network, rows, lengths, targets, weights, self._loss_of, self.settings.truncate_ticks,
                every_tick=self._every_tick, scale=self._scaler.scale,
            )  # fmt: skip
        loss = (self._loss_of(network(rows, lengths.to(self._device)), targets) * weights).mean()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def refuse_not_finite(self, loss: Tensor, name: str, when: str) -> None:
        """Raises NotFiniteError."""
        if not torch.isfinite(loss):
            self._refuse_weights(when)  # if one of them is the cause, it is named
            raise self._error(f"the {name}", when)

    def _refuse_gradients(self, norm: Tensor, when: str) -> None:
        """norm: of all gradients together; not finite where one of them isn't, or where their squares are too many."""
        if not torch.isfinite(norm):
            found = [name for name, weight in self.model.named_parameters() if not _is_finite(weight.grad)]
            raise self._error(f"the gradient of {found[0]}" if found else "the norm of the gradients", when)

    def _refuse_weights(self, when: str) -> None:
        for name, weight in self.model.named_parameters():
            if not _is_finite(weight):
                raise self._error(f"the weight {name}", when)

    def _error(self, what: str, when: str) -> NotFiniteError:
        return NotFiniteError(
            f"{when}: {what} is not finite; nothing is saved. Lower the learning rate (--learning-rate, now "
            f"{self.settings.learning_rate:g}) or the norm at which gradients are clipped (--gradient-norm, now "
            f"{self.settings.gradient_norm:g})"
        )


def _is_finite(values: Tensor | None) -> bool:
    return values is None or bool(torch.isfinite(values).all())
