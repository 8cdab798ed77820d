"""What a head says of a whole clip: gathered window by window, or tick by tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.engine.heads import Array
from service.video.spec import ClipSpec
from service.video.windows import Scores, Window, timeline


@dataclass(frozen=True)
class ClipScores:
    """What a head says of a whole clip, for either task; K labels.

    windows: those that the head saw, in order. scores: of a clip model (len(windows), K), each window's own; of a
    frame model (num_ticks, K), each tick's mean over the windows that cover it. cells, table: the timeline, its cells
    in order and their scores (len(cells), K); a frame model's cell is one tick.
    """

    windows: list[Window]
    scores: Scores
    cells: list[Window]
    table: Scores

    @property
    def num_ticks(self) -> int:
        """Ticks of the clip."""
        return self.cells[-1].stop

    @property
    def mean(self) -> Scores:
        """(K,): the clip's own scores, the mean over windows (clip model) or over ticks (frame model)."""
        mean: Scores = self.scores.mean(axis=0)
        return mean


class WindowScores:
    """Of a clip model: one row a window, kept as they come."""

    def __init__(self) -> None:
        self._parts: list[Array] = []

    def add(self, windows: list[Window], scores: Array) -> None:  # noqa: ARG002  (one row each: the order is enough)
        """The next windows' scores (len(windows), K)."""
        self._parts.append(scores)

    def of_clip(self, num_ticks: int, windows: list[Window], spec: ClipSpec) -> ClipScores:
        """Of a clip that these `windows` cover, cut by `spec`."""
        scores = np.concatenate(self._parts).astype(np.float64)
        stride = spec.stride_frames if len(windows) > 1 and spec.stride_frames else num_ticks
        return ClipScores(windows, scores, *timeline(num_ticks, windows, scores, stride))


class TickScores:
    """Of a frame model: sums over windows, as overlapping windows say more of each tick than a clip need keep."""

    def __init__(self) -> None:
        self._sums: Scores = np.zeros((0, 0))
        self._counts = np.zeros(0, np.int64)

    def add(self, windows: list[Window], scores: Array) -> None:
        """The next windows' scores (ΣT, K), a row a tick, window after window."""
        self._make_room(windows[-1].stop, scores.shape[1])
        at = 0
        for window in windows:
            self._sums[window.start : window.stop] += scores[at : at + window.length]
            self._counts[window.start : window.stop] += 1
            at += window.length

    def of_clip(self, num_ticks: int, windows: list[Window], spec: ClipSpec) -> ClipScores:  # noqa: ARG002  (a cell is a tick)
        """Of a clip that these `windows` cover."""
        scores = self._sums[:num_ticks] / self._counts[:num_ticks, None]
        return ClipScores(windows, scores, [Window(tick, 1) for tick in range(num_ticks)], scores)

    def _make_room(self, num_ticks: int, num_labels: int) -> None:
        held = len(self._counts)
        if num_ticks > held:
            room = max(num_ticks, 2 * held)  # doubled: room for one window at a time would copy all ticks at each
            sums, counts = np.zeros((room, num_labels)), np.zeros(room, np.int64)
            if held:
                sums[:held], counts[:held] = self._sums, self._counts
            self._sums, self._counts = sums, counts
