"""The whole path on one screen: decode → frame batcher → head → answer. Used by the API, jobs and the CLI alike."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bundle import ModelDocument, Precision, Runtime
from service.engine.batcher import Encoded, FrameBatcher
from service.engine.heads import Head, WindowScorer
from service.errors import Cancelled
from service.results import LabelScore, ModelName, Prediction, Receipt, Segment, Timing
from service.video.decode import ClipReader, DecodeLimits, FrameChunk
from service.video.windows import Window, runs, timeline

# Frames of one chunk, and chunks of one clip that may be decoded ahead of the encoder.
_CHUNK_FRAMES = 8
_CHUNKS_IN_FLIGHT = 2
_PUSH_TICKS = 256


@dataclass(frozen=True)
class LoadedModel:
    """A verified bundle, ready to answer."""

    document: ModelDocument
    sha256: str
    head: Head
    batcher: FrameBatcher
    runtime: Runtime
    precision: Precision

    @property
    def name(self) -> ModelName:
        """As it stands in every answer."""
        document = self.document
        return ModelName(name=document.name, version=document.version, task=document.task, sha256=self.sha256)


@dataclass(frozen=True)
class ClipRequest:
    """One file on disk and what is wanted of it. Times in seconds from the stream's start.

    submitted: `time.perf_counter()` when the clip began to wait for a thread; cancelled: looked at between chunks.
    """

    path: Path
    sha256: str
    top_k: int = 5
    start_seconds: float = 0.0
    end_seconds: float = math.inf
    upload_seconds: float = 0.0
    submitted: float | None = None
    request_id: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)


def predict(request: ClipRequest, model: LoadedModel, limits: DecodeLimits, stopping: threading.Event) -> Prediction:
    """Answer for one clip; blocks. Raises the errors of `ClipReader`, and Cancelled."""
    watch = _Watch(request.submitted)
    spec = model.document.spec
    with watch.stage("probe"):
        reader = ClipReader(
            request.path, spec, start_seconds=request.start_seconds, end_seconds=request.end_seconds, limits=limits
        )
    scorer = WindowScorer(model.head)
    in_flight: deque[tuple[Future[Encoded], NDArray[np.int64]]] = deque()
    with reader:
        for chunk in watch.each("decode", reader.chunks(_CHUNK_FRAMES)):
            if request.cancelled.is_set() or stopping.is_set():
                raise Cancelled("the client went away, or the service stops")
            if len(in_flight) == _CHUNKS_IN_FLIGHT:
                _score_oldest(in_flight, scorer, watch)
            in_flight.append((model.batcher.submit(chunk.frames), chunk.ticks))
        while in_flight:
            _score_oldest(in_flight, scorer, watch)
        report = reader.report()
    with watch.stage("head"):
        windows, scores = scorer.finish()
    with watch.stage("post"):
        predictions = _best(model.document.labels, scores, request.top_k)
        segments = _segments(model.document, scorer.num_ticks, windows, scores, reader)
    decoded = asdict(report)
    return Prediction(
        request_id=request.request_id or uuid.uuid4().hex,
        model=model.name,
        predictions=predictions,
        segments=segments,
        receipt=Receipt(
            sha256=request.sha256,
            sample_fps=spec.sample_fps,
            spec_sha256=spec.sha256,
            runtime=model.runtime,
            precision=model.precision,
            **{name: value for name, value in decoded.items() if name != "warnings"},
        ),
        timing_ms=watch.timing(request.upload_seconds),
        warnings=list(report.warnings),
    )


def _score_oldest(
    in_flight: deque[tuple[Future[Encoded], NDArray[np.int64]]], scorer: WindowScorer, watch: _Watch
) -> None:
    future, ticks = in_flight.popleft()
    encoded = future.result()
    watch.add("queue", encoded.queue_seconds)
    watch.add("encode", encoded.encode_seconds)
    with watch.stage("head"):
        rows = np.repeat(np.arange(len(ticks)), ticks)  # a frame of a slide show may serve very many ticks
        for at in range(0, len(rows), _PUSH_TICKS):
            scorer.push(encoded.features[rows[at : at + _PUSH_TICKS]])


def _best(labels: tuple[str, ...], window_scores: NDArray[np.float32], top_k: int) -> list[LabelScore]:
    """The mean over windows, highest first; ties by label order."""
    mean = window_scores.mean(axis=0, dtype=np.float64)
    order = np.argsort(-mean, kind="stable")[:top_k]
    return [LabelScore(label=labels[i], score=round(float(mean[i]), 6)) for i in order]


def _segments(
    document: ModelDocument, num_ticks: int, windows: list[Window], scores: NDArray[np.float32], reader: ClipReader
) -> list[Segment]:
    """Runs of the timeline; a segment ends where the next tick begins."""
    stride = document.spec.stride_frames if len(windows) > 1 and document.spec.stride_frames else num_ticks
    cells, table = timeline(num_ticks, windows, scores, stride)
    end_of_clip = reader.report().last_seconds + 1.0 / document.spec.sample_fps
    return [
        Segment(
            start_seconds=round(reader.grid.tick_seconds(run.start), 6),
            end_seconds=round(reader.grid.tick_seconds(run.stop) if run.stop < num_ticks else end_of_clip, 6),
            label=document.labels[run.label_index],
            score=round(run.score, 6),
        )
        for run in runs(cells, table)
    ]


class _Watch:
    """Adds up the busy time of each stage."""

    def __init__(self, submitted: float | None) -> None:
        now = time.perf_counter()
        self._started = now if submitted is None else submitted
        self._seconds = dict.fromkeys(("probe", "decode", "queue", "encode", "head", "post"), 0.0)
        self.add("queue", now - self._started)  # for a thread; the encoder's queue comes on top

    def add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] += seconds

    def stage(self, name: str) -> _Stage:
        return _Stage(self, name)

    def each(self, name: str, chunks: Iterator[FrameChunk]) -> Iterator[FrameChunk]:
        """The same chunks; the time to make each counts for the stage."""
        while True:
            with self.stage(name):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def timing(self, upload_seconds: float) -> Timing:
        total = upload_seconds + time.perf_counter() - self._started
        stages = {name: round(seconds * 1e3, 3) for name, seconds in self._seconds.items()}
        return Timing(upload=round(upload_seconds * 1e3, 3), total=round(total * 1e3, 3), **stages)


class _Stage:
    def __init__(self, watch: _Watch, name: str) -> None:
        self._watch = watch
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._watch.add(self._name, time.perf_counter() - self._started)
