"""The whole path on one screen: decode → frame batcher → head → answer. Used by the API, jobs and the CLI alike."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from service.bundle import ModelDocument, Precision, Runtime
from service.engine.batcher import Encoded, FrameBatcher
from service.engine.heads import ClipScores, Head, WindowScorer
from service.errors import Cancelled
from service.results import LabelScore, ModelName, Prediction, Receipt, Segment, Timing
from service.video.decode import DecodeReport, FrameChunk
from service.video.pool import CHUNKS_HELD, DecodePool
from service.video.windows import runs

_PUSH_TICKS = 256


@dataclass(frozen=True)
class LoadedModel:
    """A verified bundle, ready to answer. encode_frame_seconds: of one frame, as warm-up measured it."""

    document: ModelDocument
    sha256: str
    head: Head
    batcher: FrameBatcher
    runtime: Runtime
    precision: Precision
    encode_frame_seconds: float

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
    strict: bool = False
    submitted: float | None = None
    request_id: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)


def predict(request: ClipRequest, model: LoadedModel, decoders: DecodePool, stopping: threading.Event) -> Prediction:
    """Answer for one clip; blocks. Raises the errors of `OpenVideo`, and Cancelled."""

    def check() -> None:
        if request.cancelled.is_set() or stopping.is_set():
            raise Cancelled("the client went away, or the service stops")

    watch = _Watch(request.submitted)
    spec = model.document.spec
    scorer = WindowScorer(model.head)
    in_flight: deque[_InFlight] = deque()
    opening = decoders.open(
        request.path, spec, start_seconds=request.start_seconds, end_seconds=request.end_seconds,
        strict=request.strict, check=check,
    )  # fmt: skip
    with opening as clip:
        for chunk in clip.chunks():
            check()
            in_flight.append(_InFlight(chunk, model.batcher.submit(chunk.frames)))
            if len(in_flight) == CHUNKS_HELD:
                _score(in_flight.popleft(), scorer, watch)
        while in_flight:
            _score(in_flight.popleft(), scorer, watch)
        watch.add("probe", clip.open_seconds)
        watch.add("decode", clip.busy_seconds - clip.open_seconds)
        watch.add("queue", clip.waited_seconds)
        report = clip.report()
    with watch.stage("head"):
        scores = scorer.finish()
    with watch.stage("post"):
        predictions = _best(model.document.labels, scores, request.top_k)
        segments = _segments(model.document, scores, report)
    decoded = asdict(report)
    return Prediction(
        request_id=request.request_id or uuid.uuid4().hex,
        model=model.name,
        predictions=predictions,
        segments=segments,
        receipt=Receipt(
            sha256=request.sha256,
            container=clip.container.format,
            pixel_format=clip.container.pixel_format,
            bit_depth=clip.container.bit_depth,
            interlaced=clip.container.interlaced,
            hdr=clip.container.hdr,
            sample_fps=spec.sample_fps,
            spec_sha256=spec.sha256,
            runtime=model.runtime,
            precision=model.precision,
            **{name: value for name, value in decoded.items() if name != "warnings"},
        ),
        timing_ms=watch.timing(request.upload_seconds),
        warnings=[*report.warnings, *clip.container.warnings()],
    )


@dataclass(frozen=True)
class _InFlight:
    """A chunk that the encoder reads."""

    chunk: FrameChunk
    encoded: Future[Encoded]


def _score(part: _InFlight, scorer: WindowScorer, watch: _Watch) -> None:
    encoded = part.encoded.result()
    part.chunk.release()
    watch.add("queue", encoded.queue_seconds)
    watch.add("encode", encoded.encode_seconds)
    ticks = part.chunk.ticks
    with watch.stage("head"):
        rows = np.repeat(np.arange(len(ticks)), ticks)  # a frame of a slide show may serve very many ticks
        for at in range(0, len(rows), _PUSH_TICKS):
            scorer.push(encoded.features[rows[at : at + _PUSH_TICKS]])


def _best(labels: tuple[str, ...], scores: ClipScores, top_k: int) -> list[LabelScore]:
    """The clip's own scores, highest first; ties by label order."""
    mean = scores.mean
    order = np.argsort(-mean, kind="stable")[:top_k]
    return [LabelScore(label=labels[i], score=round(float(mean[i]), 6)) for i in order]


def _segments(document: ModelDocument, scores: ClipScores, report: DecodeReport) -> list[Segment]:
    """Runs of the timeline; a segment ends where the next tick begins."""

    def seconds(tick: int) -> float:
        return report.origin_seconds + tick / document.spec.sample_fps

    end_of_clip = report.last_seconds + 1.0 / document.spec.sample_fps
    return [
        Segment(
            start_seconds=round(seconds(run.start), 6),
            end_seconds=round(seconds(run.stop) if run.stop < scores.num_ticks else end_of_clip, 6),
            label=document.labels[run.label_index],
            score=round(run.score, 6),
        )
        for run in runs(scores.cells, scores.table)
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
