"""The models in memory: verify, load and warm up in the background; predict in a bounded pool of threads."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle import GPU_RUNTIMES, Precision, Runtime, head_runtime
from service.engine.admission import Admission
from service.engine.batch_sizes import BatchSizes, sizes_for
from service.engine.batcher import SHORT_FRAMES, FrameBatcher
from service.engine.cache import FeatureCache
from service.engine.chunks import Features, Frames
from service.engine.forecast import Forecast, Machine
from service.engine.head_batcher import HeadBatch, HeadBatcher
from service.engine.heads import Head
from service.engine.preferences import preferences
from service.engine.sessions import Encoder, check_placement, choose_runtime, open_encoders, open_session
from service.engine.shadow import Encode, Shadow
from service.engine.shared import LoadedModel, Shared
from service.engine.slots import Slots
from service.errors import BadParameter, Cancelled, EngineLost, NotReady, ReelserveError
from service.fairness import Priority
from service.metrics import HEAD_BATCH_WINDOWS, HEAD_PADDED_TICKS, MODELS_LOADED
from service.pipeline import ClipRequest, predict
from service.probing import Probe, examine
from service.registry import Bundle, Registry
from service.results import Prediction
from service.settings import Settings, available_cores
from service.video.pool import DecodePool

log = logging.getLogger(__name__)

# EX_SOFTWARE of sysexits.h: a supervisor takes it for a failure, and starts another process.
EXIT_ENGINE_LOST = 70
# One batch on the device while the next is copied; more would only cut the batches up.
_GPU_EXECUTORS = 2
# Those who wait are told first.
_LAST_WORDS_SECONDS = 1.0
_START_SECONDS = 10.0


@dataclass(frozen=True)
class _Engine:
    """One encoder at work, what it computes in, and the encoder outside the batcher, where the shadow check is on."""

    batcher: FrameBatcher
    encode_alone: Encode | None
    precision: Precision


class Serving:
    """One process's models. `start` returns at once; `readiness` says when predictions are answered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(settings.models_dir, settings.default_model, settings.bento_model)
        self.models: dict[str, LoadedModel] = {}
        self.pool = ThreadPoolExecutor(settings.max_requests_in_flight, thread_name_prefix="clip")
        self.decoders = DecodePool(settings.max_clips_decoding, settings.decode_limits())
        cores = settings.max_clips_decoding
        self.shared = Shared(
            decoders=self.decoders,
            slots=Slots(settings.max_clips_in_progress),
            admission=Admission(saturating=cores + 1),
            forecast=Forecast(Machine(cores, settings.encoder_threads or cores, shared=True)),  # until a GPU is chosen
            cache=FeatureCache(settings.feature_cache_bytes),
            shadow=Shadow(settings.shadow_one_in),
            header_reads=threading.Semaphore(cores),
        )
        self._engines: dict[str, _Engine] = {}
        self._heads: list[HeadBatcher] = []
        self._loaded = False
        self._problem: str | None = "models are being verified, loaded and warmed up"

    def start(self, prepare: Callable[[], None]) -> None:
        """`prepare` and load in a background thread: the server answers /livez meanwhile."""
        threading.Thread(target=self._load_and_report, args=(prepare,), name="load", daemon=True).start()

    def load(self) -> None:
        """Verify, load and warm up every bundle; raises what is wrong."""
        self.decoders.zygote.start()
        self.registry.scan()
        models: dict[str, LoadedModel] = {}
        for name, bundle in list(self.registry.bundles.items()):
            try:
                models[name] = self._load(bundle)
            except Exception as error:  # noqa: BLE001  (whatever a runtime raises fails this bundle alone)
                self.registry.refuse(name, f"it does not load: {error}")
                continue
            log.info("loaded %s %s on %s", name, bundle.model.version, models[name].runtime)
        self.models = models
        for refused in self.registry.refused.values():
            log.warning("refused %s %s: %s", refused.name, refused.version, refused.reason)
        MODELS_LOADED.set(len(self.models))
        # What lives for good is left out of collections: a full one stalled answers by 100–220 ms.
        gc.collect()
        gc.freeze()
        _start_threads(self.pool, self.settings.max_requests_in_flight)
        self._problem = self._standing_problem()
        self._loaded = True

    def close(self) -> None:
        """End threads and processes: clips still running stop between turns."""
        self.shared.stopping.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.shared.shadow.close()
        self.decoders.close()
        for head in self._heads:
            head.close()
        for engine in self._engines.values():
            engine.batcher.close()

    def problem(self) -> str | None:
        """Why the service is not ready; None when it is."""
        return self._problem

    def waiting_frames(self) -> dict[Priority, int]:
        """Frames that wait for an encoder."""
        waiting = dict.fromkeys(Priority, 0)
        for engine in list(self._engines.values()):
            for priority, frames in engine.batcher.waiting_frames().items():
                waiting[priority] += frames
        return waiting

    def model(self, name: str | None) -> LoadedModel:
        """A loaded model. Raises NotReady while loading, and the registry's errors."""
        self.check_ready()
        bundle = self.registry.get(name)
        return self.models[bundle.model.name]

    def check_ready(self) -> None:
        """Whichever model is asked for. Raises NotReady."""
        nothing_found = not self.registry.bundles and not self.registry.refused
        if not self._loaded or nothing_found:
            raise NotReady(self._problem or "no model is loaded")

    def models_of(self, names: str | None) -> list[LoadedModel]:
        """One model, or several, `a,b`. Raises what `model` does, and BadParameter for a name given twice."""
        wanted = [name.strip() for name in names.split(",")] if names is not None else [None]
        if len(set(wanted)) < len(wanted):
            raise BadParameter(f"model names one twice: {names}", value=names)
        return [self.model(name) for name in wanted]

    def check_headers(self, timeout_seconds: float) -> None:
        """Before an upload is read: would a clip like those before be answered in time? Raises Busy."""
        self.shared.admission.check_headers(timeout_seconds)

    def predict(self, request: ClipRequest, models: Sequence[LoadedModel]) -> list[Prediction]:
        """Answers for one clip, in the models' order; blocks."""
        return predict(request, models, self.shared)

    def probe(
        self, path: Path, model: LoadedModel, *, full: bool, cancelled: threading.Event, stream: int | None = None
    ) -> Probe:
        """What a file really is, and what `predict` would cost; blocks, infers nothing. Raises Cancelled."""

        def check() -> None:
            if cancelled.is_set():
                raise Cancelled("the client went away")
            if self.shared.stopping.is_set():
                raise NotReady("the service stops; try again")

        with self.shared.slots.place(Priority.INTERACTIVE, is_long=full, check=check, find_out=lambda: full):
            facts = self.decoders.probe(path, full=full, stream=stream, check=check)
        return examine(facts, self.decoders.limits, model.document, encode_frame_seconds=model.frame_seconds)

    def _load_and_report(self, prepare: Callable[[], None]) -> None:
        try:
            prepare()
            self.load()
        except ReelserveError as error:
            self._problem = error.detail
            log.error("not ready: %s", error.detail)
        except Exception as error:  # whatever a runtime raises: said on /readyz, and in the log in full
            self._problem = f"loading failed: {error}"
            log.exception("loading failed")

    def _standing_problem(self) -> str | None:
        """Refused models that someone counts on make the service unready."""
        default = self.settings.default_model
        if not self.models:
            reasons = "; ".join(f"{r.name}: {r.reason}" for r in self.registry.refused.values())
            return f"no model can be served from {self.registry.models_dir}: {reasons or 'no bundle is there'}"
        if default in self.registry.refused:
            return f"default_model {default} is refused: {self.registry.refused[default].reason}"
        if default is not None and default not in self.models:
            return f"default_model {default} is not in {self.registry.models_dir}"
        return None

    def _load(self, bundle: Bundle) -> LoadedModel:
        settings = self.settings
        runtime = choose_runtime(
            preferences(settings.runtime), settings.encode_precision, bundle.certificate,
            require_gpu=settings.require_gpu,
        )  # fmt: skip
        key = f"{bundle.encoder.sha256}/{runtime}"  # heads on one encoder share it
        if key not in self._engines:
            self._engines[key] = self._open(bundle, runtime)
        engine = self._engines[key]
        head = Head(open_session(bundle.head_path, head_runtime(runtime)), bundle.model)
        head.warm_up(bundle.encoder.feature_size)
        batched = HeadBatcher(head, observe=_observe_heads, lost=self._lose)
        self._heads.append(batched)
        return LoadedModel(
            bundle.model, bundle.sha256, batched, head, engine.batcher, bundle.encoder.sha256, runtime,
            engine.precision, engine.encode_alone,
        )  # fmt: skip

    def _open(self, bundle: Bundle, runtime: Runtime) -> _Engine:
        settings = self.settings
        sizes = sizes_for(runtime, settings.encode_batch_frames)
        executors = settings.encoder_threads or (_GPU_EXECUTORS if runtime in GPU_RUNTIMES else available_cores())
        shadows = 1 if settings.shadow_one_in else 0
        encoders = open_encoders(
            bundle.encoder_path, bundle.encoder, runtime, settings.encode_precision,
            count=executors + shadows, max_batch_frames=sizes[-1],
            gpu_memory_bytes=settings.gpu_memory_bytes,
        )  # fmt: skip
        if shadows:
            BatchSizes.timed(encoders[:1], sizes)  # for its warmth
        timed = BatchSizes.timed(encoders[shadows:], sizes)
        check_placement(encoders[0], bundle.encoder_path, bundle.encoder, require_gpu=settings.require_gpu)
        log.info("%s of %s: milliseconds a batch by size: %s", runtime, bundle.encoder.name, timed)
        batcher = FrameBatcher(encoders[shadows:], timed, lost=self._lose)
        alike = SHORT_FRAMES * timed.frame_seconds / executors
        if runtime in GPU_RUNTIMES:
            self.shared.forecast.machine = replace(self.shared.forecast.machine, executors=1, shared=False)
        self.shared.admission.alike_seconds = max(self.shared.admission.alike_seconds, alike)
        return _Engine(batcher, _alone(encoders[0]) if shadows else None, encoders[0].precision)

    def _lose(self, error: EngineLost) -> None:
        """A sticky device error: unready at once, and gone when those who wait have been told."""
        self._problem = error.detail
        threading.Timer(_LAST_WORDS_SECONDS, os._exit, [EXIT_ENGINE_LOST]).start()


def _start_threads(pool: ThreadPoolExecutor, count: int) -> None:
    """All at once: a thread that starts under load holds up whoever submits, and that is the event loop."""
    started = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(started.wait, _START_SECONDS)
        started.wait(_START_SECONDS)
    except (RuntimeError, threading.BrokenBarrierError):  # the service stops already, or its machine stands still
        started.abort()


def _observe_heads(batch: HeadBatch) -> None:
    HEAD_BATCH_WINDOWS.observe(batch.windows)
    HEAD_PADDED_TICKS.inc(batch.padding_ticks)


def _alone(encoder: Encoder) -> Encode:
    """For one thread at a time: the shadow check's."""

    def encode(frames: Frames) -> Features:
        encoder.buffer[: len(frames)] = frames
        return encoder.run(len(frames))

    return encode
