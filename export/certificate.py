"""The certificate: PyTorch against ONNX Runtime, over a grid and on real clips. One row a check.

The reference is the checkpoint itself, its batch norms unfolded; the head's in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from models.checkpoint import Checkpoint
from models.heads import LSTMState
from models.windowed import clip_scores, windowed
from service.bundle import CertificateRow, ModelDocument
from service.engine.heads import Head, WindowScorer
from service.engine.sessions import open_session
from service.video.decode import ClipReader

Array = NDArray[np.float32]

BATCHES = (1, 2, 7, 32)
TIMES = (1, 8, 29, 300)
FRAME_BATCHES = (1, 2, 7, 32)


@dataclass(frozen=True)
class Tolerance:
    """A limit and why it is what it is."""

    limit: float
    comparison: Literal["at most", "at least"]
    reason: str


# float32 keeps 24 bits: 6e-8 of a value. A sum of 1280 products, 300 steps of a saturating recurrence and
# logits of about 10 lose 2–3 digits of it; a wrong gate order or a dropped length is off by 1e-2 and more.
TOLERANCES: dict[str, Tolerance] = {
    "head outputs, grid": Tolerance(1e-4, "at most", "rounding of float32 over up to 300 steps"),
    "head state, grid": Tolerance(1e-3, "at most", "relative to max(1, |value|); PyTorch float32 drifts as far"),
    "head top-1, grid": Tolerance(1.0, "at least", "random windows have no ties"),
    "head batch invariance": Tolerance(1e-5, "at most", "a clip alone may take another GEMM blocking"),
    "head padding invariance": Tolerance(1e-5, "at most", "what is past a length must not be read"),
    "head streaming invariance": Tolerance(1e-4, "at most", "chunks sum in another order"),
    "encoder features, random frames": Tolerance(1e-3, "at most", "rounding over 50 layers, folded batch norms"),
    "encoder batch invariance": Tolerance(1e-4, "at most", "a frame alone may take another kernel"),
    "real clips, scores": Tolerance(1e-3, "at most", "what a client sees; softmax contracts"),
    "real clips, top-1": Tolerance(1.0, "at least", "a label must never change"),
}

Report = Callable[[CertificateRow], None]


def certify(
    checkpoint: Checkpoint,
    model: ModelDocument,
    head_path: Path,
    encoder_path: Path,
    clips: Sequence[Path],
    report: Report = lambda row: None,
) -> tuple[CertificateRow, ...]:
    """All rows for ONNX Runtime on the CPU in fp32; `report` is called after each check. Takes minutes."""
    rows: list[CertificateRow] = []

    def prove(check: str, measured: float, cases: int) -> None:
        tolerance = TOLERANCES[check]
        at_most = tolerance.comparison == "at most"
        passed = bool(measured <= tolerance.limit if at_most else measured >= tolerance.limit)
        row = CertificateRow(
            check=check, runtime="onnxruntime-cpu", precision="fp32", measured=float(measured),
            limit=tolerance.limit, comparison=tolerance.comparison, cases=cases, passed=passed,
        )  # fmt: skip
        rows.append(row)
        report(row)

    head = open_session(head_path, "onnxruntime-cpu")
    encoder = open_session(encoder_path, "onnxruntime-cpu")
    _prove_head(checkpoint, model, head, prove)
    _prove_encoder(checkpoint, encoder, prove)
    _prove_clips(checkpoint, Head(head, model), encoder, clips, prove)
    return tuple(rows)


def versions() -> dict[str, str]:
    """Of what made and what proved the bundle."""
    return {"torch": str(torch.__version__), "onnx": onnx.__version__, "onnxruntime": ort.__version__}


Prove = Callable[[str, float, int], None]


def _prove_head(checkpoint: Checkpoint, model: ModelDocument, session: ort.InferenceSession, prove: Prove) -> None:
    reference = checkpoint.head().double()
    random = np.random.default_rng(0)
    worst = dict.fromkeys(("outputs", "state", "alone", "padding", "streaming"), 0.0)
    agreed = total = 0
    cases = list(itertools.product(BATCHES, TIMES))
    for batch, time in cases:
        # ReLU6 features averaged over space are non-negative and mostly below 1.
        features = np.abs(random.normal(0, 0.5, (batch, time, checkpoint.head_dims.feature_size))).astype(np.float32)
        lengths = random.integers(1, time + 1, batch)
        lengths[0] = time
        outputs, state = _run(session, model, features, lengths)
        with torch.inference_mode():
            wanted, wanted_state = reference.step(
                torch.from_numpy(features).double(), torch.from_numpy(lengths), LSTMState.zeros(
                    batch, checkpoint.head_dims.hidden_size, torch.float64)
            )  # fmt: skip
        worst["outputs"] = max(worst["outputs"], difference(outputs, wanted.numpy()))
        for name, values in state.items():
            expected = getattr(wanted_state, name).numpy()
            relative = np.abs(values - expected) / np.maximum(1.0, np.abs(expected))
            worst["state"] = max(worst["state"], difference(relative, np.zeros_like(relative)))
        agreed += int((outputs.argmax(1) == wanted.numpy().argmax(1)).sum())
        total += batch
        for row, length in enumerate(lengths):
            alone, _ = _run(session, model, features[row : row + 1, :length], lengths[row : row + 1])
            worst["alone"] = max(worst["alone"], difference(alone[0], outputs[row]))
        dirty = features.copy()
        for row, length in enumerate(lengths):
            dirty[row, length:] = 1e3
        worst["padding"] = max(worst["padding"], difference(_run(session, model, dirty, lengths)[0], outputs))
        worst["streaming"] = max(worst["streaming"], _streaming_difference(session, model, features))
    prove("head outputs, grid", worst["outputs"], len(cases))
    prove("head state, grid", worst["state"], len(cases))
    prove("head top-1, grid", agreed / total, total)
    prove("head batch invariance", worst["alone"], total)
    prove("head padding invariance", worst["padding"], total)
    prove("head streaming invariance", worst["streaming"], len(cases))


def _run(
    session: ort.InferenceSession,
    model: ModelDocument,
    features: Array,
    lengths: NDArray[np.int64],
    state: dict[str, Array] | None = None,
) -> tuple[Array, dict[str, Array]]:
    state = state or {s.name: np.zeros((len(features), s.size), np.float32) for s in model.state}
    names = ["outputs", *(f"{s.name}_out" for s in model.state)]
    outputs, *after = session.run(names, {"features": features, "lengths": lengths, **state})
    return outputs, {s.name: values for s, values in zip(model.state, after, strict=True)}


def _streaming_difference(session: ort.InferenceSession, model: ModelDocument, features: Array) -> float:
    """Chunks of 1, 2, 3, … ticks with the state carried, against all ticks at once."""
    batch, time, _ = features.shape
    whole, _ = _run(session, model, features, np.full(batch, time))
    state, at, outputs = None, 0, whole
    for size in itertools.count(1):
        chunk = features[:, at : at + size]
        outputs, state = _run(session, model, chunk, np.full(batch, chunk.shape[1]), state)
        at += size
        if at >= time:
            return difference(outputs, whole)
    raise AssertionError("unreachable")


def _prove_encoder(checkpoint: Checkpoint, session: ort.InferenceSession, prove: Prove) -> None:
    reference = checkpoint.encoder()
    spec = checkpoint.spec
    random = np.random.default_rng(1)
    worst = alone = 0.0
    for batch in FRAME_BATCHES:
        frames = random.integers(0, 256, (batch, spec.frame_height, spec.frame_width, 3), np.uint8)
        frames[0] //= 8  # a dark frame among them
        features = session.run(["features"], {"frames": frames})[0]
        with torch.inference_mode():
            worst = max(worst, difference(features, reference(torch.from_numpy(frames)).numpy()))
        for row in range(batch):
            single = session.run(["features"], {"frames": frames[row : row + 1]})[0]
            alone = max(alone, difference(single[0], features[row]))
    prove("encoder features, random frames", worst, sum(FRAME_BATCHES))
    prove("encoder batch invariance", alone, sum(FRAME_BATCHES))


def _prove_clips(
    checkpoint: Checkpoint, head: Head, encoder: ort.InferenceSession, clips: Sequence[Path], prove: Prove
) -> None:
    """From the file to the score: the serving path on ONNX Runtime against the training path on PyTorch."""
    reference, trained = checkpoint.encoder(), checkpoint.head()
    worst, agreed = 0.0, 0
    for path in clips:
        scorer = WindowScorer(head)
        rows = []
        with ClipReader(path, checkpoint.spec) as reader, torch.inference_mode():
            for chunk in reader.chunks(8):
                features = encoder.run(["features"], {"frames": chunk.frames})[0]
                scorer.push(np.repeat(features, chunk.ticks, axis=0))
                rows.append(np.repeat(reference(torch.from_numpy(chunk.frames)).numpy(), chunk.ticks, axis=0))
        served = scorer.finish()[1].mean(axis=0)
        wanted = clip_scores(trained, windowed([np.concatenate(rows)], [0], checkpoint.spec))[0]
        worst = max(worst, difference(served, wanted))
        agreed += int(served.argmax() == wanted.argmax())
    prove("real clips, scores", worst, len(clips))
    prove("real clips, top-1", agreed / len(clips), len(clips))


def difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Largest absolute difference; infinite where a number is not one, as `max` would lose a NaN."""
    largest = float(np.abs(a.astype(np.float64) - b).max())
    return largest if math.isfinite(largest) else math.inf
