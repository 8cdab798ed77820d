"""The RNN on top: windows of features to scores, as the frames arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.bundle import ModelDocument
from service.errors import BundleError
from service.video.spec import ClipSpec
from service.video.windows import Window, cover, timeline

Array = NDArray[np.float32]
Means = NDArray[np.float64]

_BATCH_WINDOWS = 32


class Head:
    """head.onnx: features (B, T, D), lengths (B) and state → outputs, (B, K) of a clip model, (B, T, K) of a frame one.

    Raises BundleError when the graph is not what model.json says.
    """

    def __init__(self, session: ort.InferenceSession, model: ModelDocument) -> None:
        _check_graph(session, model)
        self.model = model
        self._session = session
        self._activation = _ACTIVATIONS[model.score]

    def scores(self, windows: list[Array]) -> Array:
        """Scores of windows (T_i, D), each from the zero state; float32.

        Of a clip model (len(windows), K), one row a window; of a frame model (ΣT_i, K), one row a tick, window after
        window: a row past a window's length is never among them.
        """
        lengths = np.array([len(window) for window in windows], np.int64)
        features = np.zeros((len(windows), lengths.max(), windows[0].shape[1]), np.float32)
        for row, window in zip(features, windows, strict=True):
            row[: len(window)] = window
        feeds = {"features": features, "lengths": lengths}
        feeds |= {state.name: np.zeros((len(windows), state.size), np.float32) for state in self.model.state}
        outputs: Array = self._session.run(["outputs"], feeds)[0]
        per_tick = self.model.task == "frame"
        wanted = (*features.shape[: 1 + per_tick], len(self.model.labels))
        if outputs.shape != wanted:  # frozen to a batch or a time; the warm-up finds it
            raise BundleError(
                f"head.onnx gives outputs {outputs.shape} for features {features.shape}, not {wanted}; "
                "export the bundle again"
            )
        if per_tick:
            outputs = outputs[np.arange(features.shape[1]) < lengths[:, None]]
        return self._activation(outputs)


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
class ClipScores:
    """What a head says of a whole clip, for either task; K labels.

    windows: those that the head saw, in order. scores: of a clip model (len(windows), K), each window's own; of a
    frame model (num_ticks, K), each tick's mean over the windows that cover it. cells, table: the timeline, its cells
    in order and their scores (len(cells), K); a frame model's cell is one tick.
    """

    windows: list[Window]
    scores: Means
    cells: list[Window]
    table: Means

    @property
    def num_ticks(self) -> int:
        """Ticks of the clip."""
        return self.cells[-1].stop

    @property
    def mean(self) -> Means:
        """(K,): the clip's own scores, the mean over windows (clip model) or over ticks (frame model)."""
        mean: Means = self.scores.mean(axis=0)
        return mean


@dataclass
class WindowScorer:
    """Scores a clip's windows as soon as their ticks are there, and keeps no feature that no window needs any more.

    Equal to cutting the whole clip by `service.video.windows.cover`; features in memory do not grow with the clip
    (unless the spec's window is the whole clip).
    """

    head: Head
    _rows: list[Array] = field(default_factory=list)
    _kept_from: int = 0
    _num_ticks: int = 0
    _next_start: int = 0
    _windows: list[Window] = field(default_factory=list)
    _gathered: _WindowScores | _TickScores = field(init=False)

    def __post_init__(self) -> None:
        self._gathered = _TickScores() if self.head.model.task == "frame" else _WindowScores()

    @property
    def num_ticks(self) -> int:
        """Ticks pushed so far."""
        return self._num_ticks

    def push(self, features: Array) -> None:
        """The next ticks' features (n, D)."""
        self._rows.extend(features)
        self._num_ticks += len(features)
        spec = self._spec
        if spec.window_frames is None or spec.stride_frames is None:
            return
        ready = []
        while self._next_start + spec.window_frames <= self._num_ticks:
            ready.append(Window(self._next_start, spec.window_frames))
            self._next_start += spec.stride_frames
        self._score(ready)
        needed = min(self._next_start, self._num_ticks - spec.window_frames)  # a last window may be anchored at the end
        if needed > self._kept_from:
            del self._rows[: needed - self._kept_from]
            self._kept_from = needed

    def finish(self) -> ClipScores:
        """Scores of all the ticks pushed; needs at least one."""
        self._score([w for w in cover(self._num_ticks, self._spec)[-1:] if w not in self._windows[-1:]])
        return self._gathered.of_clip(self._num_ticks, list(self._windows), self._spec)

    @property
    def _spec(self) -> ClipSpec:
        return self.head.model.spec

    def _score(self, windows: list[Window]) -> None:
        for at in range(0, len(windows), _BATCH_WINDOWS):
            part = windows[at : at + _BATCH_WINDOWS]
            first = self._kept_from
            scores = self.head.scores([np.stack(self._rows[w.start - first : w.stop - first]) for w in part])
            self._gathered.add(part, scores)
        self._windows.extend(windows)


class _WindowScores:
    """Of a clip model: one row a window, kept as they come."""

    def __init__(self) -> None:
        self._parts: list[Array] = []

    def add(self, windows: list[Window], scores: Array) -> None:  # noqa: ARG002  (one row each: the order is enough)
        self._parts.append(scores)

    def of_clip(self, num_ticks: int, windows: list[Window], spec: ClipSpec) -> ClipScores:
        scores = np.concatenate(self._parts).astype(np.float64)
        stride = spec.stride_frames if len(windows) > 1 and spec.stride_frames else num_ticks
        return ClipScores(windows, scores, *timeline(num_ticks, windows, scores, stride))


class _TickScores:
    """Of a frame model: sums over windows, as overlapping windows say more of each tick than a clip need keep."""

    def __init__(self) -> None:
        self._sums: Means = np.zeros((0, 0))
        self._counts = np.zeros(0, np.int64)

    def add(self, windows: list[Window], scores: Array) -> None:
        self._make_room(windows[-1].stop, scores.shape[1])
        at = 0
        for window in windows:
            self._sums[window.start : window.stop] += scores[at : at + window.length]
            self._counts[window.start : window.stop] += 1
            at += window.length

    def of_clip(self, num_ticks: int, windows: list[Window], spec: ClipSpec) -> ClipScores:  # noqa: ARG002  (a cell is a tick)
        scores = self._sums[:num_ticks] / self._counts[:num_ticks, None]
        return ClipScores(windows, scores, [Window(tick, 1) for tick in range(num_ticks)], scores)

    def _make_room(self, num_ticks: int, num_labels: int) -> None:
        held = len(self._counts)
        if num_ticks > held:
            room = max(num_ticks, 2 * held)  # doubled: room for one window at a time would copy all ticks at each
            sums, counts = np.zeros((room, num_labels)), np.zeros(room, np.int64)
            if held:
                sums[:held], counts[:held] = self._sums, self._counts
            self._sums, self._counts = sums, counts


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
