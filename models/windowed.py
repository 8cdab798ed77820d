"""Clips of stored features as batches of the windows that serving will see, and clip scores from window scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.video.spec import ClipSpec
from service.video.windows import cover


@dataclass(frozen=True)
class WindowSet:
    """All windows of some clips, padded to the longest.

    features: (N, T, D) float32; lengths: (N) int64; clip_index: (N) int64, the clip a window is of;
    labels: (C) int64, one a clip.
    """

    features: Tensor
    lengths: Tensor
    clip_index: Tensor
    labels: Tensor

    @property
    def window_labels(self) -> Tensor:
        """(N) int64."""
        return self.labels[self.clip_index]


def windowed(features: Sequence[NDArray[np.float32]], labels: Sequence[int], spec: ClipSpec) -> WindowSet:
    """Cut each clip's features (T_i, D) exactly as serving does."""
    pieces, clip_index = [], []
    for index, rows in enumerate(features):
        for window in cover(len(rows), spec):
            pieces.append(rows[window.start : window.stop])
            clip_index.append(index)
    lengths = np.array([len(piece) for piece in pieces])
    padded = np.zeros((len(pieces), lengths.max(), pieces[0].shape[1]), np.float32)
    for row, piece in zip(padded, pieces, strict=True):
        row[: len(piece)] = piece
    return WindowSet(
        torch.from_numpy(padded),
        torch.from_numpy(lengths),
        torch.tensor(clip_index),
        torch.tensor(list(labels), dtype=torch.int64),
    )


def shuffled(windows: WindowSet, seed: int) -> WindowSet:
    """The same windows, the frames of each in random order: what is left when order is taken away."""
    generator = np.random.default_rng(seed)
    features = windows.features.clone()
    for row, length in zip(features, windows.lengths.tolist(), strict=True):
        row[:length] = row[torch.from_numpy(generator.permutation(length))]
    return WindowSet(features, windows.lengths, windows.clip_index, windows.labels)


def clip_scores(model: nn.Module, windows: WindowSet, batch_windows: int = 256) -> NDArray[np.float32]:
    """Softmax of each window, averaged over the clip's windows: (C, K) float32, as served."""
    model.eval()
    scores = []
    with torch.inference_mode():
        for at in range(0, len(windows.features), batch_windows):
            part = slice(at, at + batch_windows)
            scores.append(model(windows.features[part], windows.lengths[part]).softmax(dim=1))
    window_scores = torch.cat(scores)
    total = torch.zeros(len(windows.labels), window_scores.shape[1]).index_add_(0, windows.clip_index, window_scores)
    mean: NDArray[np.float32] = (total / windows.clip_index.bincount()[:, None]).numpy()
    return mean


def accuracy(model: nn.Module, windows: WindowSet) -> float:
    """Share of clips whose highest mean score is the label's."""
    return float((clip_scores(model, windows).argmax(axis=1) == windows.labels.numpy()).mean())
