"""What features and scores looked like in training, for whoever serves the model: is what comes in still like that?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCORE_BINS = 20  # SCORE_BINS of service.statistics; a test holds them equal


def training_statistics(
    features: list[NDArray[np.float32]], validation_scores: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """Arrays by name, as `service.statistics.TrainingStatistics` has them.

    features: (T, D) of each training clip. validation_scores: (C, K) of clips that the network did not train on.
    Sums are in float64, clip by clip: no copy of all features is made.
    """
    num_ticks = sum(map(len, features))
    mean = sum(rows.sum(axis=0, dtype=np.float64) for rows in features) / num_ticks
    variance = sum(((rows - mean) ** 2).sum(axis=0) for rows in features) / num_ticks
    num_labels = validation_scores.shape[1]
    return {
        "feature_mean": np.asarray(mean, np.float32),
        "feature_std": np.sqrt(np.asarray(variance)).astype(np.float32),
        "num_ticks": np.array([num_ticks], np.int64),
        "best_scores": np.histogram(validation_scores.max(axis=1), bins=_SCORE_BINS, range=(0, 1))[0].astype(np.int64),
        "labels": np.bincount(validation_scores.argmax(axis=1), minlength=num_labels).astype(np.int64),
    }
