"""A checkpoint of any task, and what it says of the clips that it is tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.checkpoint import Checkpoint
from models.data.loading import Loaded, load_clips
from models.data.manifests import Clip, read
from models.data.segments import read_segments, segments_file
from models.data.targets import SEPARATOR, Targets, labels_of
from models.data.windowed import WindowSet, windowed
from models.errors import DatasetError, EvaluationError
from models.heads import SequenceHead
from models.recipe import TaskSettings
from models.report.screen import say
from models.served import served_scores
from models.tasks import TASKS
from service.video.ticks import TickTimes

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Asked:
    """What is tested, and on what.

    split: manifest column; use_all: all clips, whatever their part, as of a tree. segments: None: segments.csv beside
    the data. store: folder of features.
    """

    checkpoint: Path
    data: Path
    split: str
    store: Path
    segments: Path | None = None
    use_all: bool = False


@dataclass(frozen=True)
class Tested:
    """clips: those tested (C), in the order of `windows`. scores: as served, float32, (C, K), or (R, K) of ticks.

    of: what is counted, in words. has_train: `loaded` has clips of train, which were not tested.
    """

    held: Checkpoint
    model: SequenceHead
    targets: Targets
    loaded: Loaded
    clips: list[Clip]
    windows: WindowSet
    scores: NDArray[np.float32]
    of: str
    has_train: bool

    @property
    def truths(self) -> NDArray[Any]:
        """As the task has targets: (C) int64, (C, K) float32, or (R) int64 of ticks."""
        truths: NDArray[Any] = self.windows.targets.numpy()
        return truths

    @property
    def groups(self) -> list[str]:
        """Of the clips (C)."""
        return [clip.group for clip in self.clips]

    def by_clip(self, ticks: NDArray[Kind]) -> list[NDArray[Kind]]:
        """Rows of ticks (R, …), clip by clip."""
        return np.split(ticks, np.cumsum([len(self.loaded.features[clip.path]) for clip in self.clips])[:-1])

    def tick_times(self, clip: Clip) -> TickTimes:
        """When its ticks are. Of frames that are ticks the last is shown as long as the one before it."""
        times, rate = self.loaded.times[clip.path], self.held.spec.sample_fps
        step = 1 / rate if rate else float(times[-1] - times[-2]) if len(times) > 1 else 0.0
        return TickTimes(rate, float(times[0]), float(times[-1]) + step, times)


def load_tested(asked: Asked, console: Console) -> Tested:
    """Features of the clips, extracted where they are not stored yet, and what the checkpoint says of the test part.

    Of a tree, and with `use_all`, of all clips; that they may be training clips is said. Raises CheckpointError,
    DatasetError, FeatureError, EvaluationError.
    """
    held = Checkpoint.load(asked.checkpoint)
    if (held.head_dims.pooling == "none") != TASKS[held.task].every_tick:
        answers, other = ("a clip", "frames") if TASKS[held.task].every_tick else ("every frame", "whole clips")
        raise EvaluationError(
            f"{asked.checkpoint} answers for {answers}, and its task {held.task!r} is of {other}; train it again"
        )
    use_all = asked.use_all or asked.data.is_dir()
    settings = TaskSettings(**held.training.get("recipe", {}).get("task", {"kind": held.task}))
    clips = read(
        asked.data, None if use_all else asked.split, columns=settings.names, empty_labels=held.task == "labels"
    )
    targets = _targets(held, settings, asked, clips, console)
    _refuse_unknown(clips, targets, asked.data)
    chosen = [clip for clip in clips if use_all or clip.split == "test"]
    if not chosen:
        raise EvaluationError(
            f"{asked.data}: no clip is `test` in column {asked.split}; name another --split, or take --all"
        )
    if use_all:
        trained_on = held.training.get("data_path") == str(asked.data.resolve())
        words = "it was trained on these" if trained_on else "it may have been trained on these"
        say(console, f"all {len(chosen)} clips are taken, and {words}: no figure for new clips", "yellow")
    loaded = load_clips(clips, held.spec, held.encoder(), asked.store, console, labels_of=targets.strata)
    tested = loaded.of(chosen)
    windows = windowed([loaded.features[clip.path] for clip in tested], targets.of(tested, loaded.times), held.spec)
    model = held.head()
    scores = served_scores(model, windows, targets.task).numpy()
    of = f"{len(tested)} clips, all there are" if use_all else f"{len(tested)} test clips"
    has_train = not use_all and any(clip.split == "train" for clip in loaded.clips)
    return Tested(held, model, targets, loaded, tested, windows, scores, of, has_train)


def _targets(
    held: Checkpoint, settings: TaskSettings, asked: Asked, clips: Sequence[Clip], console: Console
) -> Targets:
    if held.task != "tick_label":
        return Targets(TASKS[held.task], held.labels)
    segments = read_segments(
        segments_file(asked.data, asked.segments), clips, lambda text: say(console, text, "yellow")
    )
    return Targets(TASKS[held.task], held.labels, segments, settings.background, settings.widen_ticks)


def _refuse_unknown(clips: Iterable[Clip], targets: Targets, data: Path) -> None:
    for clip in clips:
        if targets.task.name == "value":
            found = len(clip.label.split(SEPARATOR))
            if found != len(targets.labels):
                raise DatasetError(
                    f"{data}: {clip.path.name} has {found} number(s), and the checkpoint gives {len(targets.labels)}: "
                    f"{', '.join(targets.labels)}"
                )
            continue
        for label in _labels_of(clip, targets):
            if label not in targets.labels:
                raise DatasetError(
                    f"{data}: label {label!r} ({clip.path.name}) is unknown to the checkpoint; it knows "
                    f"{', '.join(targets.labels)}"
                )


def _labels_of(clip: Clip, targets: Targets) -> Sequence[str]:
    if targets.task.every_tick:
        return [segment.label for segment in targets.segments.get(clip.path, ())]
    return labels_of(clip) if targets.task.name == "labels" else (clip.label,)
