"""Scores that mean what they say: a temperature, its calibration error, and the score below which none is named."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.windowed import WindowSet
from models.served import Outputs, outputs
from models.tasks import LABEL, Task

_BINS = 15
_KEPT_OF_RIGHT = 0.95
# With fewer the 5 % that the threshold gives up are less than one clip.
_FEW_CLIPS = 20


@dataclass(frozen=True)
class Calibration:
    """What was found on validation clips, before and after; plain numbers.

    temperature: what logits are divided by (Guo et al. 2017, arXiv 1706.04599), already inside the classifier's
    weights. ece_before, ece_after: expected calibration error, 15 bins. threshold: 95 % of the clips that were named
    rightly scored as much or more, after it; kept, kept_accuracy: share of all clips that reach it, and of those, the
    share that is right. clips: how many all this was measured on.
    """

    temperature: float
    ece_before: float
    ece_after: float
    threshold: float
    kept: float
    kept_accuracy: float
    clips: int

    @property
    def said(self) -> str:
        """In words, for the screen."""
        few = f"; temperature and threshold rest on {self.clips} clips only" if self.clips < _FEW_CLIPS else ""
        return (
            f"calibration error {self.ece_before:.1%}, at temperature {self.temperature:.2f} {self.ece_after:.1%}; "
            f"none of the labels below a score of {self.threshold:.2f}, which {self.kept:.1%} of validation reach, "
            f"{self.kept_accuracy:.1%} of them rightly{few}"
        )

    def to_dict(self) -> dict[str, float | int]:
        """For a checkpoint: plain types only."""
        return asdict(self)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over what scores claim (B): cases, the sum of their scores, and how many came true."""

    counts: NDArray[np.int64]
    claimed: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: |share right − mean score|, weighted by cases."""
        return float(np.abs(self.right - self.claimed).sum() / max(1, self.counts.sum()))


def calibrate(model: nn.Module, validation: WindowSet, task: Task = LABEL) -> Calibration:
    """Fit on clips that the model did not train on; the model is left as it is (see `cool`).

    A client gets the mean over windows of their softmax, so that is what is made to fit: the temperature with the
    lowest negative log-likelihood of the clips' labels; where ticks have labels, of theirs, and then it is ticks that
    are counted. task: one whose scores are a softmax.
    """
    found, labels = outputs(model, validation, task), validation.targets
    temperature = _best_temperature(found, labels, task)
    before, after = (found.mean(task.scores(found.logits / t)).numpy() for t in (1.0, temperature))
    best = after.max(axis=1)
    right = after.argmax(axis=1) == labels.numpy()
    threshold = float(np.quantile(best[right], 1 - _KEPT_OF_RIGHT, method="lower")) if right.any() else 1.0
    kept = best >= threshold
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(before, labels.numpy()),
        ece_after=expected_calibration_error(after, labels.numpy()),
        threshold=threshold,
        kept=float(kept.mean()),
        kept_accuracy=float(right[kept].mean()) if kept.any() else 0.0,
        clips=validation.num_clips,
    )


def cool(classifier: nn.Linear, temperature: float) -> None:
    """Divide its logits by a temperature, in place: nothing else need know of it, the exported graph least of all."""
    with torch.no_grad():
        classifier.weight.div_(temperature)
        classifier.bias.div_(temperature)


def expected_calibration_error(scores: NDArray[np.floating], labels: NDArray[np.int64], bins: int = _BINS) -> float:
    """|share right − mean best score|, over equal bins of the best score, weighted by clips (Naeini et al. 2015).

    scores: (C, K); labels: (C).
    """
    best, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    return reliability(best, right, bins).error


def reliability(claimed: NDArray[np.floating], right: NDArray[np.bool_], bins: int = _BINS) -> Reliability:
    """claimed: scores (N) in [0, 1]; right: whether what they are of is so (N)."""
    index = np.minimum((claimed * bins).astype(np.int64), bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins),
        np.bincount(index, claimed, bins).astype(np.float64),
        np.bincount(index, right, bins).astype(np.float64),
    )


def _best_temperature(found: Outputs, labels: Tensor, task: Task) -> float:
    logits = found.logits.double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        lost = task.served_loss(found.mean(task.scores(logits / log_temperature.exp())), labels)
        lost.backward()  # type: ignore[no-untyped-call]
        return lost

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    # A model that is right on every clip of validation would have all its scores at 1: no more than it showed.
    return float(log_temperature.detach().exp().clamp(0.25, 10.0))
