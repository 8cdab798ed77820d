"""What every peer does with a clip: our decoding, our windows, the same weights; in PyTorch eager or ONNX Runtime.

The peers add their framework around it. Nothing here is tuned: engines are opened as their documentation opens them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.video.decode import ClipReader
from service.video.spec import ClipSpec
from service.video.windows import Window, cover
from tests.zoo import DOCUMENT, TRAINED, TRAINED_ENCODER

ENGINE_VARIABLE = "BENCH_ENGINE"  # onnx | eager
TOP_K = 5
# Frames of one encoder call: two minutes at once would take gigabytes. Kind to the peers: few stay in the cache.
_ENCODE_FRAMES = 16

Frames = NDArray[np.uint8]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class DecodedClip:
    """frames: (N, H, W, 3) uint8 RGB; ticks: (N,) int64, how many ticks each frame serves."""

    frames: Frames
    ticks: NDArray[np.int64]


@dataclass(frozen=True)
class Prediction:
    """A label and its score in [0, 1]."""

    label: str
    score: float


def decode(path: Path, spec: ClipSpec) -> DecodedClip:
    """Sample a whole video, in this process."""
    with ClipReader(path, spec) as reader:
        chunks = list(reader.chunks(_ENCODE_FRAMES))
    return DecodedClip(
        np.concatenate([chunk.frames for chunk in chunks]), np.concatenate([chunk.ticks for chunk in chunks])
    )


class Engine(Protocol):
    """The two networks of the bundle."""

    def encode(self, frames: Frames) -> Array:
        """uint8 RGB (N, H, W, 3) → features (N, D)."""

    def logits(self, features: Array, lengths: NDArray[np.int64]) -> Array:
        """Features (B, T, D), padded behind `lengths` (B) → logits (B, K)."""


class ClipModel:
    """Clips in, their best labels out; one instance may be used from many threads."""

    def __init__(self, engine: Engine, batch_frames: int = _ENCODE_FRAMES) -> None:
        self.model = DOCUMENT
        self._engine = engine
        self._batch_frames = batch_frames

    @classmethod
    def from_environment(cls) -> ClipModel:
        """With the engine that BENCH_ENGINE names, `onnx` or `eager`, opened as its documentation opens it."""
        return cls(_open(os.environ[ENGINE_VARIABLE]))

    @property
    def spec(self) -> ClipSpec:
        """What decides the pixels and the windows."""
        return self.model.spec

    def encode(self, frames: Frames) -> Array:
        """uint8 (N, H, W, 3) → features (N, D)."""
        size = self._batch_frames
        pieces = [frames[at : at + size] for at in range(0, len(frames), size)]
        return np.concatenate([self._engine.encode(piece) for piece in pieces])

    def best(self, features: Array) -> list[Prediction]:
        """Features of all ticks (T, D) → the best labels by the mean score over windows."""
        windows = cover(len(features), self.spec)
        logits = self._engine.logits(*_padded(features, windows))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        mean = (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)
        order = np.argsort(-mean)[:TOP_K]
        return [Prediction(self.model.labels[index], float(mean[index])) for index in order]

    def predict(self, clips: list[DecodedClip]) -> list[list[Prediction]]:
        """A batch of clips: their frames are encoded together."""
        features = self.encode(np.concatenate([clip.frames for clip in clips]))
        ends = np.cumsum([len(clip.frames) for clip in clips])
        parts = np.split(features, ends[:-1])
        return [self.best(np.repeat(part, clip.ticks, axis=0)) for part, clip in zip(parts, clips, strict=True)]


def answer(predictions: list[Prediction]) -> dict[str, list[dict[str, str | float]]]:
    """The JSON that all servers give; ours has more."""
    return {"predictions": [{"label": one.label, "score": one.score} for one in predictions]}


def _padded(features: Array, windows: list[Window]) -> tuple[Array, NDArray[np.int64]]:
    lengths = np.array([window.length for window in windows], np.int64)
    batch = np.zeros((len(windows), lengths.max(), features.shape[1]), np.float32)
    for row, window in zip(batch, windows, strict=True):
        row[: window.length] = features[window.start : window.stop]
    return batch, lengths


def _open(engine: str) -> Engine:
    match engine:
        case "onnx":
            from tests.bench.peers.onnx_engine import OnnxEngine

            return OnnxEngine(TRAINED_ENCODER / "encoder.onnx", TRAINED / "head.onnx")
        case "eager":
            from tests.bench.peers.eager_engine import EagerEngine

            return EagerEngine(TRAINED / "head.onnx", DOCUMENT.spec)
    raise ValueError(f"{ENGINE_VARIABLE} is {engine!r}; there are onnx and eager")
