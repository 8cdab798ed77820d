"""head.onnx over the grid: outputs and state, and all that must not change an answer."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.prove.proof import Array, Proof, Worst
from export.prove.reference import Doubles, Reference
from service.bundle import ModelDocument
from service.certificate import Grid, longest_ticks
from service.differences import difference, relative_difference
from service.engine.scorer import PIECE_TICKS
from service.tolerances import LONGEST

GRID = Grid(batches=(1, 2, 7, 32), times=(1, 8, 29, 300))


class RunHead:
    """head.onnx by its own names; a run that fails, or gives other shapes, gives NaN."""

    def __init__(self, session: ort.InferenceSession, document: ModelDocument) -> None:
        self._session = session
        self._document = document
        self.failure = ""

    def __call__(
        self, features: Array, lengths: NDArray[np.int64], state: dict[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        batch, time, _ = features.shape
        states = self._document.state
        state = state or {s.name: np.zeros((batch, s.size), np.float32) for s in states}
        names = ["outputs", *(f"{s.name}_out" for s in states)]
        labels = len(self._document.labels)
        shape = (batch, labels) if self._document.task == "clip" else (batch, time, labels)
        wanted = [shape, *((batch, s.size) for s in states)]
        try:
            outputs, *after = self._session.run(names, {"features": features, "lengths": lengths, **state})
        except Exception as error:  # noqa: BLE001  (ONNX Runtime has no error class of its own)
            self.failure = str(error).splitlines()[0][:200]
        else:
            for name, values, size in zip(names, (outputs, *after), wanted, strict=True):
                if values.shape != size:
                    self.failure = f"gives {name} {values.shape} for {batch} clips of {time} frames, not {size}"
                    break
            else:
                return outputs, {s.name: values for s, values in zip(states, after, strict=True)}
        return np.full(shape, np.nan, np.float32), dict(state)

    def rows(self, outputs: Array, row: int, length: int) -> Array:
        """What counts of one clip's outputs: nothing past its length."""
        return outputs[row] if self._document.task == "clip" else outputs[row, :length]


def prove_head(run: RunHead, reference: Reference, feature_size: int, proof: Proof, grid: Grid = GRID) -> None:
    """Every pair of the grid, with mixed lengths; see `service.tolerances` for what each line says."""
    random = np.random.default_rng(0)
    worst = {name: Worst() for name in ("outputs", "state", "alone", "permuted", "padding", "streaming")}
    agreed = total = num_outputs = 0
    cases = list(itertools.product(grid.batches, grid.times))
    for batch, time in cases:
        where = f"batch {batch}, {time} frames"
        # Features are mostly below 1 and, after a ReLU, not negative.
        features = np.abs(random.normal(0, 0.5, (batch, time, feature_size))).astype(np.float32)
        lengths = random.integers(1, time + 1, batch)
        lengths[0] = time
        outputs, state = run(features, lengths)
        order = random.permutation(batch)
        permuted, _ = run(features[order], lengths[order])
        dirty = features.copy()
        for row, length in enumerate(lengths):
            dirty[row, length:] = 1e3
        spoiled, _ = run(dirty, lengths)
        for row, length in enumerate(lengths):
            wanted, wanted_state = reference.outputs(features[row, :length])
            got = run.rows(outputs, row, length)
            worst["outputs"].see(relative_difference(got, wanted), where)
            for name, values in wanted_state.items():
                worst["state"].see(difference(state[name][row] / _scale(values), values / _scale(values)), where)
            if got.shape == wanted.shape:
                chosen = np.take_along_axis(wanted, got.argmax(-1)[..., None], axis=-1)[..., 0]
                # As good as the best, to rounding: two labels may tie.
                agreed += int((chosen >= wanted.max(-1) - 1e-5 * np.abs(wanted).max()).sum())
            num_outputs += wanted[..., 0].size
            alone, _ = run(features[row : row + 1, :length], lengths[row : row + 1])
            worst["alone"].see(relative_difference(run.rows(alone, 0, length), got), where)
            again = run.rows(permuted, int(np.flatnonzero(order == row)[0]), length)
            worst["permuted"].see(relative_difference(again, got), where)
            worst["padding"].see(relative_difference(run.rows(spoiled, row, length), got), where)
        total += batch
        if state:
            worst["streaming"].see(_streaming_difference(run, features), where)
    detail = {name: run.failure or w.where for name, w in worst.items()}
    proof.line("head outputs, grid", worst["outputs"].value, len(cases), detail["outputs"])
    proof.line("head top-1, grid", agreed / num_outputs, num_outputs)
    if state:
        proof.line("head state, grid", worst["state"].value, len(cases), detail["state"])
    proof.line("head batch invariance", worst["alone"].value, total, detail["alone"])
    proof.line("head permutation invariance", worst["permuted"].value, total, detail["permuted"])
    proof.line("head padding invariance", worst["padding"].value, total, detail["padding"])
    if state:
        proof.line("head streaming invariance", worst["streaming"].value, len(cases), detail["streaming"])


def prove_longest(run: RunHead, document: ModelDocument, reference: Reference, feature_size: int, proof: Proof) -> None:
    """Of a head that carries its state over whole clips: the longest clip that the service takes, in its pieces.

    The line's cases are its ticks: as many as PyTorch's own answer, in float64 and in one go, has memory for.
    """
    ticks = longest_ticks(document)
    block = np.abs(np.random.default_rng(5).normal(0, 0.5, (PIECE_TICKS, feature_size))).astype(np.float32)
    features = np.resize(block, (ticks, feature_size))
    wanted, wanted_state = reference.outputs(features)
    state: dict[str, Array] | None = None
    parts = []
    for at in range(0, ticks, PIECE_TICKS):
        piece = features[at : at + PIECE_TICKS]
        outputs, state = run(piece[None], np.array([len(piece)]), state)
        parts.append(outputs[0])
    got = parts[-1] if wanted.ndim == 1 else np.concatenate(parts)
    worst = Worst()
    worst.see(relative_difference(got, wanted), "outputs")
    for name, values in wanted_state.items():
        found = np.full_like(values, np.nan) if state is None else state[name][0]
        worst.see(difference(found / _scale(values), values / _scale(values)), name)
    proof.line(LONGEST, worst.value, ticks, run.failure or worst.where)


def _scale(values: Doubles) -> Doubles:
    scale: Doubles = np.maximum(1.0, np.abs(values))
    return scale


def _streaming_difference(run: RunHead, features: Array) -> float:
    """Chunks of 1, 2, 3, … frames with the state carried, against all frames at once."""
    batch, time, _ = features.shape
    whole, _ = run(features, np.full(batch, time))
    state: dict[str, Array] | None = None
    at, parts = 0, []
    for size in itertools.count(1):
        chunk = features[:, at : at + size]
        outputs, state = run(chunk, np.full(batch, chunk.shape[1]), state)
        parts.append(outputs)
        at += size
        if at >= time:
            break
    return relative_difference(parts[-1] if whole.ndim == 2 else np.concatenate(parts, axis=1), whole)
