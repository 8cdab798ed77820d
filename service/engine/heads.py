"""The RNN on top: head.onnx, held to its model.json, from features to scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.bundle import ModelDocument
from service.errors import BundleError

Array = NDArray[np.float32]


class Scoring(Protocol):
    """What scores features: a `Head`, or what runs one for many clips."""

    @property
    def model(self) -> ModelDocument:
        """The head's model.json."""
        ...

    def scores(self, windows: Sequence[Array]) -> Array:
        """As `Head.scores`."""
        ...

    def step(self, pieces: Sequence[Array], states: Array) -> tuple[Array, Array]:
        """As `Head.step`."""
        ...


def state_size(model: ModelDocument) -> int:
    """Width of a clip's state: all its tensors side by side; 0 where the head carries none."""
    return sum(state.size for state in model.state)


class Head:
    """head.onnx: features (B, T, D), lengths (B) and state → outputs, (B, K) of a clip model, (B, T, K) of a frame one.

    Raises BundleError when the graph is not what model.json says. May be called by many threads at once.
    """

    def __init__(self, session: ort.InferenceSession, model: ModelDocument) -> None:
        _check_graph(session, model)
        self.model = model
        self._session = session
        self._activation = _ACTIVATIONS[model.score]

    def scores(self, windows: Sequence[Array]) -> Array:
        """Scores of windows (T_i, D), each from the zero state; float32.

        Of a clip model (len(windows), K), one row a window; of a frame model (ΣT_i, K), one row a tick, window after
        window: a row past a window's length is never among them.
        """
        zeros = np.zeros((len(windows), state_size(self.model)), np.float32)
        return self._run(windows, zeros, ["outputs"])[0]

    def step(self, pieces: Sequence[Array], states: Array) -> tuple[Array, Array]:
        """The next piece (T_i, D) of each clip from its state: scores as above, and the states after the pieces.

        states: (len(pieces), `state_size`), zeros before a clip's first piece. The row of a clip model says what the
        head makes of all the clip's ticks so far.
        """
        names = [f"{state.name}_out" for state in self.model.state]
        scores, *after = self._run(pieces, states, ["outputs", *names])
        for name, values, state in zip(names, after, self.model.state, strict=True):
            _expect(name, values, (len(pieces), state.size), pieces)
        return scores, np.concatenate(after, axis=1)

    def warm_up(self, feature_size: int) -> None:
        """Run windows of unequal lengths: a graph frozen to one batch or time, or to other features, fails here."""
        lengths = (self.model.spec.window_frames or 2, 1)
        windows = [np.zeros((length, feature_size), np.float32) for length in lengths]
        self.scores(windows)
        if self.model.state:
            self.step(windows, np.zeros((len(windows), state_size(self.model)), np.float32))

    def _run(self, windows: Sequence[Array], states: Array, names: list[str]) -> list[Array]:
        lengths = np.array([len(window) for window in windows], np.int64)
        if len(windows) == 1:
            features = np.ascontiguousarray(windows[0], np.float32)[None]
        else:
            features = np.zeros((len(windows), lengths.max(), windows[0].shape[1]), np.float32)
            for row, window in zip(features, windows, strict=True):
                row[: len(window)] = window
        stops = np.cumsum([state.size for state in self.model.state])
        feeds = {"features": features, "lengths": lengths}
        feeds |= {
            state.name: np.ascontiguousarray(states[:, stop - state.size : stop])
            for state, stop in zip(self.model.state, stops, strict=True)
        }
        outputs, *after = self._session.run(names, feeds)
        per_tick = self.model.task == "frame"
        _expect("outputs", outputs, (*features.shape[: 1 + per_tick], len(self.model.labels)), windows)
        if per_tick:
            outputs = outputs[np.arange(features.shape[1]) < lengths[:, None]]
        return [self._activation(outputs), *after]


def _expect(name: str, values: Array, shape: tuple[int, ...], windows: Sequence[Array]) -> None:
    """BundleError for a graph frozen to a batch or a time; the warm-up finds it."""
    if values.shape != shape:
        given = (len(windows), max(map(len, windows)), windows[0].shape[1])
        raise BundleError(
            f"head.onnx gives {name} {values.shape} for features {given}, not {shape}; export the bundle again"
        )


def softmax(logits: Array) -> Array:
    """Over the last axis, in float32, stable."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Array = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: Array) -> Array:
    """Element by element, stable for large logits of either sign."""
    scores: Array = (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)
    return scores


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "none": lambda logits: logits,
}


@dataclass(frozen=True)
class _Tensor:
    """A graph's input or output: element type, and the length of each axis, None where any will do."""

    kind: str
    axes: tuple[int | str | None, ...]

    @classmethod
    def found(cls, node: Any) -> _Tensor:
        return cls(node.type.removeprefix("tensor(").removesuffix(")"), tuple(node.shape))

    def fits(self, wanted: _Tensor) -> bool:
        return (self.kind, len(self.axes)) == (wanted.kind, len(wanted.axes)) and all(
            wants in (None, has) for has, wants in zip(self.axes, wanted.axes, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.kind} ({', '.join('any' if axis is None else str(axis) for axis in self.axes)})"


def _check_graph(session: ort.InferenceSession, model: ModelDocument) -> None:
    """BundleError names the first input or output that is missing, unknown or of another type or shape."""
    time = (None,) * (model.task == "frame")
    outputs = {"outputs": _Tensor("float", (None, *time, len(model.labels)))}
    outputs |= {f"{state.name}_out": _Tensor("float", (None, state.size)) for state in model.state}
    inputs = {"features": _Tensor("float", (None, None, None)), "lengths": _Tensor("int64", (None,))}
    inputs |= {state.name: _Tensor("float", (None, state.size)) for state in model.state}
    found_inputs = {node.name: _Tensor.found(node) for node in session.get_inputs()}
    found_outputs = {node.name: _Tensor.found(node) for node in session.get_outputs()}
    for side, wanted, found in (("input", inputs, found_inputs), ("output", outputs, found_outputs)):
        for name, tensor in wanted.items():
            if name not in found:
                raise BundleError(
                    f"head.onnx has no {side} {name!r}, only {', '.join(map(repr, found))}; export the bundle again"
                )
            if not found[name].fits(tensor):
                raise BundleError(
                    f"{side} {name!r} of head.onnx is {found[name]}; model.json (task {model.task}, "
                    f"{len(model.labels)} labels) needs {tensor}; export the bundle again"
                )
    for name in found_inputs:
        if name not in inputs:
            raise BundleError(f"head.onnx has an input {name!r} that model.json does not name; export the bundle again")
