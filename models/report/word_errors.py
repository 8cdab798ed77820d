"""Labels in time as words: in what order, by the runs that the service cuts, and how many of them are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.video.ticks import TickTimes
from service.video.windows import Run, Window, absorb, runs


def served_runs(scores: NDArray[np.floating], times: TickTimes, shortest_seconds: float = 0.0) -> list[Run]:
    """The runs of a clip's ticks, as the service answers with `min_segment_seconds`; scores: (T, K)."""
    table = scores.astype(np.float64)
    cells = [Window(tick, 1) for tick in range(len(table))]
    labels = table.argmax(axis=1)
    if shortest_seconds > 0:
        edges, least = times.measured(cells, shortest_seconds)
        labels = absorb(labels, edges, table, least)
    return runs(cells, table, labels)


def words_of(found: Sequence[Run], labels: Sequence[str], background: str) -> list[str]:
    """The labels of the runs, in order, without the background."""
    return [labels[run.label_index] for run in found if labels[run.label_index] != background]


def word_errors(reference: Sequence[str], said: Sequence[str]) -> int:
    """Words to exchange, to leave out and to put in until they are alike, as few as can be (Levenshtein 1966).

    The word error rate is their sum over all clips ÷ the words of all references; it may be above 1.
    """
    costs = list(range(len(said) + 1))
    for row, word in enumerate(reference, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(said, start=1):
            exchanged = diagonal + (word != other)
            diagonal = costs[column]
            costs[column] = min(exchanged, costs[column] + 1, costs[column - 1] + 1)
    return costs[-1]
