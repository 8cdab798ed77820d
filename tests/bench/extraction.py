"""Frames a second and core, from video files to stored features, beside the encoder alone on decoded frames.

ours         `FeatureStore.load` into an empty folder: hashes, decoding in processes, the encoder, what is written
ours, maps   the same up to `--stage`: what fine-tuning stores
encoder      `models.encoders.folded` of the same weights on the same frames in the same batches, decoded beforehand
encoder, as it is    the same with nothing folded: a loop over `model(frames)` as tutorials have it

All have PyTorch's default threads. Run: `python -m tests.bench extraction [--clips N] [--rounds N] [--seconds S]
[--encoder NAME] [--stage NAME]`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models import encoders
from models.data.features import BATCH_FRAMES, FeatureStore
from models.encoders import ImageEncoder, folded
from models.recipe import ClipSettings
from service.settings import available_cores
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.bench.contest import Spread
from tests.bench.load import clips_of
from tests.bench.report import finish, parser
from tests.bench.slices import Side, alternate

REFERENCE = "encoder"
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Speed:
    """One side. of_encoder: its rate ÷ that of the encoder alone, round by round."""

    side: str
    frames_a_second_and_core: float
    of_encoder: Spread

    def __str__(self) -> str:
        return f"{self.side}: {self.frames_a_second_and_core:.1f} frames a second and core, {self.of_encoder}"


@dataclass(frozen=True)
class Extraction:
    """All sides on the same frames of the same clips."""

    encoder: str
    clips: int
    frames: int
    cores: int
    sides: tuple[Speed, ...]

    def __str__(self) -> str:
        said = f"{self.encoder}, {self.clips} clips, {self.frames} frames, {self.cores} cores; ÷ the encoder alone"
        return "\n".join((said, *map(str, self.sides)))


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write."""
    flags = parser("extraction", __doc__)
    flags.add_argument("--clips", type=int, default=12)
    flags.add_argument("--rounds", type=int, default=8)
    flags.add_argument("--seconds", type=float, default=10)
    flags.add_argument("--encoder", default="efficientnet-lite0")
    flags.add_argument("--stage", default="block12")
    options = flags.parse_args(arguments)
    if options.quick:
        options.clips, options.rounds, options.seconds = 2, 1, 0.1
    spec = ClipSettings().spec
    paths = [clip.path for clip in clips_of(options.data, options.seed, options.clips)]
    encoder = encoders.build(options.encoder, spec.frame_height, spec.frame_width).eval()
    batches = _decoded(paths, spec)
    frames = sum(map(len, batches))
    fast = folded(encoder, spec.frame_height, spec.frame_width)
    with tempfile.TemporaryDirectory() as folder:
        sides = (
            Side("ours", _stored(Path(folder) / "features", encoder, spec, None, paths, frames)),
            Side("ours, maps", _stored(Path(folder) / "maps", encoder, spec, options.stage, paths, frames)),
            Side(REFERENCE, _encoded(fast, batches)),
            Side("encoder, as it is", _encoded(encoder, batches)),
        )
        rates = alternate(sides, options.rounds, options.seconds)
    cores = available_cores()
    found = Extraction(
        options.encoder, len(paths), frames, cores,
        tuple(
            Speed(
                name, round(float(np.median(each)) / cores, 2),
                Spread.of(np.divide(each, rates[REFERENCE]).tolist()),
            )
            for name, each in rates.items()
        ),
    )  # fmt: skip
    print(found)
    finish("extraction", found, options)


def _decoded(paths: Sequence[Path], spec: ClipSpec) -> list[Frames]:
    with DecodePool(num_credits=1) as pool:
        found = []
        for path in paths:
            with pool.open(path, spec) as video:
                found += [batch.frames.copy() for batch in video.batches(BATCH_FRAMES)]
    return found


def _stored(
    folder: Path, encoder: ImageEncoder, spec: ClipSpec, stage: str | None, paths: Sequence[Path], frames: int
) -> Callable[[], int]:
    """Each pass in a folder of its own, so that nothing is there."""
    store, passes = FeatureStore(folder, encoder, spec, stage), count()

    def run() -> int:
        store.folder = folder / str(next(passes))
        store.load(paths, show_progress=False)
        return frames

    return run


def _encoded(network: nn.Module, batches: Sequence[Frames]) -> Callable[[], int]:
    def run() -> int:
        with torch.inference_mode():
            for frames in batches:
                network(torch.from_numpy(frames))
        return sum(map(len, batches))

    return run
