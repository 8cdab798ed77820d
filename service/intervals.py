"""Intervals of shares."""

from __future__ import annotations

import math

_NORMAL_975 = 1.959964  # quantile of the normal distribution
_FAR = 12.0  # standard deviations beyond which nothing is left to sum in float64


def wilson(share: float, of: int) -> tuple[float, float]:
    """95 % interval of a share that was counted on `of` cases, 1 at least (Wilson 1927), in [0, 1]."""
    z2 = _NORMAL_975**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _NORMAL_975 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def binomial_low(share: float, of: int) -> int:
    """The fewest of `of` draws that come with odds of more than 2.5 %, or more of them (the binomial's quantile)."""
    if share in (0.0, 1.0):
        return round(share) * of
    mean, deviation = share * of, math.sqrt(share * (1 - share) * of)
    below = 0.0
    for count in range(max(0, math.floor(mean - _FAR * (deviation + 1))), of + 1):
        below += math.exp(
            math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
            + count * math.log(share) + (of - count) * math.log1p(-share)
        )  # fmt: skip
        if below > 0.025:
            return count
    return of
