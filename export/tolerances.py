"""The limits of every line of a certificate, each with its reason and with what to do when it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.bundle import Precision


@dataclass(frozen=True)
class Tolerance:
    """A limit, why it is what it is, and the remedy."""

    limit: float
    comparison: Literal["at most", "at least"]
    reason: str
    remedy: str = "the exported graph does not compute what PyTorch does: report it with the model"


_STRUCTURE = "a fault of structure shows only with other shapes or runtimes"
_PACK = "give `lengths` to the recurrent layers (pack_padded_sequence) and mask what follows"
_ALONE = "each row must be computed by itself: no norm, softmax or mean over the batch"
_STREAM = (
    "the head keeps more over time than its recurrent layers' state: give it `initial_state` and `step`, or an "
    "`initial_state` that returns {} if it is not to be streamed"
)

# float32 keeps 24 bits: 6e-8 of a value. A sum of 1280 products, 300 steps of a saturating recurrence and
# logits of about 10 lose 2–3 digits of it; a wrong gate order or a dropped length is off by 1e-2 and more.
TOLERANCES: dict[str, Tolerance] = {
    "encoder graph, faults": Tolerance(0, "at most", _STRUCTURE, "try `--exporter torchscript`, or report it"),
    "head graph, faults": Tolerance(0, "at most", _STRUCTURE, "simplify the head's forward, or report it"),
    # Of the head: relative to max(1, the largest output).
    "head outputs, grid": Tolerance(1e-4, "at most", "rounding of float32 over up to 300 steps"),
    "head state, grid": Tolerance(1e-3, "at most", "relative to max(1, |value|); PyTorch float32 drifts as far"),
    "head top-1, grid": Tolerance(1, "at least", "as good as the best, to rounding"),
    "head batch invariance": Tolerance(1e-5, "at most", "a clip alone may take another GEMM blocking", _ALONE),
    "head permutation invariance": Tolerance(1e-5, "at most", "the order of a batch means nothing", _ALONE),
    "head padding invariance": Tolerance(1e-5, "at most", "what is past a length must not be read", _PACK),
    "head streaming invariance": Tolerance(1e-4, "at most", "chunks sum in another order", _STREAM),
    # Of the encoder: relative to the largest feature.
    "encoder features, random frames": Tolerance(1e-4, "at most", "rounding over 50 layers, folded batch norms"),
    "encoder batch invariance": Tolerance(1e-5, "at most", "a frame alone may take another kernel", _ALONE),
    "encoder features, real frames": Tolerance(1e-4, "at most", "rounding over 50 layers, folded batch norms"),
    "real clips, each window": Tolerance(1e-3, "at most", "scores from stored features; softmax contracts"),
    "real clips, scores": Tolerance(1e-3, "at most", "what a client sees: the mean over windows or frames"),
    "real clips, top-1": Tolerance(1, "at least", "a label must never change"),
    "real clips, mixed batches": Tolerance(1e-4, "at most", "frames and windows of all clips together", _ALONE),
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
}
_OF_PRECISION: dict[Precision, dict[str, Tolerance]] = {"fp32": TOLERANCES, "fp16": _HALF, "bf16": _BRAIN}


def tolerance_of(check: str, precision: Precision) -> Tolerance:
    """The limit of a line at a precision."""
    return _OF_PRECISION[precision].get(check, TOLERANCES[check])
