"""Windows over ticks, the timeline of cells, and segments: pure integer functions.

Window i covers ticks [i·stride, i·stride + window); a remainder is covered by a last window anchored at
the end; a shorter clip is one window. A timeline cell of a clip model is `stride` ticks, scored by the mean of the
windows that contain it; a frame model's is one tick. A segment is a run of cells with one label: the arg-max of the
cell's scores, unless its run is so short that a neighbour absorbs it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.video.spec import ClipSpec

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """Ticks [start, start + length)."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        """First tick after the window."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Run:
    """Ticks [start, stop) that share one label, and that label's mean score over their cells."""

    start: int
    stop: int
    label_index: int
    score: float


def cover(num_ticks: int, spec: ClipSpec) -> list[Window]:
    """The windows of a clip of `num_ticks` (>= 1) ticks, in order; every tick is covered."""
    if num_ticks < 1:
        raise ValueError(f"num_ticks is {num_ticks}; a clip has at least 1")
    window, stride = spec.window_frames, spec.stride_frames
    if window is None or stride is None or num_ticks <= window:
        return [Window(0, num_ticks)]
    windows = [Window(start, window) for start in range(0, num_ticks - window + 1, stride)]
    if windows[-1].stop < num_ticks:
        windows.append(Window(num_ticks - window, window))
    return windows


def timeline(
    num_ticks: int, windows: list[Window], scores: NDArray[np.floating], stride: int
) -> tuple[list[Window], Scores]:
    """Cells of `stride` ticks (the last may be shorter) and their scores.

    scores: (len(windows), K). Returns the cells and their scores (cells, K), float64.
    """
    starts = np.arange(0, num_ticks, stride)
    stops = np.minimum(starts + stride, num_ticks)
    first = np.searchsorted([w.stop for w in windows], stops)  # both rise, and so do the windows' starts
    last = np.searchsorted([w.start for w in windows], starts, side="right")
    rows = np.concatenate([scores, np.zeros((1, scores.shape[1]))])  # so that `last` is a row in any case
    sums = np.add.reduceat(rows, np.stack([first, last], axis=1).ravel(), axis=0)[::2]
    table: Scores = sums / (last - first)[:, None]
    return [Window(a, b - a) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)], table


def smooth(scores: Scores, width: int) -> Scores:
    """Centred moving mean over `width` (odd) cells of scores (cells, K); at the edges over the cells that there are."""
    reach = min(width // 2, len(scores) - 1)
    if reach == 0:
        return scores
    sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
    at = np.arange(len(scores))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(scores))
    smoothed: Scores = (sums[last] - sums[first]) / (last - first)[:, None]
    return smoothed


def absorb(labels: Labels, edges: NDArray[np.int64], scores: Scores, least: int) -> Labels:
    """Labels (cells,) in which no run is shorter than `least`, unless one run is all there is.

    edges: (cells + 1,), where each cell begins and the last one ends, in ticks or in microseconds, as `least` is.
    The shortest run goes first, of equal ones the earliest. Of its two neighbours the one takes it whose label has
    the higher mean score over the run's cells, of equal ones the earlier; neighbours with one label become one run,
    and so on until none is too short. scores: (cells, K).
    """
    if least <= 1:
        return labels
    labels, at_edge, num_cells = labels.copy(), edges.tolist(), len(labels)
    turns = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), num_cells]
    stop = dict(zip(turns, turns[1:], strict=False))  # of the run that starts there, both as numbers of cells
    before = dict(zip(turns[1:], turns, strict=False))  # the start of the run that stops there

    def queued(start: int) -> tuple[int, int, int]:
        return at_edge[stop[start]] - at_edge[start], start, stop[start]

    queue = [queued(start) for start in turns[:-1]]
    heapq.heapify(queue)
    while queue:
        length, start, end = heapq.heappop(queue)
        if length >= least or len(stop) == 1:
            break
        if stop.get(start) != end:
            continue  # it was absorbed, or grew, since it was queued
        beside = [labels[at] for at in (start - 1, end) if 0 <= at < num_cells]
        means = scores[start:end, beside].mean(axis=0)
        labels[start:end] = label = beside[int(means.argmax())]
        if end < num_cells and labels[end] == label:
            end = stop.pop(end)
        if start > 0 and labels[start - 1] == label:
            del stop[start]
            start = before[start]
        stop[start], before[end] = end, start
        heapq.heappush(queue, queued(start))
    return labels


def runs(cells: list[Window], scores: Scores, labels: Labels | None = None) -> list[Run]:
    """Neighbouring cells with one label, merged; scores (cells, K), labels (cells,) or each cell's arg-max."""
    best = scores.argmax(axis=1) if labels is None else labels
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(cells)]
    return [
        Run(cells[a].start, cells[b - 1].stop, int(best[a]), float(scores[a:b, best[a]].mean()))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
