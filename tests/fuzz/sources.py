"""What is mutated: real clips, real pictures in many codecs and containers, and the odd files where they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from tests.drawn import Image, draw
from tests.drawn_cases import CODECS, FORMATS
from tests.real_clips import NAMES, real_clip

ODD = Path(__file__).parents[2].parent / "shared" / "data" / "odd"
# Small, so that a mutant costs milliseconds; AV1 wants 64 x 64 at least, and B-frames some frames to refer to.
_WIDTH, _HEIGHT, _FRAMES = 96, 80, 20
_PICTURES = "bikes.mp4"
# The clip with a sound track is a large one: its first half second will do.
_WITH_SOUND, _SOUND_SECONDS = "bigbuckbunny.mp4", 0.5
_MORE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "h264-avi": ("avi", {"encoder": "libx264"}),
    "turned-mp4": ("mp4", {"encoder": "libx264", "rotation_degrees": 90, "b_frames": 2}),
    "av1-mkv": ("mkv", {"encoder": "libsvtav1"}),
    "av1-webm": ("webm", {"encoder": "libsvtav1"}),
    "av1-ivf": ("ivf", {"encoder": "libsvtav1"}),
    "h264-stream": ("h264", {"encoder": "libx264", "b_frames": 2}),
    "hevc-stream": ("hevc", {"encoder": "libx265", "b_frames": 2}),
    "mjpeg-stream": ("mjpeg", {"encoder": "mjpeg"}),
    "mxf": ("mxf", {"encoder": "mpeg2video"}),
    "nut": ("nut", {"encoder": "ffv1"}),
    # By PyAV; held pictures are decoded twice.
    "fields-ts": ("ts", {"encoder": "libx264", "options": {"x264-params": "tff=1"}}),
    "held-mp4": ("mp4", {"encoder": "libx264", "timestamps": [*(i / 25 for i in range(10)), *range(2, 12)]}),
    "wmv2-asf": ("asf", {"encoder": "wmv2"}),
    **{name: FORMATS[name] for name in ("h264-yuv420p10le", "hevc-444-12", "vp9-alpha", "png-alpha", "qtrle-alpha")},
}


@dataclass(frozen=True)
class Source:
    """A whole file; its name tells where it came from."""

    name: str
    data: bytes


def sources(*, with_odd: bool = False) -> tuple[Source, ...]:
    """Every source, in an order that only depends on names; FileNotFoundError where odd files are asked for in vain."""
    if with_odd and not odd_files():
        raise FileNotFoundError(f"the folder of odd files, {ODD}, is not here; leave --odd out")
    odd = [Source(f"odd/{name}", (ODD / name).read_bytes()) for name in odd_files()] if with_odd else []
    return (*_real(), *_drawn(), *(source for source in odd if source.data))


def odd_files() -> list[str]:
    """Paths below `ODD`, sorted; empty where it is absent."""
    return sorted(path.relative_to(ODD).as_posix() for path in ODD.rglob("*") if path.is_file())


@cache
def _real() -> tuple[Source, ...]:
    whole = [Source(name, real_clip(name).read_bytes()) for name in NAMES if name != _WITH_SOUND]
    return (*whole, Source(f"{_WITH_SOUND}, {_SOUND_SECONDS:g} s", _beginning(real_clip(_WITH_SOUND))))


@cache
def _drawn() -> tuple[Source, ...]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, arguments) in sorted({**CODECS, **_MORE}.items()):
            small = {"num_frames": _FRAMES, "width": _WIDTH, "height": _HEIGHT, **arguments}
            clip = draw(Path(folder) / f"{name}.{suffix}", picture=_picture, **small)
            found.append(Source(name, clip.path.read_bytes()))
    return tuple(found)


def _beginning(path: Path) -> bytes:
    """The packets of the first half second, sound and all, in a new file."""
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / path.name
        with av.open(path) as reader, av.open(short, "w") as writer:
            copies = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
            for packet in reader.demux():
                seconds = float((packet.pts or 0) * packet.time_base)
                if packet.size and seconds < _SOUND_SECONDS:
                    packet.stream = copies[packet.stream_index]
                    writer.mux(packet)
        return short.read_bytes()


def _picture(index: int, width: int, height: int) -> Image:
    """A picture of a real clip, so that there is something to predict and to code."""
    assert (width, height) == (_WIDTH, _HEIGHT)
    return _pictures()[index]


@cache
def _pictures() -> list[Image]:
    with av.open(real_clip(_PICTURES)) as container:
        frames = islice(container.decode(video=0), _FRAMES)
        return [
            np.asarray(
                frame.reformat(_WIDTH, _HEIGHT, "rgb24", interpolation=Interpolation.BICUBIC, threads=1).to_ndarray(),
                np.uint8,
            )
            for frame in frames
        ]
