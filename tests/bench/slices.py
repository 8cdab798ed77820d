"""Sides of one comparison, alternated in slices: machines drift by 15 %, and a ratio within a round does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Side:
    """One way to do the same work. `run` does it once and returns the frames walked."""

    name: str
    run: Callable[[], int]


def alternate(sides: Sequence[Side], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Frames per second by side, one figure a round.

    Each round runs every side for a slice: whole passes until `seconds` are over. Every second round goes
    backwards, so that no side always follows the same one. One pass each comes first, unmeasured.
    """
    print(f"load before: {os.getloadavg()[0]:.1f}; above 0.5 or so, others share the cores and no figure holds")
    walked = {side.name: side.run() for side in sides}
    if len(set(walked.values())) > 1:
        raise RuntimeError(f"the sides don't walk the same frames: {walked}")
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            rates[side.name].append(_slice(side, seconds))
    return rates


def ratio(rates: Sequence[float], reference: Sequence[float]) -> str:
    """Median of the ratios within each round, and their quartiles."""
    low, middle, high = np.percentile(np.divide(rates, reference), (25, 50, 75))
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def _slice(side: Side, seconds: float) -> float:
    frames, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not frames:
        frames += side.run()
    return frames / elapsed
