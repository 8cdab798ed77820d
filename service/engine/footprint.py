"""What a model takes in memory: expected before it is loaded, and measured when it is. An encoder counts once.

A graph's weights are in memory once, whatever its threads, with what the runtime keeps beside them; while encoding,
the activations of all frames in flight come on top. Both are taken as proportional: to the graph's bytes on disk, and
to the pixels of the frames in flight. By how much is measured: first as in footprint.json, which `python -m
tests.measure_footprint` writes of the bundled model, then of the encoders that were opened here.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field

from service.bundle import GPU_RUNTIMES, EncoderDocument, Runtime
from service.memory import resident_bytes

FILE = Path(__file__).with_name("footprint.json")


class Rates(BaseModel):
    """Bytes of memory, by what they are proportional to."""

    graph: float = Field(ge=1, description="For a byte of a graph on disk; its weights are there once for certain.")
    pixel: float = Field(ge=0, description="For a pixel of the frames that are encoded at once.")


class Recorded(BaseModel):
    """footprint.json: how it was measured, and on what."""

    model: str
    runtime: Runtime
    onnxruntime: str
    machine: str
    encoder_threads: int
    batch_frames: int
    rates: Rates


@dataclass(frozen=True)
class Load:
    """How an encoder is going to be run. disk_bytes: of its graph; pixels: of all frames that are encoded at once."""

    disk_bytes: int
    pixels: int

    @classmethod
    def of(cls, path: Path, document: EncoderDocument, runtime: Runtime, frames_at_once: int) -> Load:
        """path: of the graph. On a GPU the frames in flight take its memory, not this process's."""
        frames = 0 if runtime in GPU_RUNTIMES else frames_at_once
        return cls(path.stat().st_size, frames * document.frame_height * document.frame_width)


@dataclass
class Growth:
    """By how many bytes this process grew meanwhile; none where what it took was free already."""

    num_bytes: int = 0


@dataclass
class Expectations:
    """What graphs are expected to take, by what those took that were opened before."""

    _measured: list[Rates] = field(default_factory=list)

    @property
    def rates(self) -> Rates:
        """The largest that were measured here: what finds freed memory seems to take less."""
        if not self._measured:
            return Recorded.model_validate_json(FILE.read_bytes()).rates
        return Rates(
            graph=max(rates.graph for rates in self._measured), pixel=max(rates.pixel for rates in self._measured)
        )

    def encoder_bytes(self, load: Load) -> int:
        """Of an encoder, its weights and all that its batches take."""
        return self.graph_bytes(load.disk_bytes) + round(self.rates.pixel * load.pixels)

    def graph_bytes(self, disk_bytes: int) -> int:
        """Of a graph without its batches: of a head, whose windows are small."""
        return round(self.rates.graph * disk_bytes)

    def learn(self, load: Load, opened: Growth, run: Growth) -> None:
        """An encoder was opened, and run at its largest batch on all threads at once."""
        known = self.rates
        self._measured.append(
            Rates(
                graph=max(1.0, opened.num_bytes / load.disk_bytes),
                pixel=run.num_bytes / load.pixels if load.pixels else known.pixel,
            )
        )


@contextmanager
def growth() -> Iterator[Growth]:
    """Measures what is done inside."""
    gc.collect()
    before, grown = resident_bytes(), Growth()
    yield grown
    grown.num_bytes = max(0, resident_bytes() - before)
