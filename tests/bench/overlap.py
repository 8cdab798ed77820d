"""Overlapping windows of one long video: window 16 with stride 4 against stride 16, features computed once.

Pairs of whole requests to an idle server, alternated, with the feature cache off; the median of their ratios. Beside
it what recomputation costs: a part of the same video decoded, and each window's frames encoded anew, in this process.
Run: `python -m tests.bench overlap [--pairs 8]`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.bundle import Runtime
from service.engine.heads import Head
from service.engine.sessions import open_session
from service.video.pool import DecodePool
from service.video.windows import cover
from tests.bench.cuts import film
from tests.bench.load import Answer, Clip, Target, send
from tests.bench.report import finish, parser
from tests.bench.summary import only_ok
from tests.server import serve
from tests.zoo import DOCUMENT, TRAINED, TRAINED_ENCODER

WINDOW_FRAMES = 16
DENSE_STRIDE, SPARSE_STRIDE = 4, 16
_RUNTIME: Runtime = "onnxruntime-cpu"
_BATCH_FRAMES = 8


@dataclass(frozen=True)
class Ratio:
    """Dense ÷ sparse, of pairs; quartiles. Seconds are medians."""

    pairs: int
    dense_seconds: float
    sparse_seconds: float
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, dense: Sequence[float], sparse: Sequence[float]) -> Ratio:
        """Of seconds, pair by pair."""
        quartiles = np.percentile(np.divide(dense, sparse), (25, 50, 75))
        return cls(
            len(dense), round(statistics.median(dense), 3), round(statistics.median(sparse), 3),
            *(round(float(quartile), 4) for quartile in quartiles),
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.dense_seconds:.2f} s ÷ {self.sparse_seconds:.2f} s = {self.median:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}] of {self.pairs} pairs"
        )


@dataclass(frozen=True)
class Overlap:
    """served: by Reelserve, a whole video. recomputed: plainly, `plain_seconds` of it."""

    video_seconds: float
    plain_seconds: float
    served: Ratio
    recomputed: Ratio

    def __str__(self) -> str:
        return (
            f"window {WINDOW_FRAMES}, stride {DENSE_STRIDE} against {SPARSE_STRIDE}; quartiles in brackets\n"
            f"  served, {self.video_seconds:g} s of video      {self.served}; wanted <= 1.15\n"
            f"  recomputed, {self.plain_seconds:g} s of video  {self.recomputed}"
        )


def main(arguments: list[str]) -> None:
    """Print both ratios."""
    flags = parser("overlap", __doc__)
    flags.add_argument("--pairs", type=int, default=8)
    flags.add_argument("--video-seconds", type=float, default=600.0)
    flags.add_argument("--plain-seconds", type=float, default=60.0, help="of video that is computed plainly")
    flags.add_argument("--plain-pairs", type=int, default=4)
    options = flags.parse_args(arguments)
    if options.quick:
        options.pairs, options.video_seconds, options.plain_seconds, options.plain_pairs = 2, 30.0, 10.0, 1
    with tempfile.TemporaryDirectory() as folder:
        video = film(Path(folder) / "video.mp4", options.data, options.video_seconds, seed=options.seed)
        recomputed = _plain(video, options)
        with serve(Path(folder), feature_cache_bytes=0) as server:
            served = asyncio.run(_served(Target("reelserve", server.url), Clip.of(video), options.pairs))
    result = Overlap(options.video_seconds, options.plain_seconds, served, recomputed)
    print(result)
    finish("overlap", result, options)


async def _served(target: Target, video: Clip, pairs: int) -> Ratio:
    times: dict[int, list[float]] = {DENSE_STRIDE: [], SPARSE_STRIDE: []}
    await _ask(target, video, SPARSE_STRIDE)  # unmeasured
    for number in range(pairs):
        for stride in list(times)[:: 1 if number % 2 == 0 else -1]:
            times[stride].append((await _ask(target, video, stride)).seconds)
    return Ratio.of(times[DENSE_STRIDE], times[SPARSE_STRIDE])


async def _ask(target: Target, video: Clip, stride: int) -> Answer:
    asked = replace(
        target,
        path=f"{target.path}?window={WINDOW_FRAMES}&stride={stride}",
        headers={"X-Request-Timeout": "3600"},
        timeout_seconds=3600.0,
    )
    [answer] = only_ok([await send(asked, video)], f"stride {stride}")
    return answer


def _plain(video: Path, options: argparse.Namespace) -> Ratio:
    """Decode, then encode the frames of each window, then the head: one thread each, no batcher."""
    model = DOCUMENT
    encoder = open_session(TRAINED_ENCODER / "encoder.onnx", _RUNTIME)
    head = Head(open_session(TRAINED / "head.onnx", _RUNTIME), model)

    def seconds(stride: int) -> float:
        started = time.perf_counter()
        spec = model.spec.model_copy(update={"window_frames": WINDOW_FRAMES, "stride_frames": stride})
        chunks = []
        with decoders.open(video, spec, end_seconds=options.plain_seconds) as clip:
            for chunk in clip.chunks():
                chunks.append(np.repeat(chunk.frames, chunk.ticks, axis=0))
                chunk.release()
        frames = np.concatenate(chunks)
        for window in cover(len(frames), spec):
            batches = [
                encoder.run(["features"], {"frames": frames[at : min(at + _BATCH_FRAMES, window.stop)]})[0]
                for at in range(window.start, window.stop, _BATCH_FRAMES)
            ]
            head.scores([np.concatenate(batches)])
        return time.perf_counter() - started

    times: dict[int, list[float]] = {DENSE_STRIDE: [], SPARSE_STRIDE: []}
    with DecodePool(num_credits=1) as decoders:
        for number in range(options.plain_pairs):
            for stride in list(times)[:: 1 if number % 2 == 0 else -1]:
                times[stride].append(seconds(stride))
    return Ratio.of(times[DENSE_STRIDE], times[SPARSE_STRIDE])
