"""ONNX Runtime; without options as its documentation opens it: one session, as many threads as there are cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[np.float32]


class OnnxEngine:
    """The two graphs of a bundle."""

    def __init__(self, encoder: Path, head: Path, options: ort.SessionOptions | None = None) -> None:
        self._encoder = ort.InferenceSession(str(encoder), options, providers=["CPUExecutionProvider"])
        self._head = ort.InferenceSession(str(head), options, providers=["CPUExecutionProvider"])
        self._state = {
            node.name: node.shape[1] for node in self._head.get_inputs() if node.name not in ("features", "lengths")
        }

    def encode(self, frames: NDArray[np.uint8]) -> Array:
        features: Array = self._encoder.run(None, {"frames": frames})[0]
        return features

    def logits(self, features: Array, lengths: NDArray[np.int64]) -> Array:
        zeros = {name: np.zeros((len(features), size), np.float32) for name, size in self._state.items()}
        logits: Array = self._head.run(["outputs"], {"features": features, "lengths": lengths, **zeros})[0]
        return logits
