"""How far two arrays are apart, as certificates and known answers count it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Features have any scale: the largest of them is what a difference is relative to, however small it is.
SMALL = 1e-6


def difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Largest absolute difference; infinite where a number is not one, as `max` would lose a NaN, or shapes differ."""
    if a.shape != b.shape:
        return math.inf
    with np.errstate(invalid="ignore"):  # infinity less infinity
        largest = float(np.abs(a.astype(np.float64) - b).max())
    return largest if math.isfinite(largest) else math.inf


def relative_difference(a: NDArray[np.floating], wanted: NDArray[np.floating], at_least: float = 1.0) -> float:
    """Largest absolute difference, as a share of the largest value wanted (or of `at_least`, where that is larger)."""
    largest = difference(a, wanted)
    return largest / max(float(np.abs(wanted).max()), at_least) if math.isfinite(largest) else largest
