"""What training saw: scores of some clips, kept in the checkpoint, against which an export is held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.manifests import Clip
from models.data.targets import Targets
from models.data.windowed import windowed
from models.served import served_scores
from service.video.spec import ClipSpec

MOST_CLIPS = 24


@dataclass(frozen=True)
class TrainingClip:
    """One file as the trained networks see it.

    name: of the file, to find it by; sha256: of its bytes, which decide. scores: by label, as a client would get them:
    the mean over the clip's windows (or ticks) of what `Task.scores` gives. Labels are named: an order that was changed
    later shows. tick_scores: where ticks have labels, each one's (T, K), float32; tick_labels: their own, int64 (T).
    """

    name: str
    sha256: str
    label: str | None
    scores: dict[str, float]
    # Arrays have no single truth: of clips that are compared the sums above them decide.
    tick_scores: NDArray[np.float32] | None = field(default=None, compare=False)
    tick_labels: NDArray[np.int64] | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint: plain types and tensors only."""
        return {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @staticmethod
    def of_dict(found: Mapping[str, Any]) -> TrainingClip:
        """What `to_dict` gave."""
        arrays: dict[str, Any] = {
            name: value.numpy() if isinstance(value, Tensor) else value for name, value in found.items()
        }
        return TrainingClip(**arrays)


def chosen_clips(parts: Sequence[Sequence[Clip]]) -> list[Clip]:
    """At most 24 clips of `parts`, the first part's first, evenly over labels."""
    chosen: list[Clip] = []
    for part in parts:
        chosen += _evenly(part, MOST_CLIPS - len(chosen))
    return chosen


def training_clips(
    model: nn.Module,
    targets: Targets,
    spec: ClipSpec,
    clips: Sequence[Clip],
    features: Mapping[Path, NDArray[np.float32]],
    times: Mapping[Path, NDArray[np.float64]],
    sha256: Mapping[Path, str],
) -> tuple[TrainingClip, ...]:
    """What a head says of each clip.

    features: (T, D) by clip path, times: of their ticks, as training used them; sha256: hex, of the bytes that they
    were made of. No file is opened: all comes from what training had in its hands, whatever became of the clips
    meanwhile.
    """
    made = []
    for clip in clips:
        wanted = targets.of([clip], times)
        scores = served_scores(model, windowed([features[clip.path]], wanted, spec), targets.task)
        every_tick = targets.task.every_tick
        made.append(
            TrainingClip(
                clip.path.name,
                sha256[clip.path],
                clip.label if targets.task.name == "label" else None,
                dict(zip(targets.labels, scores.mean(dim=0).tolist(), strict=True)),
                scores.numpy() if every_tick else None,
                wanted.numpy() if every_tick else None,
            )
        )
    return tuple(made)


def _evenly(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most `most`: one of each label, then a second, and so on to each label's end; a label's are far apart."""
    by_label: dict[str, list[Clip]] = {}
    for clip in clips:
        by_label.setdefault(clip.label, []).append(clip)
    turns = [(rank, label) for rank in range(len(clips)) for label in by_label if rank < len(by_label[label])][:most]
    counts = Counter(label for _, label in turns)
    return [by_label[label][rank * len(by_label[label]) // counts[label]] for rank, label in turns]
