"""One model's head over one clip: features in as they come, scores out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.engine.chunks import Features
from service.engine.clip_scores import ClipScores
from service.engine.scorer import WindowScorer
from service.engine.shared import LoadedModel
from service.video.spec import ClipSpec

# Of a head like the zoo's, measured on one core; a forecast needs no more.
_TICK_SECONDS = 3.5e-6


def head_tick_seconds(spec: ClipSpec) -> float:
    """Seconds of the head for one tick of a clip: each window that covers it reads it."""
    windows = math.ceil(spec.window_frames / spec.stride_frames) if spec.window_frames and spec.stride_frames else 1
    return windows * _TICK_SECONDS


class HeadRun:
    """One model's head over one clip, with the request's windows; `seconds` of it so far."""

    def __init__(self, model: LoadedModel, spec: ClipSpec) -> None:
        self.model = model
        self.seconds = 0.0
        self.spec = spec
        self._scorer = WindowScorer(model.head, spec)

    def push(self, features: Features) -> None:
        started = time.perf_counter()
        self._scorer.push(features)
        self.seconds += time.perf_counter() - started

    def finish(self) -> ClipScores:
        started = time.perf_counter()
        scores = self._scorer.finish()
        self.seconds += time.perf_counter() - started
        return scores

    def score_alone(self, features: Features, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """A clip's own scores (K,), without the batches of others."""
        scorer = WindowScorer(self.model.lone_head, self.spec)
        for rows in pieces(ticks):
            scorer.push(features[rows])
        return scorer.finish().mean


def pieces(ticks: NDArray[np.int64], most: int = 256) -> Iterator[NDArray[np.int64]]:
    """Row numbers, each as often as it serves a tick, in pieces."""
    stops = np.cumsum(ticks)
    for start in range(0, int(stops[-1]), most):
        wanted = np.arange(start, min(start + most, int(stops[-1])))
        yield np.searchsorted(stops, wanted, side="right")
