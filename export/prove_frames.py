"""encoder.onnx on random frames, and the whole path on real clips: from the file to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.clips import ProofClip
from export.proof import Array, Proof, Worst, difference, relative_difference
from export.reference import Doubles, Reference
from service.bundle import EncoderDocument, Precision, Runtime
from service.engine.heads import Head
from service.engine.scorer import WindowScorer
from service.engine.sessions import open_encoders
from service.video.pool import DecodePool

_BATCHES = (1, 2, 7, 32)
_CHUNK_FRAMES = 8
_MIXED_FRAMES = 8
_SMALL = 1e-6  # features have any scale
_TIE = 1e-6  # float32's sigmoid reaches 1.0 where float64's does not


class RunEncoder:
    """The encoder as it is served, on one thread: frames (N, H, W, 3), N at most 32, → features."""

    def __init__(self, path: Path, document: EncoderDocument, runtime: Runtime, precision: Precision) -> None:
        [self._encoder] = open_encoders(
            path, document, runtime, precision, count=1, max_batch_frames=max(*_BATCHES, _CHUNK_FRAMES)
        )
        self.failure = ""

    def __call__(self, frames: NDArray[np.uint8]) -> Array:
        self._encoder.buffer[: len(frames)] = frames
        try:
            return self._encoder.run(len(frames))
        except Exception as error:  # noqa: BLE001  (a runtime has no error class of its own)
            self.failure = " ".join(str(error).split())[:200]
            return np.full((len(frames), 1), np.inf, np.float32)


@dataclass(frozen=True)
class RandomBatch:
    """Random frames, a dark one among them, and their features as PyTorch computes them."""

    frames: NDArray[np.uint8]
    features: Doubles


def random_batches(reference: Reference) -> list[RandomBatch]:
    """The same ones every time."""
    spec = reference.model.spec
    random = np.random.default_rng(1)
    batches = []
    for batch in _BATCHES:
        frames = random.integers(0, 256, (batch, spec.frame_height, spec.frame_width, 3), np.uint8)
        frames[0] //= 8  # the dark one
        batches.append(RandomBatch(frames, reference.features(frames)))
    return batches


def prove_encoder(encoder: RunEncoder, batches: Sequence[RandomBatch], proof: Proof) -> None:
    """On random frames: against PyTorch, and each frame alone against itself in a batch."""
    worst, alone = Worst(), Worst()
    for batch, known in zip(_BATCHES, batches, strict=True):
        where, frames = f"batch {batch}", known.frames
        features = encoder(frames)
        worst.see(relative_difference(features, known.features, _SMALL), where)
        for row in range(batch):
            alone.see(relative_difference(encoder(frames[row : row + 1])[0], features[row], _SMALL), where)
    num_frames = sum(_BATCHES)
    proof.line("encoder features, random frames", worst.value, num_frames, encoder.failure or worst.where)
    proof.line("encoder batch invariance", alone.value, num_frames, encoder.failure or alone.where)


@dataclass(frozen=True)
class ClipReference:
    """A real clip as PyTorch sees it. features: (ticks, D); windows: each one's scores; mean: (K)."""

    clip: ProofClip
    features: Doubles
    windows: list[Doubles]
    mean: Doubles
    mixed: NDArray[np.uint8]


def reference_of(clip: ProofClip, reference: Reference, pool: DecodePool) -> ClipReference:
    """Decode a clip once and run PyTorch over it."""
    rows: list[Doubles] = []
    mixed: list[NDArray[np.uint8]] = []
    with pool.open(clip.path, reference.model.spec) as video:
        for chunk in video.batches(_CHUNK_FRAMES):
            rows.append(np.repeat(reference.features(chunk.frames), chunk.ticks, axis=0))
            if not mixed:
                mixed.append(chunk.frames[:_MIXED_FRAMES].copy())
    features = np.concatenate(rows)
    _, windows, mean = reference.scores(features)
    return ClipReference(clip, features, windows, mean, mixed[0])


def prove_clips(head: Head, encoder: RunEncoder, references: Sequence[ClipReference], proof: Proof) -> None:
    """From the file to the score: the serving path against PyTorch."""
    worst = {name: Worst() for name in ("features", "windows", "scores", "mixed")}
    agreed, labelled, right, wanted_right, num_windows = 0, 0, 0, 0, 0
    alone: list[Array] = []
    with DecodePool(num_credits=1) as pool:
        for known in references:
            name, scorer, rows = known.clip.path.name, WindowScorer(head), []
            with pool.open(known.clip.path, head.model.spec) as video:
                for chunk in video.batches(_CHUNK_FRAMES):
                    rows.append(np.repeat(encoder(chunk.frames), chunk.ticks, axis=0))
                    scorer.push(rows[-1])
            features, answer = np.concatenate(rows), scorer.finish()
            worst["features"].see(relative_difference(features, known.features, _SMALL), name)
            for window, wanted in zip(answer.windows, known.windows, strict=True):
                scores = head.scores([features[window.start : window.stop]])
                worst["windows"].see(relative_difference(scores[0] if wanted.ndim == 1 else scores, wanted), name)
            num_windows += len(known.windows)
            worst["scores"].see(relative_difference(answer.mean, known.mean), name)
            agreed += int(known.mean[answer.mean.argmax()] >= known.mean.max() - _TIE)
            if known.clip.label in head.model.labels:
                index = head.model.labels.index(known.clip.label)
                labelled += 1
                right += int(answer.mean.argmax() == index)
                wanted_right += int(known.mean.argmax() == index)
            alone.append(encoder(known.mixed))
    _see_mixed(head, encoder, references, alone, worst["mixed"])
    num_clips = len(references)
    detail = {key: encoder.failure or w.where for key, w in worst.items()}
    proof.line("encoder features, real frames", worst["features"].value, num_clips, detail["features"])
    proof.line("real clips, each window", worst["windows"].value, num_windows, detail["windows"])
    proof.line("real clips, scores", worst["scores"].value, num_clips, detail["scores"])
    proof.line("real clips, top-1", agreed / num_clips, num_clips)
    proof.line("real clips, mixed batches", worst["mixed"].value, num_clips, detail["mixed"])
    if labelled:
        said = f"{right / labelled:.4f}, PyTorch {wanted_right / labelled:.4f}"
        proof.line("real clips, accuracy lost", (wanted_right - right) / labelled, labelled, said)


def _see_mixed(
    head: Head, encoder: RunEncoder, references: Sequence[ClipReference], alone: list[Array], worst: Worst
) -> None:
    """The first frames of all clips, shuffled into batches of every clip's; then all clips' features as one batch."""
    frames = np.concatenate([known.mixed for known in references])
    order = np.random.default_rng(3).permutation(len(frames))
    mixed = np.empty((len(frames), alone[0].shape[1]), np.float32)
    for at in range(0, len(frames), 7):
        part = order[at : at + 7]
        mixed[part] = encoder(frames[part])
    worst.see(relative_difference(mixed, np.concatenate(alone), _SMALL), "frames")
    together, by_itself = head.scores(alone), [head.scores([features]) for features in alone]
    worst.see(difference(together, np.concatenate(by_itself)), "windows")
