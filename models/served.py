"""What a client would get of a network: scores of clips, or of ticks, as means over windows, and how often right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.windowed import WindowSet, shuffled
from models.tasks import LABEL, Task
from models.transfer import FineTuned

# Of the frames in a test without order: one would add its own luck to the figure.
PERMUTATIONS = 5
_BATCH_WINDOWS = 256
# A batch of long windows is cut smaller: so many ticks at most, or one window.
_BATCH_TICKS = 16_384


@dataclass(frozen=True)
class Outputs:
    """What a network said of each window, or of each tick in each window.

    logits: (M, K) float32. owner: (M) int64, the clip, or the row, that each is of. num_owners: of clips, or of rows.
    """

    logits: Tensor
    owner: Tensor
    num_owners: int

    def mean(self, scores: Tensor) -> Tensor:
        """(num_owners, K): scores (M, K) averaged over each clip's windows, or over the windows that cover a tick."""
        total = torch.zeros(self.num_owners, scores.shape[1], dtype=scores.dtype).index_add(0, self.owner, scores)
        return total / self.owner.bincount(minlength=self.num_owners)[:, None]


def outputs(model: nn.Module, windows: WindowSet, task: Task = LABEL, device: torch.device | None = None) -> Outputs:
    """Of each window, in order; the model is left in eval mode. device: the model's, where it is not said."""
    model.eval()
    device = device or next((weight.device for weight in model.parameters()), None)
    if isinstance(model, FineTuned):
        windows = replace(windows, rows=model.features_of_rows(windows.rows))
        model = model.head
    longest = int(windows.lengths.max())
    logits, owner = [], []
    with torch.inference_mode():
        for part in torch.split(torch.arange(len(windows)), max(1, min(_BATCH_WINDOWS, _BATCH_TICKS // longest))):
            rows, lengths = windows.batch(part)
            found = model(rows.to(device), lengths.to(device)).float().cpu()
            if task.every_tick:
                index, held = windows.row_index(part)
                logits.append(found[held])
                owner.append(index[held])
            else:
                logits.append(found)
                owner.append(windows.clip_index[part])
    # `clone`: what is made in inference mode can't be differentiated, as the temperature wants.
    num_owners = len(windows.rows) if task.every_tick else windows.num_clips
    return Outputs(torch.cat(logits).clone(), torch.cat(owner), num_owners)


def served_scores(model: nn.Module, windows: WindowSet, task: Task = LABEL) -> Tensor:
    """(C, K) float32 of clips, or (R, K) of ticks, as served."""
    found = outputs(model, windows, task)
    return found.mean(task.scores(found.logits))


def clip_scores(model: nn.Module, windows: WindowSet) -> NDArray[np.float32]:
    """Softmax of each window, averaged over the clip's windows: (C, K) float32, as served."""
    scores: NDArray[np.float32] = served_scores(model, windows).numpy()
    return scores


def right(model: nn.Module, windows: WindowSet) -> NDArray[np.float64]:
    """(C): 1 where the label has the clip's highest mean score, else 0."""
    hits: NDArray[np.float64] = (clip_scores(model, windows).argmax(axis=1) == windows.targets.numpy()).astype(float)
    return hits


def right_when_shuffled(model: nn.Module, windows: WindowSet, seed: int) -> NDArray[np.float64]:
    """(C): in what share of `PERMUTATIONS` random orders of the frames each clip is right.

    The shares are averaged, not the scores: a mean of scores would be an ensemble, and better than one random order.
    """
    orders = [right(model, shuffled(windows, seed * PERMUTATIONS + order)) for order in range(PERMUTATIONS)]
    share: NDArray[np.float64] = np.mean(orders, axis=0)
    return share


def accuracy(model: nn.Module, windows: WindowSet) -> float:
    """Share of clips whose highest mean score is the label's."""
    return float(right(model, windows).mean())
