"""How well boundaries of shots are found: F1 within a tolerance, overall and by kind, with intervals over groups.

As TransNetV2 (Souček and Lokoč 2020, arXiv:2008.04838) is evaluated on ClipShots, BBC and RAI: a predicted transition
hits a true one where they share a frame once the true one is widened by the tolerance on both sides, and each hits one
at most. A cut is the frame that begins the new shot, so that two cuts match where they are `TOLERANCE_FRAMES` apart or
less. A second prediction within one dissolve is a false alarm, and so is a prediction over two transitions a miss.

A fade that a film begins or ends with lies between no two shots: it is nobody's miss, and who finds it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data.spans import Span
from models.intervals import ratio_interval

TOLERANCE_FRAMES = 2


@dataclass(frozen=True)
class JudgedFilm:
    """One film: what is true and what was predicted, both in order and without overlap.

    A detector that names no kinds gives its spans the label "". group: films of shared sources have one.
    """

    truths: Sequence[Span]
    predicted: Sequence[Span]
    num_frames: int
    group: str


@dataclass(frozen=True)
class BoundaryScore:
    """Counts over all films. low, high: of `f1`, 95 % interval, bootstrapped by group (Efron 1979)."""

    hits: int
    truths: int
    predicted: int
    low: float
    high: float

    @property
    def precision(self) -> float:
        """Share of the predicted that are true; 0 where there are none."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true that were found; 0 where there are none."""
        return self.hits / self.truths if self.truths else 0.0

    @property
    def f1(self) -> float:
        """2 × hits ÷ (true + predicted); 0 where there are none."""
        both = self.truths + self.predicted
        return 2 * self.hits / both if both else 0.0

    def __str__(self) -> str:
        return (
            f"F1 {self.f1:.3f} [{self.low:.3f}, {self.high:.3f}], precision {self.precision:.3f}, "
            f"recall {self.recall:.3f} of {self.truths}"
        )


@dataclass(frozen=True)
class BoundaryScores:
    """`overall`: whatever the kind. `kinds`: also without regard to what was named: predictions that hit a true
    transition of another kind are left out, and each false alarm counts against every kind, so that this F1 is also
    defined, as a lower bound, of a detector that names no kinds. `named`: of each kind that was predicted by name, its
    own predictions against its own truths."""

    overall: BoundaryScore
    kinds: dict[str, BoundaryScore]
    named: dict[str, BoundaryScore]


def score(films: Sequence[JudgedFilm], tolerance_frames: int = TOLERANCE_FRAMES, seed: int = 0) -> BoundaryScores:
    """Of at least one film. Kinds are those that are true somewhere, in order of the alphabet."""
    kinds = sorted({span.label for film in films for span in film.truths})
    named = sorted({span.label for film in films for span in film.predicted} - {""})
    groups = [film.group for film in films]

    def scored(counts: list[tuple[int, int, int]]) -> BoundaryScore:
        hits, truths, predicted = np.array(counts).T
        found = ratio_interval(2 * hits, truths + predicted, groups, seed)
        return BoundaryScore(int(hits.sum()), int(truths.sum()), int(predicted.sum()), found.low, found.high)

    rows = [_counts(film, tolerance_frames) for film in films]
    return BoundaryScores(
        scored([row.overall for row in rows]),
        {kind: scored([row.of_kind(kind) for row in rows]) for kind in kinds},
        {kind: scored([_counts(_of(film, kind), tolerance_frames).overall for film in films]) for kind in named},
    )


def hit_pairs(truths: Sequence[Span], predicted: Sequence[Span], tolerance_frames: int) -> list[tuple[int, int]]:
    """Indices (of a truth, of a prediction) of as many hits as there can be; both are in order.

    The first prediction that reaches a truth is its own: those that reach a later one only are left to that.
    """
    pairs = []
    truth = guess = 0
    while truth < len(truths) and guess < len(predicted):
        if predicted[guess].stop <= truths[truth].start - tolerance_frames:
            guess += 1
        elif predicted[guess].start >= truths[truth].stop + tolerance_frames:
            truth += 1
        else:
            pairs.append((truth, guess))
            truth, guess = truth + 1, guess + 1
    return pairs


@dataclass(frozen=True)
class _Counts:
    """truths: kinds of the true ones; found: of those that were hit; false_alarms: predictions that hit none."""

    truths: Sequence[str]
    found: Sequence[str]
    false_alarms: int

    @property
    def overall(self) -> tuple[int, int, int]:
        """Hits, true, predicted."""
        return len(self.found), len(self.truths), len(self.found) + self.false_alarms

    def of_kind(self, kind: str) -> tuple[int, int, int]:
        hits = self.found.count(kind)
        return hits, self.truths.count(kind), hits + self.false_alarms


def _counts(film: JudgedFilm, tolerance_frames: int) -> _Counts:
    pairs = hit_pairs(film.truths, film.predicted, tolerance_frames)
    inner = [span.start > 0 and span.stop < film.num_frames for span in film.truths]
    return _Counts(
        [span.label for span, counts in zip(film.truths, inner, strict=True) if counts],
        [film.truths[truth].label for truth, _ in pairs if inner[truth]],
        len(film.predicted) - len(pairs),
    )


def _of(film: JudgedFilm, kind: str) -> JudgedFilm:
    """Only what is of the kind, and what is predicted to be."""
    truths, predicted = ([span for span in spans if span.label == kind] for spans in (film.truths, film.predicted))
    return JudgedFilm(truths, predicted, film.num_frames, film.group)
