"""What is to be learned of clips, as tensors: by the task of the recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.manifests import Clip, labels_to_learn
from models.data.segments import Segment, segment_labels, tick_labels
from models.errors import DatasetError
from models.tasks import TASKS, Task

# Between the labels of one clip, as in `running|outdoors`.
SEPARATOR = "|"


@dataclass(frozen=True)
class Targets:
    """A task, its labels in order, and what its targets are made of.

    labels: of `value` the names of the columns. segments: of `tick_label`, by path; background: its label of ticks in
    no segment; widen: see `models.data.segments.tick_labels`.
    """

    task: Task
    labels: tuple[str, ...]
    segments: Mapping[Path, Sequence[Segment]] = field(default_factory=dict)
    background: str = ""
    widen: int = 0

    def of(self, clips: Sequence[Clip], times: Mapping[Path, NDArray[np.float64]]) -> Tensor:
        """(C) int64, (C, K) float32, or (R) int64 a tick. times: of each clip's ticks, seconds (T).

        Raises DatasetError.
        """
        if self.task.name == "label":
            return torch.tensor([self.labels.index(clip.label) for clip in clips], dtype=torch.int64)
        if self.task.name == "labels":
            rows = [[float(label in labels_of(clip)) for label in self.labels] for clip in clips]
            return torch.tensor(rows, dtype=torch.float32)
        if self.task.name == "value":
            return torch.tensor([_numbers(clip) for clip in clips], dtype=torch.float32)
        parts = [
            tick_labels(times[clip.path], self.segments.get(clip.path, ()), self.labels, self.background, self.widen)
            for clip in clips
        ]
        return torch.from_numpy(np.concatenate(parts))

    def refuse_unseen(self, targets: Tensor) -> None:
        """Of ticks: labels that no tick of train has, (R), as their segments lie between two ticks. DatasetError."""
        seen = targets.bincount(minlength=len(self.labels))
        for label, count in zip(self.labels, seen.tolist(), strict=True):
            if not count and label != self.background:
                raise DatasetError(
                    f"label {label} has no tick in train: its segments lie between two ticks, or behind the ends of "
                    "their clips; raise sample_fps, or correct the segments"
                )

    def strata(self, clip: Clip) -> tuple[str, ...]:
        """What a cut holds a share of on each side: its labels; where they are none of clips, all alike: ''."""
        if self.task.name == "label":
            return (clip.label,)
        return labels_of(clip) if self.task.name == "labels" else ("",)


def targets_of(
    task: str,
    clips: Sequence[Clip],
    columns: tuple[str, ...] = (),
    segments: Mapping[Path, Sequence[Segment]] | None = None,
    background: str = "none",
    widen: int = 0,
) -> Targets:
    """The targets that these clips have. columns: names of a `value`'s numbers. Raises DatasetError."""
    if task == "value":
        for clip in clips:
            if len(found := _numbers(clip)) != len(columns):
                raise DatasetError(
                    f"{clip.path}: {clip.label!r} is {len(found)} numbers, and {len(columns)} are learned "
                    f"({', '.join(columns)}); give each a column, and name it in columns"
                )
        return Targets(TASKS[task], columns)
    if task == "tick_label":
        sides = {
            side: segment_labels({c.path: (segments or {}).get(c.path, ()) for c in clips if c.split == side})
            for side in ("train", "test")
        }
        spoken = sides["train"] - {background}
        _refuse_unknown(sides["test"] - spoken - {background})
        if not spoken:
            raise DatasetError("no segment of train has a label; a model of ticks needs one at least")
        return Targets(TASKS[task], (background, *sorted(spoken)), segments or {}, background, widen)
    if task == "labels":
        sides = {
            side: {label for c in clips if c.split == side for label in labels_of(c)} for side in ("train", "test")
        }
        _refuse_unknown(sides["test"] - sides["train"])
        if len(sides["train"]) < 2:
            raise DatasetError(f"a model needs at least 2 labels in train; there are {', '.join(sides['train'])}")
        return Targets(TASKS[task], tuple(sorted(sides["train"])))
    return Targets(TASKS[task], labels_to_learn(clips))


def _refuse_unknown(labels: Iterable[str]) -> None:
    """Labels of test that train has not."""
    if unknown := sorted(labels):
        raise DatasetError(f"label {unknown[0]} is in test only; no model can learn it: add clips of it to train")


def labels_of(clip: Clip) -> tuple[str, ...]:
    """Of a clip with several labels; an empty one among them counts for nothing."""
    return tuple(dict.fromkeys(filter(None, (word.strip() for word in clip.label.split(SEPARATOR)))))


def _numbers(clip: Clip) -> list[float]:
    numbers = []
    for word in clip.label.split(SEPARATOR):
        try:
            numbers.append(float(word))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise DatasetError(f"{clip.path}: {word!r} is no number; the task `value` learns numbers")
    return numbers
