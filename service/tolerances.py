"""The limits of every line of a certificate, each with its reason and with what to do when it fails."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from service.bundle import LEAST_CLIPS, Precision
from service.intervals import binomial_low, wilson

Comparison = Literal["at most", "at least"]

# What is served against what training wrote down of the same files, before anything was exported.
AGAINST_TRAINING = "real clips, against training"
# Against `ModelDocument.claim`: its limit is of the claim (`least_accuracy`).
ACCURACY = "real clips, accuracy"
# Of a head that carries its state over whole clips: as far as the longest one that the service takes.
LONGEST = "head state, longest clip"


@dataclass(frozen=True)
class Tolerance:
    """A limit, why it is what it is, the remedy, and the fewest cases that show anything."""

    limit: float
    comparison: Comparison
    reason: str
    remedy: str = "the exported graph does not compute what PyTorch does: report it with the model"
    least_cases: int = 1


def holds(measured: float, comparison: Comparison, limit: float) -> bool:
    """Whether a figure keeps its limit; what is not a number keeps none."""
    return measured <= limit if comparison == "at most" else measured >= limit


def least_accuracy(claimed: float, claimed_on: int, clips: int) -> float:
    """Share of `clips` that must be right for a claim to stand; 0 without clips.

    The claim was measured on `claimed_on` clips itself: the true share may be as low as the lower end of Wilson's 95 %
    interval (Wilson 1927). Of so good a model, `clips` drawn at random have fewer right than this in 2.5 % of all draws
    (the binomial distribution's quantile). One-sided: final weights have seen the clips of validation, on which
    more may be right.
    """
    if clips == 0:
        return 0.0
    low, _ = wilson(claimed, claimed_on)
    return binomial_low(low, clips) / clips


_OTHER = (
    "what is served is not what was trained: other weights, labels, colour order, normalisation, sampling or decoding; "
    "export the networks that wrote the scores, or train again"
)
_STRUCTURE = "a fault of structure shows only with other shapes or runtimes"
_PACK = "give `lengths` to the recurrent layers (pack_padded_sequence) and mask what follows"
_ALONE = "each row must be computed by itself: no norm, softmax or mean over the batch"
_STREAM = (
    "the head keeps more over time than its recurrent layers' state: give it `initial_state` and `step`, or an "
    "`initial_state` that returns {} if it is not to be streamed"
)

_DRIFT = "float32 loses what is small beside a sum that grows: let the state forget, keep means, or give it windows"

# Every pair of batches and times of the grid; frames of the encoder's batches, and of those that only a GPU is given.
_GRID, _FRAMES, GPU_FRAMES = 16, 32, 256

# float32 keeps 24 bits: 6e-8 of a value. A sum of 1280 products, 300 steps of a saturating recurrence and
# logits of about 10 lose 2–3 digits of it; a wrong gate order or a dropped length is off by 1e-2 and more.
TOLERANCES: dict[str, Tolerance] = {
    "encoder graph, faults": Tolerance(0, "at most", _STRUCTURE, "try `--exporter torchscript`, or report it"),
    "head graph, faults": Tolerance(0, "at most", _STRUCTURE, "simplify the head's forward, or report it"),
    # Of the head: relative to max(1, the largest output).
    "head outputs, grid": Tolerance(1e-4, "at most", "rounding of float32 over up to 300 steps", least_cases=_GRID),
    "head state, grid": Tolerance(
        1e-3, "at most", "relative to max(1, |value|); PyTorch float32 drifts as far", least_cases=_GRID
    ),
    "head top-1, grid": Tolerance(1, "at least", "as good as the best, to rounding", least_cases=_GRID),
    "head batch invariance": Tolerance(
        1e-5, "at most", "a clip alone may take another GEMM blocking", _ALONE, least_cases=_GRID
    ),
    "head permutation invariance": Tolerance(
        1e-5, "at most", "the order of a batch means nothing", _ALONE, least_cases=_GRID
    ),
    "head padding invariance": Tolerance(
        1e-5, "at most", "what is past a length must not be read", _PACK, least_cases=_GRID
    ),
    "head streaming invariance": Tolerance(1e-4, "at most", "chunks sum in another order", _STREAM, least_cases=_GRID),
    LONGEST: Tolerance(1e-3, "at most", "relative to max(1, |value|); rounding of float32 must not add up", _DRIFT),
    # Of the encoder: relative to the largest feature.
    "encoder features, random frames": Tolerance(
        1e-4, "at most", "rounding over 50 layers, folded batch norms", least_cases=_FRAMES
    ),
    "encoder batch invariance": Tolerance(
        1e-5, "at most", "a frame alone may take another kernel", _ALONE, least_cases=_FRAMES
    ),
    "encoder features, real frames": Tolerance(
        1e-4, "at most", "rounding over 50 layers, folded batch norms", least_cases=LEAST_CLIPS
    ),
    "real clips, each window": Tolerance(
        1e-3, "at most", "scores from stored features; softmax contracts", least_cases=LEAST_CLIPS
    ),
    "real clips, scores": Tolerance(
        1e-3, "at most", "what a client sees: the mean over windows or frames", least_cases=LEAST_CLIPS
    ),
    "real clips, top-1": Tolerance(1, "at least", "a label must never change", least_cases=LEAST_CLIPS),
    "real clips, mixed batches": Tolerance(
        1e-4, "at most", "frames and windows of all clips together", _ALONE, least_cases=LEAST_CLIPS
    ),
    AGAINST_TRAINING: Tolerance(1e-3, "at most", "float32 on both sides; softmax contracts", _OTHER, LEAST_CLIPS),
    ACCURACY: Tolerance(
        0, "at least", "of what model.json claims: see `least_accuracy`", "claim what the weights can do", LEAST_CLIPS
    ),
    "real clips, accuracy lost": Tolerance(0, "at most", "no label changes, so no clip is lost"),
    "nodes misplaced": Tolerance(
        0, "at most", "a Conv or RNN on another provider is slow without a word", "use an opset of 17–20 and fp32"
    ),
}

# float16 keeps 11 bits, 5e-4 of a value, and sums of products lose another digit.
_HALF: dict[str, Tolerance] = {
    "encoder features, random frames": Tolerance(0.03, "at most", "noise drives activations to their largest"),
    "encoder batch invariance": Tolerance(0.01, "at most", "a frame alone may take another kernel", _ALONE),
    "encoder features, real frames": Tolerance(0.02, "at most", "11 bits over 50 layers"),
    "real clips, each window": Tolerance(0.05, "at most", "a window near a boundary moves most"),
    "real clips, scores": Tolerance(0.02, "at most", "what a client sees"),
    AGAINST_TRAINING: Tolerance(0.02, "at most", "as `real clips, scores`"),
    "real clips, top-1": Tolerance(0.98, "at least", "a clip between two labels may fall to the other side"),
    "real clips, mixed batches": Tolerance(0.05, "at most", "frames and windows of all clips together", _ALONE),
    "real clips, accuracy lost": Tolerance(0.005, "at most", "half a point: more is not worth the speed"),
}


# bfloat16 keeps 8 bits, 4e-3 of a value: eight times float16's step, so about eight times its limits. Measured with
# EfficientNet-Lite0 on 396 clips of UCF101, OpenVINO with AVX512-BF16: features of a clip are 0.055 off (median) to
# 0.23, windows up to 0.16, scores up to 0.08; one label in 396 changed. Batches are bit-exact: their limits stay.
_BRAIN: dict[str, Tolerance] = _HALF | {
    "encoder features, random frames": Tolerance(0.25, "at most", "8 bits over 50 layers"),
    "encoder features, real frames": Tolerance(0.4, "at most", "8 bits over 50 layers; a single feature goes far"),
    "real clips, each window": Tolerance(0.3, "at most", "a window near a boundary moves most"),
    "real clips, scores": Tolerance(0.15, "at most", "what a client sees; the label and the accuracy decide"),
    AGAINST_TRAINING: Tolerance(0.15, "at most", "as `real clips, scores`"),
}
_OF_PRECISION: dict[Precision, dict[str, Tolerance]] = {"fp32": TOLERANCES, "fp16": _HALF, "bf16": _BRAIN}


def tolerance_of(check: str, precision: Precision) -> Tolerance:
    """The limit of a line at a precision; remedy and least cases don't depend on it."""
    full = TOLERANCES[check]
    found = _OF_PRECISION[precision].get(check, full)
    return dataclasses.replace(found, remedy=full.remedy, least_cases=full.least_cases)
