"""The RNN on top: windows of features to scores, as the frames arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.bundle import ModelDocument
from service.video.spec import ClipSpec
from service.video.windows import Window, cover

Array = NDArray[np.float32]

_BATCH_WINDOWS = 32


class Head:
    """head.onnx: features (B, T, D), lengths (B) and state → scores (B, K)."""

    def __init__(self, session: ort.InferenceSession, model: ModelDocument) -> None:
        self.model = model
        self._session = session
        self._activation = _ACTIVATIONS[model.score]

    def scores(self, windows: list[Array]) -> Array:
        """Scores (len(windows), K) float32 of windows (T_i, D), each from the zero state."""
        lengths = np.array([len(window) for window in windows], np.int64)
        features = np.zeros((len(windows), lengths.max(), windows[0].shape[1]), np.float32)
        for row, window in zip(features, windows, strict=True):
            row[: len(window)] = window
        feeds = {"features": features, "lengths": lengths}
        feeds |= {state.name: np.zeros((len(windows), state.size), np.float32) for state in self.model.state}
        outputs: Array = self._session.run(["outputs"], feeds)[0]
        return self._activation(outputs)


def softmax(logits: Array) -> Array:
    """Row by row, in float32, stable."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: Array = powers / powers.sum(axis=1, keepdims=True)
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


@dataclass
class WindowScorer:
    """Scores a clip's windows as soon as their ticks are there, and keeps no feature that no window needs any more.

    Equal to cutting the whole clip by `service.video.windows.cover`; memory does not grow with the clip
    (unless the spec's window is the whole clip).
    """

    head: Head
    _rows: list[Array] = field(default_factory=list)
    _kept_from: int = 0
    _num_ticks: int = 0
    _next_start: int = 0
    _windows: list[Window] = field(default_factory=list)
    _scores: list[Array] = field(default_factory=list)

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

    def finish(self) -> tuple[list[Window], Array]:
        """All windows, in order, and their scores (len, K); needs at least one tick."""
        self._score([w for w in cover(self._num_ticks, self._spec)[-1:] if w not in self._windows[-1:]])
        return self._windows, np.concatenate(self._scores)

    @property
    def _spec(self) -> ClipSpec:
        return self.head.model.spec

    def _score(self, windows: list[Window]) -> None:
        for at in range(0, len(windows), _BATCH_WINDOWS):
            part = windows[at : at + _BATCH_WINDOWS]
            first = self._kept_from
            self._scores.append(
                self.head.scores([np.stack(self._rows[w.start - first : w.stop - first]) for w in part])
            )
        self._windows.extend(windows)
