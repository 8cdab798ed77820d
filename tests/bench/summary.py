"""Answers in few numbers: quantiles of times, and counts by outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tests.bench.load import Answer

OK = 200


@dataclass(frozen=True)
class Quantiles:
    """Of times, milliseconds; all zero where there are none."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    worst_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Quantiles:
        """numpy's linear quantiles of times in seconds."""
        values = np.fromiter(seconds, float)
        if not len(values):
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        return cls(len(values), *(round(float(q) * 1e3, 3) for q in np.percentile(values, (50, 95, 99, 100))))

    def __str__(self) -> str:
        return (
            f"p50 {self.p50_ms:.1f}, p95 {self.p95_ms:.1f}, p99 {self.p99_ms:.1f}, worst {self.worst_ms:.1f} ms "
            f"of {self.count}"
        )


def outcome(answer: Answer) -> str:
    """`200`, `429 busy`, or `lost ConnectionResetError`."""
    return f"{answer.status} {answer.code}".strip() if answer.status else f"lost {answer.lost}"


def outcomes(answers: Iterable[Answer]) -> dict[str, int]:
    """How many of each, the most first."""
    return dict(Counter(map(outcome, answers)).most_common())


def answered(answers: Iterable[Answer]) -> list[Answer]:
    """Those with status 200."""
    return [answer for answer in answers if answer.status == OK]


def rate(answers: Iterable[Answer], start: float, stop: float) -> float:
    """Good answers a second that were whole in [start, stop), times of `time.perf_counter`."""
    return sum(start <= answer.ended < stop for answer in answered(answers)) / (stop - start)


def only_ok(answers: list[Answer], what: str) -> list[Answer]:
    """The answers; RuntimeError where one is not a 200, as the figure would mean nothing."""
    if len(answered(answers)) < len(answers) or not answers:
        raise RuntimeError(f"{what}: not every answer is a 200: {outcomes(answers)}")
    return answers
