"""Clips of stored rows as batches of the windows that serving will see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.video.spec import ClipSpec
from service.video.windows import cover


@dataclass(frozen=True)
class WindowSet:
    """All windows of some clips.

    rows: (R, …) what the network takes of each tick, clip after clip: features (R, D), or maps of a frozen stage; rows
        that windows share are held once.
    starts, lengths: (N) int64; window n is rows[starts[n] : starts[n] + lengths[n]].
    clip_index: (N) int64, the clip that a window is of.
    targets: what is to be learned, as the task has it: (C, …) one a clip, or (R) one a tick.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    clip_index: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Windows."""
        return len(self.lengths)

    @property
    def num_clips(self) -> int:
        """Clips; each has a window at least."""
        return int(self.clip_index.max()) + 1

    def weights_of(self, drawn: Tensor) -> Tensor:
        """(P) float32, of mean 1, of drawn windows (P): each clip's together weigh what any other clip's do."""
        windows_of_clip = self.clip_index[drawn].bincount()
        held = int((windows_of_clip > 0).sum())
        # In float64: where all clips have as many windows, each weighs 1 exactly.
        weights = len(drawn) / held / windows_of_clip.double()
        return weights[self.clip_index[drawn]].float()

    @property
    def clip_of_row(self) -> Tensor:
        """(R) int64, the clip that a row is of."""
        owner = torch.empty(len(self.rows), dtype=torch.int64)
        for start, length, clip in zip(
            self.starts.tolist(), self.lengths.tolist(), self.clip_index.tolist(), strict=True
        ):
            owner[start : start + length] = clip
        return owner

    def row_index(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Of these windows (P): each tick's row (P, T), and which of them are (P, T) bool: the rest is past an end."""
        lengths = self.lengths[part]
        ticks = torch.arange(int(lengths.max()))
        held = ticks < lengths[:, None]
        return torch.where(held, self.starts[part][:, None] + ticks, 0), held

    def batch(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """These windows (P), padded with zeros to the longest: (P, T, …) float32, and their lengths (P) int64."""
        index, held = self.row_index(part)
        rows = self.rows[index].float()
        rows[~held] = 0
        return rows, self.lengths[part]


def windowed(rows: Sequence[NDArray[Any]], targets: Tensor, spec: ClipSpec) -> WindowSet:
    """Cut each clip's rows (T_i, …) exactly as serving does."""
    starts, lengths, clip_index, at = [], [], [], 0
    for index, of_clip in enumerate(rows):
        for window in cover(len(of_clip), spec):
            starts.append(at + window.start)
            lengths.append(window.length)
            clip_index.append(index)
        at += len(of_clip)
    return WindowSet(
        torch.from_numpy(np.concatenate(rows)),
        torch.tensor(starts),
        torch.tensor(lengths),
        torch.tensor(clip_index),
        targets,
    )


def first_of_each_clip(order: Tensor, clip_index: Tensor, most: int) -> Tensor:
    """Of windows in an order (N), each clip's first so many, in that order."""
    seen: Counter[int] = Counter()
    kept = []
    for window, clip in zip(order.tolist(), clip_index[order].tolist(), strict=True):
        seen[clip] += 1
        if seen[clip] <= most:
            kept.append(window)
    return torch.tensor(kept)


def shuffle_frames(rows: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """The frames of each window in an order of its own, evenly drawn; what is past a length stays there.

    rows: (N, T, …); lengths: (N) int64. Returns a copy.
    """
    keys = torch.rand(rows.shape[:2], generator=generator, dtype=torch.float64)
    keys[torch.arange(rows.shape[1]) >= lengths[:, None]] = 2.0
    order = keys.argsort(dim=1, stable=True)
    return rows[torch.arange(len(rows))[:, None], order]


def shuffled(windows: WindowSet, seed: int) -> WindowSet:
    """The same windows, the frames of each in random order: what is left when order is taken away.

    Of targets that are one a clip: a tick's would have to move with it.
    """
    generator = torch.Generator().manual_seed(seed)
    every = torch.arange(len(windows))
    rows, held = windows.row_index(every)
    moved = shuffle_frames(windows.rows[rows], windows.lengths, generator)
    return replace(windows, rows=moved[held], starts=windows.lengths.cumsum(0) - windows.lengths)
