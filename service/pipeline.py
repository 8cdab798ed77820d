"""The whole path on one screen: decode → frame batcher → head → answer. Used by the API, jobs and the CLI alike."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.answers import AnswerOptions, spec_with
from service.engine.admission import Cost, Work
from service.engine.cache import Collector, FeatureKey
from service.engine.chunks import Encoded, Features
from service.engine.head_run import HeadRun, head_tick_seconds, pieces
from service.engine.lease import Lease
from service.engine.shadow import HALF_TOLERANCE, TOLERANCE, ShadowSample
from service.engine.shared import LoadedModel, Shared
from service.errors import Cancelled, DeadlineExceeded, NotReady
from service.fairness import Priority
from service.metrics import DECODE_BLOCKED_SECONDS
from service.receipts import conclude
from service.results import CacheOutcome, Prediction
from service.timing import Watch
from service.video import sources
from service.video.chunk import Times
from service.video.container import Container
from service.video.frames import REVISION
from service.video.open_video import CHUNKS_HELD, OpenVideo
from service.video.report import DecodeReport, check_enough

_POLL_SECONDS = 0.1
# What decides the pixels beside the file and the spec.
_DECODER = f"{REVISION}/{sources.VERSIONS}"


@dataclass(frozen=True)
class ClipRequest:
    """One file on disk and what is wanted of it. Times in seconds from the stream's start; stream: its number.

    submitted, deadline: `time.perf_counter()` when the clip began to wait, and when its answer is worth nothing any
    more; cancelled: looked at between chunks.
    """

    path: Path
    sha256: str
    options: AnswerOptions = field(default_factory=AnswerOptions)
    start_seconds: float = 0.0
    end_seconds: float = math.inf
    upload_seconds: float = 0.0
    stream: int | None = None
    strict: bool = False
    submitted: float | None = None
    deadline: float | None = None
    priority: Priority = Priority.INTERACTIVE
    request_id: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)


def predict(request: ClipRequest, models: Sequence[LoadedModel], shared: Shared) -> list[Prediction]:
    """Answers of the models for one clip, in their order; blocks. Models that see the same frames share one pass.

    Raises the errors of `OpenVideo`, `answers.spec_with`, `Admission.judge` and `FrameBatcher`, DeadlineExceeded and
    Cancelled.
    """
    passes: dict[tuple[str, ...], list[LoadedModel]] = {}
    for model in models:
        passes.setdefault(model.sees, []).append(model)
    groups = list(passes.values())
    answers = {
        model.sha256: prediction
        for number, group in enumerate(groups)
        for model, prediction in zip(group, _Pass(request, groups[number:], shared, number).run(), strict=True)
    }
    return [answers[model.sha256] for model in models]


class _Pass:
    """One decode and one run of the encoder over a clip, for one or more heads."""

    def __init__(
        self, request: ClipRequest, groups: Sequence[Sequence[LoadedModel]], shared: Shared, number: int
    ) -> None:
        """groups: the models of this pass and of those after it; number: of the passes before it."""
        models = groups[0]
        specs = [spec_with(model.document.spec, request.options) for model in models]
        self._request = request
        self._groups = groups
        self._number = number
        self._shared = shared
        self._model = models[0]
        self._spec = specs[0].model_copy(update={"min_frames": max(spec.min_frames for spec in specs)})
        self._watch = Watch(request.submitted, counts_wait=number == 0)
        self._heads = [HeadRun(model, spec) for model, spec in zip(models, specs, strict=True)]
        self._sample: ShadowSample | None = None
        self._seconds: list[Times] = []
        self._frames_done = 0
        self._taken = 0.0

    def run(self) -> list[Prediction]:
        stored = self._shared.cache.get(key := self._key())
        if stored is not None:
            span = (self._request.start_seconds, self._request.end_seconds)
            check_enough(stored.report.ticks, self._spec, span, stored.report.duration_seconds)
            self._push(stored.features, stored.ticks, stored.seconds)
            return self._answers(stored.report, stored.container, "hit")
        with self._shared.cache.collect() as collector:
            report, container = self._compute(collector)
            collector.keep(key, report, container)
        return self._answers(report, container, "miss" if self._shared.cache.on else "off")

    def _compute(self, collector: Collector) -> tuple[DecodeReport, Container]:
        request, shared = self._request, self._shared
        with shared.admission.entered(request.priority) as work:
            weigh = partial(self._weigh, work)
            if shared.admission.is_tight(work, self._left()):
                weigh(self._header())
            placed = time.perf_counter()
            with (
                shared.slots.place(
                    request.priority, is_long=self._is_long(work), check=partial(self._check, work),
                    find_out=lambda: weigh(self._header()),
                ) as place,
                self._model.batcher.lease(request.priority) as lease,
            ):  # fmt: skip
                self._watch.add("queue", time.perf_counter() - placed)
                opening = shared.decoders.open(
                    request.path, self._spec, start_seconds=request.start_seconds, end_seconds=request.end_seconds,
                    stream=request.stream, strict=request.strict, priority=request.priority, check=self._check,
                )  # fmt: skip
                with opening as clip:
                    shared.slots.set_long(place, is_long=weigh(clip.container))
                    self._stream(clip, lease, work, collector)
                    report = clip.report()
                    shared.forecast.learn(report, clip.cpu_seconds, request.path.stat().st_size)
            shared.admission.progress(work, 1.0)
        self._watch.add("probe", clip.open_seconds)
        self._watch.add("decode", clip.busy_seconds - clip.open_seconds)
        self._watch.add("queue", clip.waited_seconds)
        return report, clip.container

    def _stream(self, clip: OpenVideo, lease: Lease, work: Work, collector: Collector) -> None:
        """Chunk by chunk; at most `CHUNKS_HELD` are between decoding and the heads."""
        if self._model.encode_alone:
            tolerance = TOLERANCE if self._model.precision == "fp32" else HALF_TOLERANCE
            self._sample = self._shared.shadow.sample(self._model.encode_alone, tolerance)
        in_flight: deque[tuple[NDArray[np.int64], Times, Future[Encoded]]] = deque()

        def score() -> None:
            ticks, seconds, future = in_flight.popleft()
            encoded = self._result(future)
            # Of two chunks that wait at the same time, the time counts once.
            self._watch.add("queue", max(0.0, encoded.taken - max(encoded.submitted, self._taken)))
            self._taken = encoded.taken
            self._watch.add("encode", encoded.encode_seconds)
            collector.add(encoded.features, ticks, seconds)
            if self._sample:
                self._sample.add_features(encoded.features, ticks)
            self._push(encoded.features, ticks, seconds)
            if work.cost:
                self._frames_done += len(ticks)
                self._shared.admission.progress(work, self._frames_done / work.cost.frames)

        for chunk in clip.chunks():
            self._check()
            if self._sample:
                self._sample.add_frames(chunk.frames)
            in_flight.append((chunk.ticks, chunk.seconds, lease.submit(chunk.frames, copied=chunk.release)))
            if len(in_flight) == CHUNKS_HELD:
                started = time.perf_counter()
                score()
                DECODE_BLOCKED_SECONDS.inc(time.perf_counter() - started)
        while in_flight:
            score()

    def _push(self, features: Features, ticks: NDArray[np.int64], seconds: Times) -> None:
        """A frame of a slide show may serve very many ticks: the heads take them piece by piece."""
        self._seconds.append(seconds)
        for rows in pieces(ticks):
            self._check()
            for head in self._heads:
                head.push(features[rows])

    def _answers(self, report: DecodeReport, container: Container, cache: CacheOutcome) -> list[Prediction]:
        self._check()
        answers = [self._answer(head, report, container, cache) for head in self._heads]
        if self._sample:
            self._shared.shadow.check(self._sample)
        return answers

    def _answer(self, head: HeadRun, report: DecodeReport, container: Container, cache: CacheOutcome) -> Prediction:
        request = self._request
        scores = head.finish()
        if self._sample:
            self._sample.add_scores(head.score_alone, scores.mean)
        return conclude(
            head, scores, report, container, request.options, self._watch, np.concatenate(self._seconds),
            sha256=request.sha256, cache=cache, request_id=request.request_id, upload_seconds=request.upload_seconds,
        )  # fmt: skip

    def _key(self) -> FeatureKey:
        request, model = self._request, self._model
        return FeatureKey(
            file_sha256=request.sha256,
            pixels_sha256=self._spec.pixels_sha256,
            start_seconds=request.start_seconds,
            end_seconds=request.end_seconds,
            stream=request.stream,
            strict=request.strict,
            decoder=_DECODER,
            encoder_sha256=model.encoder,
            runtime=model.runtime,
            precision=model.precision,
        )

    def _header(self) -> Container:
        """Of a clip that has no place yet."""
        while not self._shared.header_reads.acquire(timeout=_POLL_SECONDS):
            self._check()
        try:
            return self._shared.decoders.header(
                self._request.path, stream=self._request.stream, priority=self._request.priority, check=self._check
            )
        finally:
            self._shared.header_reads.release()

    def _weigh(self, work: Work, container: Container) -> bool:
        """Hold the forecast of this pass and those after it against the deadline; returns whether the clip is long.

        Raises what `judge` does.
        """
        if work.cost is None:
            num_bytes = self._request.path.stat().st_size
            own, *later = [self._cost(container, num_bytes, group) for group in self._groups]
            cost = replace(
                own,
                machine_seconds=own.machine_seconds + sum(cost.machine_seconds for cost in later),
                alone_seconds=own.alone_seconds + sum(cost.alone_seconds for cost in later),
            )
            # A later pass was weighed with the first: only time that is gone can refuse it.
            timeout = self._timeout() if self._number == 0 else math.inf
            self._shared.admission.judge(work, cost, timeout, self._left())
        return self._is_long(work) is not False

    def _cost(self, container: Container, num_bytes: int, models: Sequence[LoadedModel]) -> Cost:
        request = self._request
        specs = [spec_with(model.document.spec, request.options) for model in models]
        return self._shared.forecast.cost(
            container, num_bytes, specs[0], models[0].frame_seconds,
            span=(request.start_seconds, request.end_seconds),
            tick_seconds=sum(map(head_tick_seconds, specs)),
        )  # fmt: skip

    def _is_long(self, work: Work) -> bool | None:
        return None if work.cost is None else work.cost.machine_seconds > self._shared.admission.alike_seconds

    def _timeout(self) -> float:
        return math.inf if self._request.deadline is None else self._request.deadline - self._watch.started

    def _left(self) -> float:
        return math.inf if self._request.deadline is None else self._request.deadline - time.perf_counter()

    def _check(self, waiting: Work | None = None) -> None:
        """Raises Cancelled and DeadlineExceeded; what still waits is dropped once it can't make it any more."""
        if self._request.cancelled.is_set():
            raise Cancelled("the client went away")
        if self._shared.stopping.is_set():
            raise NotReady("the service stops; try again")
        needed = waiting.cost.alone_seconds if waiting and waiting.cost else 0.0
        if self._left() < needed:
            raise DeadlineExceeded(
                f"the answer was not ready within {self._timeout():g} s; allow more with X-Request-Timeout, or send a "
                "shorter clip",
                limit=round(self._timeout(), 3),
            )

    def _result(self, future: Future[Encoded]) -> Encoded:
        while True:
            try:
                return future.result(_POLL_SECONDS)
            except TimeoutError:
                self._check()
