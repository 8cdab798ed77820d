"""Windows of the clips trained on, validated on and tested on, cut by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.manifests import Clip, hold_out
from models.data.targets import Targets
from models.data.windowed import WindowSet, windowed
from service.video.spec import ClipSpec


@dataclass(frozen=True)
class Parts:
    """Windows of the clips trained on, validated on and tested on, and the clips themselves but for all of train.

    `all_train` is train and validation together: what the final weights are trained on.
    """

    train: WindowSet
    validation: WindowSet
    all_train: WindowSet
    test: WindowSet | None
    test_clips: list[Clip]
    train_clips: list[Clip] = field(default_factory=list)
    validation_clips: list[Clip] = field(default_factory=list)


def cut(
    clips: list[Clip],
    rows: Mapping[Path, NDArray[Any]],
    targets: Targets,
    spec: ClipSpec,
    validation_fraction: float,
    validation_seed: int,
    times: Mapping[Path, NDArray[np.float64]] | None = None,
) -> Parts:
    """Cut *train* by group into training and validation.

    rows: by clip path, (T, …) each; times: of their ticks, seconds, where targets are of ticks. Raises DatasetError.
    """

    def windows_of(part: list[Clip]) -> WindowSet:
        return windowed([rows[c.path] for c in part], targets.of(part, times or {}), spec)

    all_train = [c for c in clips if c.split == "train"]
    everything = windows_of(all_train)
    if targets.task.every_tick:
        targets.refuse_unseen(everything.targets)
    train, validation = hold_out(all_train, validation_fraction, validation_seed, _strata(all_train, targets))
    test = [c for c in clips if c.split == "test"]
    return Parts(
        windows_of(train),
        windows_of(validation),
        everything,
        windows_of(test) if test else None,
        test,
        train,
        validation,
    )


def _strata(clips: Sequence[Clip], targets: Targets) -> Callable[[Clip], tuple[str, ...]]:
    """Clips that have none of several labels are a stratum of their own, where they can be cut in two."""
    without = {clip.group for clip in clips if not targets.strata(clip)}
    return (lambda clip: targets.strata(clip) or ("",)) if len(without) > 1 else targets.strata
