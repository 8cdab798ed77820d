"""What training's own features and scores looked like: what a service sees can be held against it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.arrays import npz_bytes, read_npz
from service.bundle import EncoderDocument, ModelDocument

SCORE_BINS = 20


@dataclass(frozen=True)
class TrainingStatistics:
    """Of training's ticks and of its validation clips.

    feature_mean, feature_std: float32 (D), over all ticks of the training part. num_ticks: int64 (1), how many.
    best_scores: int64 (20), clips of validation by their best score, in equal bins of [0, 1], after calibration.
    labels: int64 (K), clips of validation by their best label.
    """

    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    num_ticks: NDArray[np.int64]
    best_scores: NDArray[np.int64]
    labels: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """A compressed .npz; the same statistics give the same bytes."""
        return npz_bytes(**vars(self))

    @classmethod
    def read(cls, path: Path, model: ModelDocument, encoder: EncoderDocument) -> TrainingStatistics:
        """Raises BundleError where it can't be read, or is of another encoder or head."""
        return cls(**read_npz(path, _shapes(encoder.feature_size, len(model.labels))))


def _shapes(feature_size: int, num_labels: int) -> dict[str, tuple[Any, tuple[int | None, ...]]]:
    return {
        "feature_mean": (np.float32, (feature_size,)),
        "feature_std": (np.float32, (feature_size,)),
        "num_ticks": (np.int64, (1,)),
        "best_scores": (np.int64, (SCORE_BINS,)),
        "labels": (np.int64, (num_labels,)),
    }
