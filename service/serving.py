"""The models in memory: verify, load and warm up in the background; predict in a bounded pool of threads."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.bundle import EncoderDocument
from service.engine.batcher import Features, FrameBatcher, Frames
from service.engine.heads import Head
from service.engine.sessions import choose_runtime, open_session
from service.errors import Cancelled, NotReady, ReelserveError
from service.metrics import BATCH_FRAMES, MODELS_LOADED
from service.pipeline import ClipRequest, LoadedModel, predict
from service.probing import Probe, examine
from service.registry import Bundle, Registry
from service.results import Prediction
from service.settings import Settings
from service.video.pool import DecodePool

log = logging.getLogger(__name__)


class Serving:
    """One process's models. `start` returns at once; `readiness` says when predictions are answered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(settings.models_dir, settings.default_model, settings.bento_model)
        self.models: dict[str, LoadedModel] = {}
        self.pool = ThreadPoolExecutor(settings.max_clips_in_progress, thread_name_prefix="clip")
        self.decoders = DecodePool(settings.max_clips_decoding, settings.decode_limits())
        self._batchers: dict[str, FrameBatcher] = {}
        self._frame_seconds: dict[str, float] = {}
        self._loaded = False
        self.stopping = threading.Event()
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
        self._problem = self._standing_problem()
        self._loaded = True

    def close(self) -> None:
        """End threads and processes: clips still running stop between turns."""
        self.stopping.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.decoders.close()
        for batcher in self._batchers.values():
            batcher.close()

    def problem(self) -> str | None:
        """Why the service is not ready; None when it is."""
        return self._problem

    def waiting_frames(self) -> int:
        """Frames that wait for an encoder."""
        return sum(batcher.waiting_frames() for batcher in self._batchers.values())

    def model(self, name: str | None) -> LoadedModel:
        """A loaded model. Raises NotReady while loading, and the registry's errors."""
        nothing_found = not self.registry.bundles and not self.registry.refused
        if not self._loaded or nothing_found:
            raise NotReady(self._problem or "no model is loaded")
        bundle = self.registry.get(name)
        return self.models[bundle.model.name]

    def predict(self, request: ClipRequest, model: LoadedModel) -> Prediction:
        """Answer for one clip; blocks."""
        return predict(request, model, self.decoders, self.stopping)

    def probe(self, path: Path, model: LoadedModel, *, full: bool, cancelled: threading.Event) -> Probe:
        """What a file really is, and what `predict` would cost; blocks, infers nothing. Raises Cancelled."""

        def check() -> None:
            if cancelled.is_set() or self.stopping.is_set():
                raise Cancelled("the client went away, or the service stops")

        facts = self.decoders.probe(path, full=full, check=check)
        return examine(facts, self.decoders.limits, model.document, encode_frame_seconds=model.encode_frame_seconds)

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
        runtime = choose_runtime(self.settings.runtime, bundle.certificate)
        key = f"{bundle.encoder.sha256}/{runtime}"  # heads on one encoder share it
        if key not in self._batchers:
            # One session for all threads: a run takes the caller's thread, and the memory is not there twice.
            encode = _encoder(open_session(bundle.encoder_path, runtime))
            self._frame_seconds[key] = _warm_up(encode, bundle.encoder, self.settings.encode_batch_frames)
            self._batchers[key] = FrameBatcher(
                [encode] * self.settings.encoder_threads,
                bundle.encoder.feature_size,
                max_batch_frames=self.settings.encode_batch_frames,
                max_queue_frames=self.settings.encode_queue_frames,
                observe=BATCH_FRAMES.observe,
            )
        head = Head(open_session(bundle.head_path, runtime), bundle.model)
        # Unequal windows: a graph frozen to one batch or time, or to other features, fails here and not on a request.
        longest = bundle.model.spec.window_frames or 2
        head.scores([np.zeros((length, bundle.encoder.feature_size), np.float32) for length in (longest, 1)])
        return LoadedModel(
            bundle.model, bundle.sha256, head, self._batchers[key], runtime, "fp32", self._frame_seconds[key]
        )


def _encoder(session: ort.InferenceSession) -> Callable[[Frames], Features]:
    def encode(frames: Frames) -> Features:
        features: Features = session.run(["features"], {"frames": frames})[0]
        return features

    return encode


def _warm_up(encode: Callable[[Frames], Features], encoder: EncoderDocument, max_batch_frames: int) -> float:
    """Returns the seconds of a frame in the largest batch, once warm."""
    seconds = 0.0
    for size in (1, max_batch_frames, max_batch_frames):
        started = time.perf_counter()
        encode(np.zeros((size, encoder.frame_height, encoder.frame_width, 3), np.uint8))
        seconds = (time.perf_counter() - started) / size
    return seconds
