"""The models in memory: verify, load and warm up in the background; predict in a bounded pool of threads."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.engine.admission import Admission
from service.engine.cache import FeatureCache
from service.engine.forecast import Forecast, Machine
from service.engine.shadow import Shadow
from service.engine.shared import LoadedModel, Shared
from service.engine.slots import Slots
from service.errors import BadParameter, Cancelled, EngineLost, NotReady, ReelserveError
from service.fairness import Priority
from service.loading import Loader
from service.metrics import MODELS_LOADED
from service.model_errors import ModelNotLoaded, UnknownModel
from service.pipeline import ClipRequest, predict
from service.probing import Probe, examine
from service.registry import Bundle, Registry
from service.results import Prediction
from service.selection import listed
from service.settings import Settings
from service.video.pool import DecodePool

log = logging.getLogger(__name__)

# EX_SOFTWARE of sysexits.h: a supervisor takes it for a failure, and starts another process.
EXIT_ENGINE_LOST = 70
# Those who wait are told first.
_LAST_WORDS_SECONDS = 1.0
_START_SECONDS = 10.0


class Serving:
    """One process's models. `start` returns at once; `readiness` says when predictions are answered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry.of(settings)
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
        self.loader = Loader(settings, self.shared, self._lose)
        self._loaded = False
        self._problem: str | None = "models are being verified, loaded and warmed up"

    def start(self, prepare: Callable[[], None]) -> None:
        """`prepare` and load in a background thread: the server answers /livez meanwhile."""
        threading.Thread(target=self._load_and_report, args=(prepare,), name="load", daemon=True).start()

    def load(self) -> None:
        """Verify every bundle, load and warm up those of the setting `models`; raises what is wrong."""
        self.decoders.zygote.start()
        self.registry.scan()
        self.registry.unloaded = dict.fromkeys(self.registry.bundles, "")
        for bundle in self.registry.to_load():
            self._add(bundle)
        for refused in self.registry.refused.values():
            log.warning("refused %s %s: %s", refused.name, refused.version, refused.reason)
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
        self.loader.close()

    def problem(self) -> str | None:
        """Why the service is not ready; None when it is."""
        return self._problem

    def waiting_frames(self) -> dict[Priority, int]:
        """Frames that wait for an encoder."""
        return self.loader.waiting_frames()

    def model(self, name: str | None) -> LoadedModel:
        """A loaded model. Raises NotReady while loading, ModelNotLoaded, and the registry's errors."""
        self.check_ready()
        bundle = self.registry.get(name)
        loaded = self.models.get(bundle.model.name)
        if loaded is None:
            raise self._not_loaded(bundle)
        return loaded

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
            where = "the setting models: " if isinstance(error, UnknownModel) else ""
            self._problem = f"{where}{error.detail}"
            log.error("not ready: %s", self._problem)
        except Exception as error:  # whatever a runtime raises: said on /readyz, and in the log in full
            self._problem = f"loading failed: {error}"
            log.exception("loading failed")

    def _standing_problem(self) -> str | None:
        """Models that someone counts on, and that are not in memory, make the service unready."""
        registry = self.registry
        for name in registry.named:
            which = f"default_model {name}" if name == registry.default_model else f"{name} of the setting models"
            if name in registry.refused:
                return f"{which} is refused: {registry.refused[name].reason}"
            if reason := registry.unloaded.get(name):
                return f"{which} is not loaded: {reason}"
            if name not in self.models:
                return f"{which} is not in {registry.models_dir}; there are: {listed(registry.bundles)}"
        if not self.models:
            reasons = [f"{refused.name}: {refused.reason}" for refused in registry.refused.values()]
            reasons += [f"{name}: {reason}" for name, reason in registry.unloaded.items() if reason]
            return f"no model can be served from {registry.models_dir}: {'; '.join(reasons) or 'no bundle is there'}"
        return None

    def _add(self, bundle: Bundle) -> None:
        """Load one more, or say in the registry why not; the models that are there serve on."""
        name = bundle.model.name
        try:
            if reason := self.loader.misfit(bundle):
                log.warning("not loaded %s %s: %s", name, bundle.model.version, reason)
                self.registry.unloaded[name] = reason
                return
            self.models[name] = self.loader.load(bundle)
        except Exception as error:  # noqa: BLE001  (whatever a runtime raises fails this bundle alone)
            self.registry.unloaded.pop(name)
            self.registry.refuse(name, f"it does not load: {error}")
            return
        self.registry.unloaded.pop(name)
        MODELS_LOADED.set(len(self.models))
        log.info("loaded %s %s on %s", name, bundle.model.version, self.models[name].runtime)

    def _not_loaded(self, bundle: Bundle) -> ModelNotLoaded:
        name, version = bundle.model.name, bundle.model.version
        reason = self.registry.unloaded[name] or (
            f"the setting models leaves it out; REELSERVE_MODELS={','.join([*self.models, name])} loads it"
        )
        return ModelNotLoaded(f"model {name} {version} exists and is not loaded: {reason}", value=name)

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
