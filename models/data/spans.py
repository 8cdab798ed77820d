"""Spans of frames, and the runs of frames that share a label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Span:
    """Frames `start` to before `stop`, and what they are."""

    start: int
    stop: int
    label: str

    def moved(self, by: int) -> Span:
        """The same, so many frames later."""
        return Span(self.start + by, self.stop + by, self.label)


def runs(labels: Iterable[str], none: str) -> list[Span]:
    """Neighbouring frames of one label as one span, in order; without those of label `none`.

    >>> runs(["none", "cut", "none", "fade", "fade"], "none")
    [Span(start=1, stop=2, label='cut'), Span(start=3, stop=5, label='fade')]
    """
    spans = []
    start = 0
    for label, frames in groupby(labels):
        stop = start + sum(1 for _ in frames)
        if label != none:
            spans.append(Span(start, stop, label))
        start = stop
    return spans
