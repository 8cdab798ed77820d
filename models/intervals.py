"""95 % intervals of figures on clips, bootstrapped by group: clips of one source video are alike (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ENDS = (0.025, 0.975)
_RATIO_RESAMPLES = 10_000
_RESAMPLES = 1_000
# Of groups at once: ten thousand groups ten thousand times would take gigabytes.
_MOST_PICKS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval. Where all clips are of one group, both ends are the figure."""

    value: float
    low: float
    high: float


def ratio_interval(
    numerators: NDArray[np.floating] | NDArray[np.integer],
    denominators: NDArray[np.floating] | NDArray[np.integer],
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = _RATIO_RESAMPLES,
) -> Interval:
    """Of Σ numerators ÷ Σ denominators, both (C), one a clip; a mean over clips has denominators of 1.

    groups: of the clips (C). Resamples whose denominators are all 0 are passed over; where all are, all is 0.
    """
    names, index = np.unique(np.array(groups), return_inverse=True)
    above, below = np.bincount(index, weights=numerators), np.bincount(index, weights=denominators)
    random, sums = np.random.default_rng(seed), []
    at_once = max(1, _MOST_PICKS // len(names))
    for start in range(0, resamples, at_once):
        picks = random.integers(0, len(names), (min(at_once, resamples - start), len(names)))
        sums.append((above[picks].sum(axis=1), below[picks].sum(axis=1)))
    drawn_above, drawn_below = np.concatenate(sums, axis=1)
    some = drawn_below > 0
    if not some.any():
        return Interval(0.0, 0.0, 0.0)
    low, high = np.quantile(drawn_above[some] / drawn_below[some], _ENDS)
    return Interval(float(np.sum(numerators) / np.sum(denominators)), float(low), float(high))


def resampled_interval(
    figure: Callable[[NDArray[np.int64]], float], groups: Sequence[str], seed: int = 0, resamples: int = _RESAMPLES
) -> Interval:
    """Of any figure. figure: of clips by index, each as often as it is drawn; where it is NaN, it is passed over.

    groups: of the clips (C).
    """
    found = np.array([figure(drawn) for drawn in _drawn(groups, seed, resamples)])
    value = figure(np.arange(len(groups)))
    if np.isnan(found).all():
        return Interval(value, value, value)
    low, high = np.nanquantile(found, _ENDS)
    return Interval(value, float(low), float(high))


def _drawn(groups: Sequence[str], seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    names, index = np.unique(np.array(groups), return_inverse=True)
    members = [np.flatnonzero(index == number) for number in range(len(names))]
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.concatenate([members[pick] for pick in random.integers(0, len(names), len(names))])
