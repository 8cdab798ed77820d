"""The engine in this process against its own ceiling, by batch size: bare encoder loops, and the frame batcher.

For each size, executors that only encode one buffer over and over, then the frame batcher fed with clips from memory:
slices alternate, and the share is the median of their ratios. Beside them what decoding real clips alone delivers on
1 to N processes: the batch size from which decoding sets the pace. The certificate is not asked.
Run: `python -m tests.bench sweep [--runtime onnxruntime-cuda --precisions fp32,fp16 --sizes 1,4,16,64,256]`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from service.bundle import GPU_RUNTIMES, EncoderDocument, ModelDocument, Precision, Runtime, read_document
from service.engine.batch_sizes import BatchSizes
from service.engine.batcher import FrameBatcher
from service.engine.chunks import Frames
from service.engine.sessions import Encoder, open_encoders
from service.errors import NotReady
from service.settings import available_cores
from service.video.open_video import CHUNK_FRAMES
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.bench.load import clips_of
from tests.bench.report import Machine, finish, parser
from tests.zoo import DOCUMENT, ZOO

CPU_SIZES, GPU_SIZES = "1,2,4,8,16,32", "1,2,4,8,16,32,64,128,256"
_SETTLING = 0.1  # of a slice, before it counts
_NUM_CLIPS = 24
_FEWEST = 3  # completions that give a rate: a slice lasts until it has them
_PATIENCE = 60.0  # and at most so many times its seconds
_LONGER = 3.0  # a slice of decoding: chunks are coarser than batches
_FULL = 3  # batches' worth of frames that wait, so that none has to

# A piece of work; it tells of frames that are done.
Work = Callable[[Callable[[int], None]], object]


@dataclass(frozen=True)
class OfSize:
    """Frames a second of one batch size: bare, and by the batcher; batcher ÷ bare, median of the rounds."""

    batch_frames: int
    bare: float
    engine: float
    share: float
    clips_per_second: float


@dataclass(frozen=True)
class OfPrecision:
    """problem: why there are no figures. decode_bound_from: the smallest batch with which decoding is the slower."""

    precision: str
    problem: str
    sizes: tuple[OfSize, ...]
    decode_bound_from: int | None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.precision}: {self.problem}"
        lines = [
            f"  {each.batch_frames:>5}{each.bare:>12.1f}{each.engine:>12.1f}{each.share:>8.3f}"
            f"{each.clips_per_second:>10.1f}"
            for each in self.sizes
        ]
        bound = "at no size here" if self.decode_bound_from is None else f"from {self.decode_bound_from} frames on"
        head = f"  {'batch':>5}{'bare fr/s':>12}{'engine fr/s':>12}{'share':>8}{'clips/s':>10}"
        return "\n".join((f"{self.precision}", head, *lines, f"  decoding on all cores is slower: {bound}"))


@dataclass(frozen=True)
class OfDecoding:
    """Sampled frames and clips a second, of so many processes that only decode."""

    processes: int
    frames_per_second: float
    clips_per_second: float


@dataclass(frozen=True)
class Sweep:
    """One runtime on one device. clip_frames: sampled frames of a clip, mean."""

    runtime: str
    device: str
    executors: int
    clip_frames: float
    decoding: tuple[OfDecoding, ...]
    precisions: tuple[OfPrecision, ...]

    def __str__(self) -> str:
        lines = [
            f"  {each.processes:>5}{each.frames_per_second:>12.1f}{each.clips_per_second:>10.1f}"
            for each in self.decoding
        ]
        return "\n".join(
            (
                f"{self.runtime} on {self.device}, {self.executors} executors; clips of {self.clip_frames:.1f} frames",
                *map(str, self.precisions),
                "decoding alone, no encoder",
                f"  {'procs':>5}{'frames/s':>12}{'clips/s':>10}",
                *lines,
            )
        )


def main(arguments: list[str]) -> None:
    """Print a table for each precision, and that of decoding."""
    flags = parser("sweep", __doc__)
    flags.add_argument("--runtime", choices=get_args(Runtime), default="onnxruntime-cpu")
    flags.add_argument("--precisions", default="fp32", help="fp32, fp16, bf16, with commas")
    flags.add_argument("--sizes", help=f"frames of a batch, with commas; {CPU_SIZES}, on a GPU {GPU_SIZES}")
    flags.add_argument("--executors", type=int, help="threads that encode; as many as cores, on a GPU 2")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--seconds", type=float, default=4.0, help="of a slice")
    options = flags.parse_args(arguments)
    on_gpu = options.runtime in GPU_RUNTIMES
    options.executors = options.executors or (2 if on_gpu else available_cores())
    options.sizes = options.sizes or (GPU_SIZES if on_gpu else CPU_SIZES)
    if options.quick:
        options.sizes, options.rounds, options.seconds = "1,4", 1, 1.0
    model = _model()
    clip_frames, decoding = _decoding(model.spec, options)
    machine = Machine.here()
    result = Sweep(
        runtime=options.runtime,
        device=", ".join(machine.devices) if on_gpu else machine.processor,
        executors=options.executors,
        clip_frames=round(clip_frames, 2),
        decoding=tuple(decoding),
        precisions=tuple(
            _precision(model, precision, clip_frames, decoding[-1].frames_per_second, options)
            for precision in options.precisions.split(",")
        ),
    )
    print(result)
    finish(f"sweep-{options.runtime}", result, options)


def steady(works: Sequence[Work], seconds: float) -> float:
    """Frames a second of all works together, each over and over in its own thread, once they have settled.

    From one completion to the last, so that what is half done at the edges counts for nothing.
    """
    inside: list[tuple[float, int]] = []
    begin = time.perf_counter() + _SETTLING * seconds
    end, latest = begin + seconds, begin + _PATIENCE * seconds

    def is_over() -> bool:
        return time.perf_counter() >= (end if len(inside) >= _FEWEST else latest)

    def report(frames: int) -> None:
        if (now := time.perf_counter()) >= begin and not is_over():
            inside.append((now, frames))

    def loop(work: Work) -> None:
        while not is_over():
            work(report)

    with ThreadPoolExecutor(len(works)) as pool:
        list(pool.map(loop, works))
    if len(inside) < _FEWEST:
        raise RuntimeError(f"{len(inside)} batches or chunks in {_PATIENCE * seconds:g} s give no rate")
    inside.sort()
    return sum(frames for _, frames in inside[1:]) / (inside[-1][0] - inside[0][0])


def _model() -> ModelDocument:
    return DOCUMENT


def _precision(
    model: ModelDocument, precision: Precision, clip_frames: float, decoded: float, options: argparse.Namespace
) -> OfPrecision:
    sizes = [int(size) for size in options.sizes.split(",")]
    folder = ZOO / "encoders" / model.encoder.name
    document = read_document(folder / "encoder.json", EncoderDocument)
    try:
        encoders = open_encoders(
            folder / "encoder.onnx", document, options.runtime, precision, count=options.executors,
            max_batch_frames=max(sizes),
        )  # fmt: skip
    except NotReady as error:
        return OfPrecision(precision, error.detail, (), None)
    frames = np.random.default_rng(options.seed).integers(0, 256, encoders[0].buffer.shape, np.uint8)
    BatchSizes.timed(encoders, sizes)  # and warm
    for encoder in encoders:
        encoder.buffer[:] = frames
    done = [_size(encoders, size, frames, clip_frames, options) for size in sizes]
    bound = next((each.batch_frames for each in done if each.engine > decoded), None)
    return OfPrecision(precision, "", tuple(done), bound)


def _size(
    encoders: Sequence[Encoder], size: int, frames: Frames, clip_frames: float, options: argparse.Namespace
) -> OfSize:
    """One batch size, bare and batched in turn."""
    clip = np.resize(frames, (max(1, round(clip_frames)), *frames.shape[1:]))
    num_clips = max(16, math.ceil(_FULL * size * len(encoders) / len(clip)))
    bare, engine = [], []

    def run_bare() -> None:
        bare.append(steady([_looping(encoder, size) for encoder in encoders], options.seconds))

    def run_engine() -> None:
        batcher = FrameBatcher(encoders, BatchSizes({size: size / max(bare[-1], 1.0)} if bare else {size: 1.0}))
        try:
            engine.append(steady([_through(batcher, clip)] * num_clips, options.seconds))
        finally:
            batcher.close()

    for number in range(options.rounds):
        for run in (run_bare, run_engine) if number % 2 == 0 else (run_engine, run_bare):
            run()
    batched = statistics.median(engine)
    return OfSize(
        batch_frames=size,
        bare=round(statistics.median(bare), 2),
        engine=round(batched, 2),
        share=round(statistics.median(np.divide(engine, bare).tolist()), 4),
        clips_per_second=round(batched / clip_frames, 3),
    )


def _looping(encoder: Encoder, size: int) -> Work:
    return lambda report: report(len(encoder.run(size)))


def _through(batcher: FrameBatcher, clip: Frames) -> Work:
    """One clip in chunks, as decoding hands them in."""

    def run(report: Callable[[int], None]) -> None:
        with batcher.lease() as lease:
            chunks = [lease.submit(clip[at : at + CHUNK_FRAMES]) for at in range(0, len(clip), CHUNK_FRAMES)]
            for chunk in chunks:
                report(len(chunk.result().features))

    return run


def _decoding(spec: ClipSpec, options: argparse.Namespace) -> tuple[float, list[OfDecoding]]:
    """Sampled frames of a clip, mean, and the rates of 1 to all cores."""
    paths = [clip.path for clip in clips_of(options.data, options.seed, _NUM_CLIPS)]
    cores = available_cores()
    rates = []
    with DecodePool(num_credits=cores) as decoders:
        counts: list[int] = []
        for path in paths:
            _decode(decoders, path, spec, counts.append)
        mean = sum(counts) / len(paths)
        for processes in sorted(
            {1, *(2**power for power in range(1, cores.bit_length())), cores} & {*range(cores + 1)}
        ):
            turns = [itertools.cycle(paths[first::processes] or paths) for first in range(processes)]
            frames = steady([_decoding_of(decoders, turn, spec) for turn in turns], _LONGER * options.seconds)
            rates.append(OfDecoding(processes, round(frames, 2), round(frames / mean, 3)))
    return mean, rates


def _decoding_of(decoders: DecodePool, paths: Iterator[Path], spec: ClipSpec) -> Work:
    return lambda report: _decode(decoders, next(paths), spec, report)


def _decode(decoders: DecodePool, path: Path, spec: ClipSpec, report: Callable[[int], None]) -> None:
    with decoders.open(path, spec) as clip:
        for chunk in clip.chunks():
            report(len(chunk.frames))
            chunk.release()
