"""Frames per second decoded and prepared by one worker, against what one thread could do at best.

Sampled at 8 a second, 224 x 224, centre crop; all sides on the same file, each with one decoding thread:

ours        the decode process, chunks through shared memory
in-process  ClipReader in this process
limit       OpenCV grabs every frame and retrieves the sampled ones; no resize
grab        OpenCV only grabs
pyav        PyAV decodes every frame, scales the sampled ones bilinearly to RGB; stretched, not cropped
decord      its reader scales the sampled frames; stretched, not cropped
torchcodec  the same
before      `ours` of another checkout with its own environment (`--before FOLDER`): what a change costs, as also
            OpenCV, and so the limit, may be another one there

Run: `python -m tests.bench decode [--rounds N] [--seconds S] [--sizes WxH,...] [--sides NAME,...] [--before FOLDER]`,
of H.264 at a constant rate; `--codec av1` of AV1 (with `--sides ours,pyav`: against PyAV alone). `--times`: what a
variable rate costs, on one clip whose timestamps alone differ: `constant`; `phone`, each frame up to 6 ms early or
late; `held`, one picture held for two seconds in the middle of the clip, which has it decoded twice up to there.
"""

from __future__ import annotations

import argparse
import importlib
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.reformatter import Interpolation

from service.video.decode import ClipReader
from service.video.grid import SamplingGrid
from service.video.spec import ClipSpec
from tests.bench.slices import Side, alternate, ratio
from tests.long_clips import loop, moving

FRAME_SIDE = 224
SAMPLE_FPS = 8.0
SPEC = ClipSpec(sample_fps=SAMPLE_FPS, frame_height=FRAME_SIDE, frame_width=FRAME_SIDE, resize="crop")
CHUNK_FRAMES = 16
SIZES = "320x240,1280x720,1920x1080"
SIDES = ("ours", "in-process", "limit", "grab", "pyav", "decord", "torchcodec")


@contextmanager
def ours(path: Path, num_credits: int = 1) -> Iterator[Callable[[], int]]:
    """The decode process; the pool outlives the passes, as it does in the server."""
    from service.video.pool import DecodePool

    with DecodePool(num_credits=num_credits) as pool:

        def run() -> int:
            with pool.open(path, SPEC) as clip:
                for chunk in clip.chunks():
                    chunk.release()
                walked: int = clip.report().frames_walked
                return walked

        yield run


# Of another checkout: a pass over the clip for each line that it is sent; it answers with the frames walked.
_PASSES = """
import sys
from pathlib import Path
import cv2
from tests.bench.decode import ours
cv2.setNumThreads(1)
with ours(Path(sys.argv[1])) as run:
    for line in sys.stdin:
        print(run(), flush=True)
"""


@contextmanager
def before(path: Path, checkout: Path) -> Iterator[Callable[[], int]]:
    """`ours` of another checkout, in its environment (`make env`)."""
    command = [str(checkout / ".venv/bin/python"), "-c", _PASSES, str(path)]
    with subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin
        assert other.stdout
        asked, told = other.stdin, other.stdout

        def run() -> int:
            print(file=asked, flush=True)
            return int(told.readline())

        yield run
        asked.close()


def in_process(path: Path) -> int:
    """ClipReader where the caller is."""
    with ClipReader(path, SPEC) as reader:
        for _ in reader.chunks(CHUNK_FRAMES):
            pass
        return reader.report().frames_walked


def limit(path: Path) -> int:
    """Grab all, retrieve the sampled."""
    return len(_walk(path)[0])


def grab(path: Path) -> int:
    """Grab all and nothing else."""
    capture = _capture(path)
    walked = 0
    while capture.grab():
        walked += 1
    capture.release()
    return walked


def pyav(path: Path) -> int:
    """Decode all, scale the sampled."""
    grid = SamplingGrid(SAMPLE_FPS)
    walked = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        step = float(1 / (stream.average_rate or 25))
        for frame in container.decode(stream):
            walked += 1
            if grid.take(frame.time, frame.time + step):
                size = {"width": FRAME_SIDE, "height": FRAME_SIDE}
                rgb = frame.reformat(**size, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1)
                rgb.to_ndarray()
    return walked


def decord(path: Path) -> Callable[[], int]:
    """Its batches of as many frames as our chunks; ImportError where it is not installed."""
    library: Any = importlib.import_module("decord")
    sampled = _walk(path)[1]

    def run() -> int:
        reader = library.VideoReader(str(path), ctx=library.cpu(0), num_threads=1, width=FRAME_SIDE, height=FRAME_SIDE)
        for start in range(0, len(sampled), CHUNK_FRAMES):
            reader.get_batch(sampled[start : start + CHUNK_FRAMES]).asnumpy()
        return len(reader)

    return run


def torchcodec(path: Path) -> Callable[[], int]:
    """As `decord`; ImportError where it is not installed, RuntimeError where it finds no FFmpeg."""
    torch: Any = importlib.import_module("torch")
    decoders: Any = importlib.import_module("torchcodec.decoders")
    resize: Any = importlib.import_module("torchcodec.transforms").Resize((FRAME_SIDE, FRAME_SIDE))
    torch.set_num_threads(1)
    sampled = _walk(path)[1]

    def run() -> int:
        reader = decoders.VideoDecoder(
            path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact", transforms=[resize]
        )
        for start in range(0, len(sampled), CHUNK_FRAMES):
            reader.get_frames_at(sampled[start : start + CHUNK_FRAMES]).data.numpy()
        return len(reader)

    return run


def make_sides(path: Path, names: list[str], stack: ExitStack) -> list[Side]:
    """The sides asked for; one line for each that this environment lacks."""
    sides = []
    for name in names:
        if name == "ours":
            sides.append(Side(name, stack.enter_context(ours(path))))
        elif name in ("decord", "torchcodec"):
            try:
                sides.append(Side(name, {"decord": decord, "torchcodec": torchcodec}[name](path)))
            except (ImportError, RuntimeError) as fault:
                print(f"{name} is left out: {str(fault).splitlines()[0]}")
        else:
            run = {"in-process": in_process, "limit": limit, "grab": grab, "pyav": pyav}[name]
            sides.append(Side(name, lambda run=run: run(path)))  # type: ignore[misc]
    return sides


def make_clip(folder: Path, width: int, height: int, codec: str = "h264") -> Path:
    """60 s of real content; 300 s of small pictures, so that opening the file weighs little there too."""
    source = moving(folder / f"source-{width}x{height}.mp4", width, height)
    if codec == "av1":
        source = _to_av1(source, folder / f"av1-{width}x{height}.mp4")
    return loop(source, folder / f"{width}x{height}-{codec}.mp4", 300.0 if height < 480 else 60.0)


def _to_av1(source: Path, path: Path) -> Path:
    """As browsers and recorders write it: SVT-AV1, quick preset."""
    with av.open(source) as reader, av.open(path, "w") as writer:
        shown = reader.streams.video[0]
        options = {"preset": "10", "crf": "35", "svtav1-params": "lp=1"}
        stream = writer.add_stream("libsvtav1", rate=shown.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in reader.decode(shown):
            frame.pict_type = av.video.frame.PictureType.NONE
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    return path


def with_times(source: Path, path: Path, kind: str) -> Path:
    """The same packets (without B-frames) at other times: `constant`, `phone` or `held`."""
    drawn = random.Random(0)
    with av.open(source) as reader, av.open(path, "w") as writer:
        shown = reader.streams.video[0]
        copy = writer.add_stream_from_template(shown)
        packets = [packet for packet in reader.demux(shown) if packet.size]
        for number, packet in enumerate(packets):
            milliseconds = number * 40
            if kind == "phone" and number:
                milliseconds += drawn.randint(-6, 6)
            if kind == "held" and number > len(packets) // 2 + 1:  # no tick falls on the one before
                milliseconds += 2000
            packet.stream, packet.time_base = copy, Fraction(1, 1000)
            packet.pts = packet.dts = milliseconds
            packet.duration = 40
            writer.mux_one(packet)
    return path


def of_times(size: str, options: argparse.Namespace, folder: Path) -> None:
    """Our decoding of each kind of times, and its ratio to constant ones."""
    width, height = map(int, size.split("x"))
    source = loop(
        moving(folder / "plain.mp4", width, height, b_frames=0), folder / "long.mp4", 300.0 if height < 480 else 60.0
    )
    with ExitStack() as stack:
        sides = [
            Side(kind, stack.enter_context(ours(with_times(source, folder / f"{kind}.mp4", kind))))
            for kind in ("constant", "phone", "held")
        ]
        rates = alternate(sides, options.rounds, options.seconds)
    print(f"{size}: frames/s by kind of times, median ratio [quartiles] to constant ones")
    for kind, values in rates.items():
        print(f"{kind:<12}{statistics.median(values):>9.0f}{ratio(values, rates['constant']):>24}")


def table(rates: dict[str, list[float]]) -> None:
    """Median rates, and the ratios to `limit` and to `grab` where these ran."""
    references = [name for name in ("limit", "grab", "pyav", "before") if name in rates]
    print(f"{'side':<12}{'frames/s':>9}" + "".join(f"{'/ ' + name:>24}" for name in references))
    for side, values in rates.items():
        against = "".join(f"{ratio(values, rates[name]):>24}" for name in references)
        print(f"{side:<12}{statistics.median(values):>9.0f}{against}")


def main(arguments: list[str]) -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench decode")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a slice; whole passes over the clip")
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--codec", choices=("h264", "av1"), default="h264")
    parser.add_argument("--times", action="store_true", help="what a variable rate costs")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout to decode with as well")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    for size in options.sizes.split(","):
        if options.times:
            with tempfile.TemporaryDirectory() as folder:
                of_times(size, options, Path(folder))
            continue
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            clip = make_clip(Path(folder), width, height, options.codec)
            sides = make_sides(clip, options.sides.split(","), stack)
            if options.before:
                sides.append(Side("before", stack.enter_context(before(clip, options.before.resolve()))))
            rates = alternate(sides, options.rounds, options.seconds)
            walked, sampled = _walk(clip)
        print(
            f"{size}: {options.codec}, {len(walked)} frames, {len(sampled)} sampled; {options.rounds} rounds of "
            f"slices of {options.seconds:g} s; median, median ratio [quartiles]"
        )
        table(rates)


def _capture(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _walk(path: Path) -> tuple[list[float], list[int]]:
    """Times of all frames, grabbed; indices of the sampled ones, retrieved."""
    capture = _capture(path)
    grid = SamplingGrid(SAMPLE_FPS)
    step = 1.0 / capture.get(cv2.CAP_PROP_FPS)
    times: list[float] = []
    sampled: list[int] = []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0)
        if grid.take(times[-1], times[-1] + step):
            capture.retrieve()
            sampled.append(len(times) - 1)
    capture.release()
    return times, sampled
