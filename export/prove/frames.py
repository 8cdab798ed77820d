"""encoder.onnx on random frames, and the whole path on real clips: from the file to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import CheckFailed, ExportError
from export.prove.clips import ProofClip
from export.prove.proof import Array, Proof, Worst
from export.prove.reference import Doubles, Reference
from service.bundle import GPU_RUNTIMES, LEAST_CLIPS, EncoderDocument, ModelDocument, Precision, Runtime
from service.differences import SMALL, difference, relative_difference
from service.engine.clip_scores import ClipScores
from service.engine.heads import Head
from service.engine.known_answer import KnownAnswer
from service.engine.scorer import WindowScorer
from service.engine.sessions import open_encoders
from service.errors import BundleError
from service.tolerances import ACCURACY, AGAINST_TRAINING, least_accuracy
from service.video.pool import DecodePool

_BATCHES = (1, 2, 7, 32)
# Of a GPU, whose batches are as large (`service.engine.batch_sizes`): the frames of the largest batch above, in turn.
_GPU_BATCH = 256
_CHUNK_FRAMES = 8
_MIXED_FRAMES = 8
_TIE = 1e-6  # float32's sigmoid reaches 1.0 where float64's does not


class RunEncoder:
    """The encoder as it is served, on one thread: frames (N, H, W, 3), N at most 32 (256 on a GPU), → features."""

    def __init__(self, path: Path, document: EncoderDocument, runtime: Runtime, precision: Precision) -> None:
        most = _GPU_BATCH if runtime in GPU_RUNTIMES else max(*_BATCHES, _CHUNK_FRAMES)
        [self._encoder] = open_encoders(path, document, runtime, precision, count=1, max_batch_frames=most)
        self.failure = ""

    def check(self, known: KnownAnswer, head: Head) -> None:
        """As the service does at start, at each size of batch, and of the head. Raises CheckFailed."""
        sizes = [size for size in (*_BATCHES, _GPU_BATCH) if size <= len(self._encoder.buffer)]
        try:
            known.check_encoders([self._encoder], sizes)
            known.check_head(head)
        except BundleError as error:
            raise CheckFailed(str(error)) from error

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
        worst.see(relative_difference(features, known.features, SMALL), where)
        for row in range(batch):
            alone.see(relative_difference(encoder(frames[row : row + 1])[0], features[row], SMALL), where)
    num_frames = sum(_BATCHES)
    if proof.runtime in GPU_RUNTIMES:
        known, order = batches[-1], np.arange(_GPU_BATCH) % len(batches[-1].frames)
        features = encoder(known.frames[order])
        worst.see(relative_difference(features, known.features[order], SMALL), f"batch {_GPU_BATCH}")
        alone.see(relative_difference(encoder(known.frames), features[: len(known.frames)], SMALL), f"of {_GPU_BATCH}")
        num_frames += _GPU_BATCH
    proof.line("encoder features, random frames", worst.value, num_frames, encoder.failure or worst.where)
    proof.line("encoder batch invariance", alone.value, num_frames, encoder.failure or alone.where)


@dataclass(frozen=True)
class ClipReference:
    """A real clip as PyTorch sees it.

    features: (ticks, D); windows: each one's scores; scores: of windows, or of a frame model's ticks; mean: (K).
    """

    clip: ProofClip
    features: Doubles
    windows: list[Doubles]
    scores: Doubles
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
    _, windows, scores = reference.scores(features)
    return ClipReference(clip, features, windows, scores, scores.mean(axis=0), mixed[0])


def prove_clips(head: Head, encoder: RunEncoder, references: Sequence[ClipReference], proof: Proof) -> None:
    """From the file to the score: the serving path against PyTorch."""
    worst = {name: Worst() for name in ("features", "windows", "scores", "mixed", "trained")}
    agreed, num_windows, num_trained, counted = 0, 0, 0, _Right()
    alone: list[Array] = []
    with DecodePool(num_credits=1) as pool:
        for known in references:
            name, scorer, rows = known.clip.path.name, WindowScorer(head), []
            with pool.open(known.clip.path, head.model.spec) as video:
                for chunk in video.batches(_CHUNK_FRAMES):
                    rows.append(np.repeat(encoder(chunk.frames), chunk.ticks, axis=0))
                    scorer.push(rows[-1])
            features, answer = np.concatenate(rows), scorer.finish()
            worst["features"].see(relative_difference(features, known.features, SMALL), name)
            for window, wanted in zip(answer.windows, known.windows, strict=True):
                scores = head.scores([features[window.start : window.stop]])
                worst["windows"].see(relative_difference(scores[0] if wanted.ndim == 1 else scores, wanted), name)
            num_windows += len(known.windows)
            worst["scores"].see(relative_difference(answer.mean, known.mean), name)
            if (trained := known.clip.trained) is not None:
                wanted = np.array([trained.scores[label] for label in head.model.labels])
                worst["trained"].see(relative_difference(answer.mean, wanted), name)
                if trained.tick_scores is not None:
                    worst["trained"].see(relative_difference(answer.scores, trained.tick_scores), name)
                num_trained += 1
            agreed += int(known.mean[answer.mean.argmax()] >= known.mean.max() - _TIE)
            counted.see(known, answer, head.model)
            alone.append(encoder(known.mixed))
    _see_mixed(head, encoder, references, alone, worst["mixed"])
    num_clips = len(references)
    detail = {key: encoder.failure or w.where for key, w in worst.items()}
    proof.line("encoder features, real frames", worst["features"].value, num_clips, detail["features"])
    proof.line("real clips, each window", worst["windows"].value, num_windows, detail["windows"])
    proof.line("real clips, scores", worst["scores"].value, num_clips, detail["scores"])
    proof.line("real clips, top-1", agreed / num_clips, num_clips)
    proof.line("real clips, mixed batches", worst["mixed"].value, num_clips, detail["mixed"])
    proof.line(AGAINST_TRAINING, worst["trained"].value, num_trained, worst["trained"].where)
    if counted.clips:
        said = f"{counted.share:.4f}, PyTorch {counted.wanted_share:.4f}"
        proof.line("real clips, accuracy lost", counted.wanted_share - counted.share, counted.clips, said)
    if claim := head.model.claim:
        if counted.clips < LEAST_CLIPS:
            raise ExportError(
                f"an accuracy of {claim.accuracy:.4f} is claimed, and {counted.clips} of the clips have a label to "
                f"show it on, at least {LEAST_CLIPS} are needed: give --clips a manifest, or a folder with one folder "
                "a label"
            )
        limit = least_accuracy(claim.accuracy, claim.clips, counted.clips)
        ticks = f"{claim.ticks} ticks in " if claim.ticks else ""
        said = f"{claim.accuracy:.4f} is claimed, on {ticks}{claim.clips} clips of {claim.part}"
        proof.line(ACCURACY, counted.share, counted.clips, said, limit=limit)


@dataclass
class _Right:
    """How many clips whose label is known are right, as served and in PyTorch; of a frame model how many ticks."""

    clips: int = 0
    counted: int = 0
    right: int = 0
    wanted_right: int = 0

    @property
    def share(self) -> float:
        return self.right / self.counted

    @property
    def wanted_share(self) -> float:
        return self.wanted_right / self.counted

    def see(self, known: ClipReference, answer: ClipScores, model: ModelDocument) -> None:
        """One clip more, if its label is known, or those of its ticks."""
        trained = known.clip.trained
        if model.task == "frame":
            if trained is None or trained.tick_labels is None:
                return
            labels = trained.tick_labels
            served, wanted = answer.scores, known.scores
            if len(labels) != len(served):  # other ticks than in training: the line against training says so
                return
        elif known.clip.label in model.labels and model.score == "softmax":  # of several labels none is the right one
            labels = np.array([model.labels.index(known.clip.label)])
            served, wanted = answer.mean[None], known.mean[None]
        else:
            return
        self.clips += 1
        self.counted += len(labels)
        self.right += int((served.argmax(axis=1) == labels).sum())
        self.wanted_right += int((wanted.argmax(axis=1) == labels).sum())


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
    worst.see(relative_difference(mixed, np.concatenate(alone), SMALL), "frames")
    together, by_itself = head.scores(alone), [head.scores([features]) for features in alone]
    worst.see(difference(together, np.concatenate(by_itself)), "windows")
