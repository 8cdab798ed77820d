"""What is in memory for good, and what the predictions of one service share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from service.bundle import ModelDocument, Precision, Runtime
from service.engine.admission import Admission
from service.engine.batcher import FrameBatcher
from service.engine.cache import FeatureCache
from service.engine.forecast import Forecast
from service.engine.heads import Scoring
from service.engine.shadow import Encode, Shadow
from service.engine.slots import Slots
from service.results import ModelName
from service.video.pool import DecodePool


@dataclass(frozen=True)
class LoadedModel:
    """A verified bundle, ready to answer.

    head: for the clips of all requests; lone_head: for one alone. encoder: its sha256. encode_alone: the encoder
    outside the batcher, where the shadow check is on.
    """

    document: ModelDocument
    sha256: str
    head: Scoring
    lone_head: Scoring
    batcher: FrameBatcher
    encoder: str
    runtime: Runtime
    precision: Precision
    encode_alone: Encode | None = None

    @property
    def name(self) -> ModelName:
        """As it stands in every answer."""
        document = self.document
        return ModelName(name=document.name, version=document.version, task=document.task, sha256=self.sha256)

    @property
    def frame_seconds(self) -> float:
        """Of one frame on one executor, as warm-up measured it."""
        return self.batcher.sizes.frame_seconds

    @property
    def sees(self) -> tuple[str, ...]:
        """Equal for models that one pass over a clip can serve: same frames, same features."""
        return self.encoder, self.runtime, self.precision, self.document.spec.pixels_sha256


@dataclass(frozen=True)
class Shared:
    """header_reads: at most so many at once, beside the places for open clips. stopping: clips give up."""

    decoders: DecodePool
    slots: Slots
    admission: Admission
    forecast: Forecast
    cache: FeatureCache
    shadow: Shadow
    header_reads: threading.Semaphore
    stopping: threading.Event = field(default_factory=threading.Event)
