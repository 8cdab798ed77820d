"""The shadow check: one answer in N is computed once more, alone, and must come out the same.

An answer must not depend on the clips that shared its batches. Tests and the certificate hold that before, this watches
it in production: drivers, thread counts and kernels change there.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from service.give_way import give_way
from service.metrics import SHADOW_CHECKS, SHADOW_DIFFERENCE

log = logging.getLogger(__name__)

Frames = NDArray[np.uint8]
Features = NDArray[np.float32]
Scores = NDArray[np.floating]
# (N, H, W, 3) uint8 → (N, D) float32, of nobody else's frames.
Encode = Callable[[Frames], Features]
# Features (N, D) and the ticks (N,) that each frame serves → the clip's own scores (K,).
Score = Callable[[Features, NDArray[np.int64]], Scores]

# 9.6 MiB at 224×224: what a clip's start says, its end would too.
MAX_FRAMES = 64
# What a certificate allows clips in mixed batches (service/tolerances.py), and of 16 bits an encoder's batches.
TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-2


@dataclass(frozen=True)
class Difference:
    """Largest |Δ feature| relative to the largest |feature|, and largest |Δ score|; 0 where there are no scores."""

    features: float
    scores: float


class ShadowSample:
    """The start of one clip, at most 64 frames: the frames, and the features and scores that it was answered with."""

    def __init__(self, encode: Encode, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self._encode = encode
        self._frames: list[Frames] = []
        self._features: list[Features] = []
        self._ticks: list[NDArray[np.int64]] = []
        self._scores: list[tuple[Score, Scores]] = []
        self._num_frames = 0

    def add_frames(self, frames: Frames) -> None:
        """The next chunk (N, H, W, 3), before it is handed to the batcher: it is copied here."""
        if room := max(0, MAX_FRAMES - self._num_frames):
            self._frames.append(frames[:room].copy())
        self._num_frames += len(frames)

    def add_features(self, features: Features, ticks: NDArray[np.int64]) -> None:
        """That chunk's features (N, D) and the ticks (N,) each frame serves, in the order of `add_frames`."""
        self._features.append(features[: max(0, MAX_FRAMES - sum(map(len, self._features)))])
        self._ticks.append(ticks[: len(self._features[-1])])

    def add_scores(self, score: Score, served: Scores) -> None:
        """How a model scores such features alone, and the clip's scores (K,) that it gave."""
        self._scores.append((score, served))

    def difference(self, go_on: Callable[[], bool] = lambda: True) -> Difference | None:
        """Compute it again, frame by frame; None when `go_on` said no."""
        served = np.concatenate(self._features)
        alone = np.empty_like(served)
        for row, frame in enumerate(np.concatenate(self._frames)):
            if not go_on():
                return None
            alone[row] = self._encode(frame[None])[0]
        ticks = np.concatenate(self._ticks)
        # Of a longer clip the scores that were served are of more than the start.
        whole = self._num_frames <= MAX_FRAMES
        pairs = [(score(alone, ticks), given if whole else score(served, ticks)) for score, given in self._scores]
        difference, largest = _largest(alone - served), _largest(served)
        return Difference(
            features=difference / largest if 0.0 < largest < np.inf else difference,
            scores=max((_largest(again - given) for again, given in pairs), default=0.0),
        )


class Shadow:
    """Chooses the samples and checks them in a thread of its own, one at a time; one_in 0: none.

    What comes while one is checked and one waits is left out: checks never hold up answers.
    """

    def __init__(self, one_in: int) -> None:
        self._one_in = one_in
        self._numbers = count(1)
        self._waiting: queue.Queue[ShadowSample | None] = queue.Queue(1)
        self._stopping = threading.Event()
        self._largest = Difference(0.0, 0.0)
        self._thread = threading.Thread(target=self._serve, name="shadow", daemon=True)
        if one_in:
            self._thread.start()

    def sample(self, encode: Encode, tolerance: float = TOLERANCE) -> ShadowSample | None:
        """For a clip that begins: something to fill where it is its turn. tolerance: beyond it the log warns."""
        if not self._one_in or next(self._numbers) % self._one_in:
            return None
        return ShadowSample(encode, tolerance)

    def check(self, sample: ShadowSample) -> None:
        """After the answer; returns at once, raises nothing."""
        try:
            self._waiting.put_nowait(sample)
        except queue.Full:
            log.debug("a shadow check is left out, the one before still waits")

    def close(self) -> None:
        """Stop between two frames, and wait for that."""
        self._stopping.set()
        if self._one_in:
            self._waiting.put(None)
            self._thread.join()

    def _serve(self) -> None:
        give_way()
        while (sample := self._waiting.get()) is not None and not self._stopping.is_set():
            try:
                difference = sample.difference(lambda: not self._stopping.is_set())
            except Exception:  # it is said, and nobody's answer hangs on it
                log.exception("a shadow check failed")
                continue
            if difference:
                self._note(difference, sample.tolerance)

    def _note(self, found: Difference, tolerance: float) -> None:
        before = self._largest
        self._largest = Difference(max(before.features, found.features), max(before.scores, found.scores))
        SHADOW_DIFFERENCE.labels("features").set(self._largest.features)
        SHADOW_DIFFERENCE.labels("scores").set(self._largest.scores)
        if max(found.features, found.scores) > tolerance:
            log.warning(
                "an answer differs from itself computed alone: features by %.1e of the largest, scores by %.1e; "
                "the limit is %.0e",
                found.features, found.scores, tolerance,
            )  # fmt: skip
        SHADOW_CHECKS.inc()  # last: once a check is counted, its figures and its line in the log are there


def _largest(values: NDArray[np.floating]) -> float:
    """Largest absolute value; infinite where one is no number."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
