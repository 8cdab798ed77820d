"""How good scores are: the figures of each task with intervals over groups, and a row a label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.manifests import has_column, read
from models.errors import EvaluationError
from models.intervals import Interval, ratio_interval, resampled_interval
from models.report.confusion import confusion
from models.report.tested import Tested
from models.report.word_errors import served_runs, word_errors, words_of
from models.tasks import average_precisions

# Of several labels those that score more are said.
SAID_FROM = 0.5


@dataclass(frozen=True)
class Figure:
    """name: what is measured. of: on what, in words. is_share: it is said in %."""

    name: str
    interval: Interval
    of: str
    is_share: bool = True

    @property
    def value(self) -> str:
        """For people."""
        return shown(self.interval.value, is_share=self.is_share)

    @property
    def ends(self) -> str:
        """Of the 95 % interval, for people."""
        low, high = (shown(end, is_share=self.is_share) for end in (self.interval.low, self.interval.high))
        return f"{low} to {high}"


@dataclass(frozen=True)
class LabelTable:
    """A row a label, the first cell its name, for people."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def shown(value: float, *, is_share: bool = True) -> str:
    """In % or as a number; – where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" if is_share else f"{value:.4g}"


def figures_of(tested: Tested, scores: NDArray[np.floating], shortest_seconds: float = 0.0) -> list[Figure]:
    """The task's measure first. scores: of the tested clips, as `Tested.scores`, of this model or of another one.

    shortest_seconds: of the runs that become words, as `min_segment_seconds` of a request.
    """
    task, truths, groups = tested.targets.task.name, tested.truths, tested.groups
    ones, clips = np.ones(len(groups)), f"{len(groups)} clips"
    if task == "label":
        right = scores.argmax(axis=1) == truths
        return [Figure("accuracy", ratio_interval(right, ones, groups), f"{right.sum()} of {clips}")]
    if task == "tick_label":
        return _of_ticks(tested, scores, shortest_seconds)
    if task == "labels":

        def mean_precision(drawn: NDArray[np.int64]) -> float:
            return _mean(_precisions(scores[drawn], truths[drawn]))

        return [Figure("mean average precision", resampled_interval(mean_precision, groups), clips)]
    error = np.abs(scores - truths).mean(axis=1)
    squared = resampled_interval(lambda drawn: _mean(r_squared(scores[drawn], truths[drawn])), groups)
    return [
        Figure("mean absolute error", ratio_interval(error, ones, groups), clips, is_share=False),
        Figure("R²", squared, clips, is_share=False),
    ]


def per_label(tested: Tested) -> LabelTable:
    """What each label's own figures are."""
    labels, task, truths, scores = tested.targets.labels, tested.targets.task, tested.truths, tested.scores
    if task.name == "value":
        squared = r_squared(scores, truths)
        errors = np.abs(scores - truths).mean(axis=0)
        numbers = zip(errors.tolist(), squared.tolist(), strict=True)
        return LabelTable(
            ("number", "mean absolute error", "R²"),
            [(name, *(shown(v, is_share=False) for v in each)) for name, each in zip(labels, numbers, strict=True)],
        )
    if task.name == "labels":
        said = scores > SAID_FROM
        hits, true, claimed = (said & (truths > 0)).sum(axis=0), (truths > 0).sum(axis=0), said.sum(axis=0)
        found = zip(_precisions(scores, truths).tolist(), *_shares(hits, true, claimed), strict=True)
        return LabelTable(
            ("label", "clips", "average precision", "precision", "recall", "F1"),
            [(name, str(n), *map(shown, each)) for name, n, each in zip(labels, true.tolist(), found, strict=True)],
        )
    matrix = confusion(truths, scores.argmax(axis=1), len(labels))
    true = matrix.sum(axis=1)
    found = zip(*_shares(matrix.diagonal(), true, matrix.sum(axis=0)), strict=True)
    return LabelTable(
        ("label", "ticks" if task.every_tick else "clips", "precision", "recall", "F1"),
        [(name, str(n), *map(shown, each)) for name, n, each in zip(labels, true.tolist(), found, strict=True)],
    )


def column_of(data: Path, column: str) -> dict[Path, str]:
    """What a manifest says in a column, by clip. Raises EvaluationError where it has none of that name."""
    if not has_column(data, column):
        raise EvaluationError(f"{data} has no column {column!r}; --by names one of a manifest")
    return {clip.path: clip.label for clip in read(data, None, columns=(column,), refuse_leaks=False)}


def per_value(tested: Tested, column: str, values: Mapping[Path, str]) -> LabelTable:
    """The accuracy of the clips of each value, with an interval over their groups. Raises EvaluationError where clips
    have not one label each.
    """
    if tested.targets.task.name != "label":
        raise EvaluationError(f"--by is for clips of one label, and these have the task {tested.targets.task.name!r}")
    right, groups = tested.scores.argmax(axis=1) == tested.truths, np.array(tested.groups)
    of_clip = np.array([values[clip.path] for clip in tested.clips])
    rows: list[tuple[str, ...]] = []
    for value in sorted(set(of_clip)):
        mine = of_clip == value
        found = Figure("", ratio_interval(right[mine], np.ones(mine.sum()), groups[mine].tolist()), "")
        rows.append((str(value), str(mine.sum()), found.value, found.ends))
    return LabelTable((column, "clips", "accuracy", "95 % interval"), rows)


def r_squared(scores: NDArray[np.floating], truths: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 − squared error ÷ variance of each number (K); NaN where it is the same in all clips. Both: (C, K)."""
    left = ((truths - scores) ** 2).sum(axis=0, dtype=np.float64)
    spread = ((truths - truths.mean(axis=0)) ** 2).sum(axis=0, dtype=np.float64)
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), math.nan)


def _of_ticks(tested: Tested, scores: NDArray[np.floating], shortest_seconds: float) -> list[Figure]:
    targets, groups = tested.targets, tested.groups
    background = targets.labels.index(targets.background)
    right = tested.by_clip(scores.argmax(axis=1) == tested.truths)
    spoken = tested.by_clip(tested.truths != background)
    counts = np.array([(r.sum(), len(r), (r & s).sum(), s.sum()) for r, s in zip(right, spoken, strict=True)])
    errors, words = np.array(_word_counts(tested, scores, shortest_seconds)).T
    inside = ratio_interval(counts[:, 2], counts[:, 3], groups)
    found = [
        Figure("accuracy of ticks", ratio_interval(counts[:, 0], counts[:, 1], groups), f"{counts[:, 1].sum()} ticks"),
        Figure("accuracy of ticks in segments", inside, f"{counts[:, 3].sum()} ticks"),
    ]
    if words.any():
        found.append(Figure("word error rate", ratio_interval(errors, words, groups), f"{words.sum()} words"))
    return found


def _word_counts(tested: Tested, scores: NDArray[np.floating], shortest_seconds: float) -> list[tuple[int, int]]:
    """Of each clip: errors, and words of its segments; those that touch are words of their own."""
    targets = tested.targets
    counts = []
    for clip, of_clip in zip(tested.clips, tested.by_clip(scores), strict=True):
        reference = [s.label for s in targets.segments.get(clip.path, ()) if s.label != targets.background]
        found = served_runs(of_clip, tested.tick_times(clip), shortest_seconds)
        counts.append((word_errors(reference, words_of(found, targets.labels, targets.background)), len(reference)))
    return counts


def _precisions(scores: NDArray[np.floating], truths: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array(average_precisions(torch.from_numpy(scores), torch.from_numpy(truths)))


def _shares(
    hits: NDArray[np.integer], true: NDArray[np.integer], claimed: NDArray[np.integer]
) -> tuple[Sequence[float], ...]:
    """Precision, recall and F1 of each label; NaN where it is never claimed, never true, or neither."""
    with np.errstate(invalid="ignore"):
        return (hits / claimed).tolist(), (hits / true).tolist(), (2 * hits / (true + claimed)).tolist()


def _mean(values: NDArray[np.float64]) -> float:
    return math.nan if np.isnan(values).all() else float(np.nanmean(values))
