"""What a training came to: its best epoch, and the curve that led there."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass
class FitResult:
    """What early stopping kept, and the curve that led there.

    head_epochs: the first ones, in which the head alone learns: none of them is the best, whatever it reached.
    best_figure: the task's measure of what is served of validation (of labels the share of right clips); best_loss:
    their mean loss, as the task has it. early_stopped: the network of that epoch, which has not seen the clips of
    validation. epoch_cap, patience: of the settings, epochs.
    """

    best_epoch: int = 0
    best_figure: float = 0.0
    best_loss: float = float("inf")
    epoch_cap: int = 0
    patience: int = 0
    head_epochs: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    early_stopped: nn.Module | None = None

    @property
    def cap_reached(self) -> bool:
        """Whether training ended at its cap, before patience was at its end: more epochs might be better."""
        return len(self.curve) == self.epoch_cap and self.epoch_cap - self.best_epoch < self.patience

    @property
    def early_stopping(self) -> str:
        """What early stopping came to, in words."""
        if self.cap_reached and self.best_epoch == self.epoch_cap:
            return f"did not stop: the best epoch is the last that was allowed, {self.best_epoch}; raise --epochs"
        if self.cap_reached:
            return (
                f"did not stop: the best epoch is {self.best_epoch} of the {self.epoch_cap} that were allowed, and it "
                f"waits for {self.patience} without a better one; raise --epochs"
            )
        return f"best epoch {self.best_epoch} of {len(self.curve)}, at most {self.epoch_cap}"
