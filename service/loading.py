"""One bundle into memory: its encoder, one for all bundles with the same file, its head; and what they take there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.bundle import GPU_RUNTIMES, Precision, Runtime, head_runtime
from service.engine.batch_sizes import BatchSizes, sizes_for
from service.engine.batcher import SHORT_FRAMES, FrameBatcher
from service.engine.chunks import Features, Frames
from service.engine.footprint import Expectations, Load, growth
from service.engine.head_batcher import HeadBatch, HeadBatcher
from service.engine.heads import Head
from service.engine.known_answer import KnownAnswer
from service.engine.preferences import preferences
from service.engine.sessions import Encoder, check_placement, choose_runtime, open_encoders, open_session
from service.engine.shadow import Encode
from service.engine.shared import LoadedModel, Shared
from service.errors import EngineLost
from service.fairness import Priority
from service.memory import Memory, mib
from service.metrics import ENCODER_MEMORY_BYTES, HEAD_BATCH_WINDOWS, HEAD_PADDED_TICKS, MODEL_MEMORY_BYTES
from service.registry import Bundle
from service.settings import Settings, available_cores

log = logging.getLogger(__name__)

# One batch on the device while the next is copied; more would only cut the batches up.
_GPU_EXECUTORS = 2


@dataclass(frozen=True)
class Engine:
    """One encoder at work, what it computes in, and the encoder outside the batcher, where the shadow check is on."""

    batcher: FrameBatcher
    encode_alone: Encode | None
    precision: Precision
    memory_bytes: int


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory, measured of what is loaded, else expected. encoder_loaded: another model has it already."""

    head: int
    encoder: int
    encoder_loaded: bool

    @property
    def added(self) -> int:
        """By a load."""
        return self.head + (0 if self.encoder_loaded else self.encoder)


class Loader:
    """Of one service. lost: called when a device is."""

    def __init__(self, settings: Settings, shared: Shared, lost: Callable[[EngineLost], None]) -> None:
        self._settings = settings
        self._shared = shared
        self._lost = lost
        self._engines: dict[str, Engine] = {}  # by sha256 and runtime
        self._heads: list[HeadBatcher] = []
        self._head_bytes: dict[str, int] = {}  # by sha256 of the bundle
        self._runtimes: dict[str, Runtime] = {}  # as before; a choice may be logged
        self._expected = Expectations()

    def load(self, bundle: Bundle) -> LoadedModel:
        """Open, warm up, and ask for the known answer. Raises what is wrong; nothing of the bundle is left then."""
        runtime = self._runtime(bundle)
        known = KnownAnswer.read(bundle.known_answer_path, bundle.model, bundle.encoder)
        key = _key(bundle, runtime)
        if key in self._engines:
            return self._on(self._engines[key], bundle, runtime, known)
        engine = self._open(bundle, runtime, known)
        try:
            loaded = self._on(engine, bundle, runtime, known)
        except BaseException:
            engine.batcher.close()
            raise
        self._engines[key] = engine
        ENCODER_MEMORY_BYTES.labels(bundle.encoder.name, runtime).set(engine.memory_bytes)
        return loaded

    def misfit(self, bundle: Bundle) -> str:
        """Why the bundle would not fit into memory beside what is loaded, in figures, with the remedy; or empty.

        The first model is held against one open clip, those after it against as many as may be open.
        """
        clips = self._settings.max_clips_in_progress if self._head_bytes else 1
        needs = self.footprint(bundle)
        reason = Memory.now(self._settings.memory_limit_bytes).misfit(needs.added, clips=clips)
        if not reason:
            return ""
        encoder = f"its encoder {bundle.encoder.name} is loaded" if needs.encoder_loaded else (
            f"{mib(needs.encoder)} of them for its encoder {bundle.encoder.name}"
        )  # fmt: skip
        return (
            f"it would not fit into memory: it needs {mib(needs.added)} ({encoder}), and {reason}; give it more, lower "
            "max_clips_in_progress, encoder_threads or encode_batch_frames, or leave a model out of the setting models"
        )

    def footprint(self, bundle: Bundle) -> Footprint:
        """What the bundle takes, or would take. Raises NotReady where no runtime may serve it."""
        runtime = self._runtime(bundle)
        head = self._head_bytes.get(bundle.sha256) or self._expected.graph_bytes(bundle.head_path.stat().st_size)
        if engine := self._engines.get(_key(bundle, runtime)):
            return Footprint(head, engine.memory_bytes, encoder_loaded=True)
        return Footprint(head, self._expected.encoder_bytes(self._load(bundle, runtime)), encoder_loaded=False)

    def waiting_frames(self) -> dict[Priority, int]:
        """Frames that wait for an encoder."""
        waiting = dict.fromkeys(Priority, 0)
        for engine in list(self._engines.values()):
            for priority, frames in engine.batcher.waiting_frames().items():
                waiting[priority] += frames
        return waiting

    def close(self) -> None:
        """End all threads; nothing may be submitted any more."""
        for head in self._heads:
            head.close()
        for engine in self._engines.values():
            engine.batcher.close()

    def _runtime(self, bundle: Bundle) -> Runtime:
        settings = self._settings
        if bundle.sha256 not in self._runtimes:
            self._runtimes[bundle.sha256] = choose_runtime(
                preferences(settings.runtime), settings.encode_precision, bundle.certificate, bundle.model,
                require_gpu=settings.require_gpu,
            )  # fmt: skip
        return self._runtimes[bundle.sha256]

    def _on(self, engine: Engine, bundle: Bundle, runtime: Runtime, known: KnownAnswer) -> LoadedModel:
        """The bundle's head behind an encoder, which may be another bundle's too."""
        with engine.batcher.lease(Priority.INTERACTIVE) as lease:
            features = lease.submit(known.frames).result().features
        known.check_features(features, f"{runtime} in {engine.precision}, as it is served,", engine.precision)
        with growth() as grown:
            head = Head(open_session(bundle.head_path, head_runtime(runtime)), bundle.model)
            head.warm_up(bundle.encoder.feature_size)
        known.check_head(head)
        batched = HeadBatcher(head, observe=_observe_heads, lost=self._lost)
        self._heads.append(batched)
        self._head_bytes[bundle.sha256] = max(grown.num_bytes, bundle.head_path.stat().st_size)
        MODEL_MEMORY_BYTES.labels(bundle.model.name).set(self._head_bytes[bundle.sha256])
        return LoadedModel(
            bundle.model, bundle.sha256, batched, head, engine.batcher, bundle.encoder.sha256, runtime,
            engine.precision, engine.encode_alone,
        )  # fmt: skip

    def _open(self, bundle: Bundle, runtime: Runtime, known: KnownAnswer) -> Engine:
        settings = self._settings
        sizes = sizes_for(runtime, settings.encode_batch_frames)
        shadows, executors = self._threads(runtime)
        load = self._load(bundle, runtime)
        with growth() as opened:
            encoders = open_encoders(
                bundle.encoder_path, bundle.encoder, runtime, settings.encode_precision,
                count=executors + shadows, max_batch_frames=sizes[-1],
                gpu_memory_bytes=settings.gpu_memory_bytes,
            )  # fmt: skip
        with growth() as run:
            if shadows:
                BatchSizes.timed(encoders[:1], sizes)  # for its warmth
            timed = BatchSizes.timed(encoders[shadows:], sizes)
        known.check_encoders(encoders, sizes)
        check_placement(encoders[0], bundle.encoder_path, bundle.encoder, require_gpu=settings.require_gpu)
        self._expected.learn(load, opened, run)
        memory_bytes = max(opened.num_bytes + run.num_bytes, load.disk_bytes)
        log.info(
            "%s of %s: milliseconds a batch by size: %s; %s of memory",
            runtime,
            bundle.encoder.name,
            timed,
            mib(memory_bytes),
        )
        batcher = FrameBatcher(encoders[shadows:], timed, lost=self._lost)
        alike = SHORT_FRAMES * timed.frame_seconds / executors
        if runtime in GPU_RUNTIMES:
            self._shared.forecast.machine = replace(self._shared.forecast.machine, executors=1, shared=False)
        self._shared.admission.alike_seconds = max(self._shared.admission.alike_seconds, alike)
        return Engine(batcher, _alone(encoders[0]) if shadows else None, encoders[0].precision, memory_bytes)

    def _load(self, bundle: Bundle, runtime: Runtime) -> Load:
        settings = self._settings
        half = settings.encode_precision == "fp16"
        path = bundle.encoder_path.with_name("encoder.fp16.onnx") if half else bundle.encoder_path
        frames = sum(self._threads(runtime)) * sizes_for(runtime, settings.encode_batch_frames)[-1]
        return Load.of(path, bundle.encoder, runtime, frames)

    def _threads(self, runtime: Runtime) -> tuple[int, int]:
        """Encoders for the shadow check, and for batches."""
        settings = self._settings
        executors = settings.encoder_threads or (_GPU_EXECUTORS if runtime in GPU_RUNTIMES else available_cores())
        return 1 if settings.shadow_one_in else 0, executors


def _key(bundle: Bundle, runtime: Runtime) -> str:
    return f"{bundle.encoder.sha256}/{runtime}"


def _observe_heads(batch: HeadBatch) -> None:
    HEAD_BATCH_WINDOWS.observe(batch.windows)
    HEAD_PADDED_TICKS.inc(batch.padding_ticks)


def _alone(encoder: Encoder) -> Encode:
    """For one thread at a time: the shadow check's."""

    def encode(frames: Frames) -> Features:
        encoder.buffer[: len(frames)] = frames
        return encoder.run(len(frames))

    return encode
