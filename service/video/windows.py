"""Windows over ticks, the timeline of cells, and segments: pure integer functions.

Window i covers ticks [i·stride, i·stride + window); a remainder is covered by a last window anchored at
the end; a shorter clip is one window. A timeline cell of a clip model is `stride` ticks, scored by the mean of the
windows that contain it; a frame model's is one tick. A segment is a run of cells with one arg-max.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.video.spec import ClipSpec


@dataclass(frozen=True)
class Window:
    """Ticks [start, start + length)."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        """First tick after the window."""
        return self.start + self.length


@dataclass(frozen=True)
class Run:
    """Ticks [start, stop) that share one arg-max class, and that class's mean score over its cells."""

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
) -> tuple[list[Window], NDArray[np.float64]]:
    """Cells of `stride` ticks (the last may be shorter) and their scores.

    scores: (len(windows), K). Returns the cells and their scores (cells, K), float64.
    """
    cells = [Window(start, min(stride, num_ticks - start)) for start in range(0, num_ticks, stride)]
    table = np.empty((len(cells), scores.shape[1]), np.float64)
    starts, stops = [w.start for w in windows], [w.stop for w in windows]  # both rise
    for row, cell in enumerate(cells):
        first, last = bisect_left(stops, cell.stop), bisect_right(starts, cell.start)
        table[row] = scores[first:last].mean(axis=0, dtype=np.float64)
    return cells, table


def runs(cells: list[Window], scores: NDArray[np.float64]) -> list[Run]:
    """Neighbouring cells with one arg-max, merged; scores (cells, K)."""
    best = scores.argmax(axis=1)
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(cells)]
    return [
        Run(cells[a].start, cells[b - 1].stop, int(best[a]), float(scores[a:b, best[a]].mean()))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
