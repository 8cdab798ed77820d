"""Our pictures against FFmpeg's own conversion: pixel formats × codecs × range × matrix × turn.

`python -m tests.pictures [--encoders NAME,...] [--worst N]` draws each of `tests.picture_kinds`: three frames of a
smooth, colourful scene, computed sample by sample (`tests.colours`), so that neither the place of chroma nor its filter
matters, but range, matrix, planes, blank or stale frames do. PyAV decodes it with an FFmpeg of its own. Its `scale`
filter then converts each frame as it is tagged, and so do the standards' formulas, in floating point. A difference is a
mean over the frame, the worst frame's, in levels of 255.

FFmpeg's conversion of 4:2:0 and 4:2:2 with default flags truncates: it is darker by a level, and by up to two for more
than 8 bits into RGB24. OpenCV asks for BGR24 with the same flags; with `accurate_rnd+full_chroma_int` it is right.
Ours may be either, and of two fields converted apart or as one picture: the nearest is what counts.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import ReelserveError
from service.video.decode import ClipReader
from service.video.spec import ClipSpec
from tests.colours import WEIGHTS, Coding, Image, Plane, coding_of, exact, planes
from tests.drawn import same_scheduling, write_display_matrix
from tests.picture_kinds import RANGES, TURNS, WIDE, Clip, interlaced, tagged, turned, wide

FRAMES, FPS = 3, 25
GOAL_LEVELS = 1.0
_BT709 = 1
_DEFAULT, _ACCURATE = "bicubic", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
# Display orientation messages of H.264 (Annex D.1.27), in the words of FFmpeg's bit stream filter.
_SEI = {
    "90": "rotate=270", "180": "rotate=180", "270": "rotate=90", "mirror": "flip=horizontal", "flip": "flip=vertical",
    "transpose": "rotate=90:flip=horizontal", "transverse": "rotate=90:flip=vertical",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Differences. ffmpeg, accurate: FFmpeg's own to the formulas, with default flags and accurate ones; to_ffmpeg,
    to_exact: ours to the nearest of FFmpeg's and to the formulas; row: to FFmpeg's in the worst row; mapped: to its
    mapping into BT.709, of wide gamut and HDR.

    refused: our words where we give no picture. survived: whether samples still mean what they were drawn as.
    """

    clip: Clip
    ffmpeg: float
    accurate: float
    survived: bool
    to_ffmpeg: float = np.nan
    to_exact: float = np.nan
    row: float = np.nan
    mapped: float = np.nan
    refused: str = ""


def scene(index: int, width: int, height: int, y: Plane, x: Plane) -> Plane:
    """Ramps of red and green that leave the range on either side, a wave of blue; frames differ from one another."""
    across, down = x / width, y / height
    wave = 0.5 + 0.5 * np.cos(np.pi * (across + down + index / FRAMES))
    return np.stack([1.16 * across - 0.08, 1.1 * down - 0.05 - 0.1 * index / FRAMES, wave], axis=-1)


def draw(clip: Clip, path: Path) -> None:
    """Write it; FFmpegError, ValueError where encoder or container don't take the combination."""
    in_header = clip.turn != "upright" and clip.turn_in == "header"
    first = path.with_suffix(".mp4") if in_header and path.suffix == ".mkv" else path
    with same_scheduling():
        _encode(clip, first)
    if in_header:
        write_display_matrix(first, *TURNS[clip.turn])
    if first != path:
        _copy(first, path)
    if clip.turn_in == "stream":
        plain = path.rename(path.with_stem("plain"))
        _copy(plain, path, f"h264_metadata=display_orientation=insert:{_SEI[clip.turn]}")


def _encode(clip: Clip, path: Path) -> None:
    (width, height), (matrix, primaries, transfer) = clip.size, clip.tags
    options = {**clip.kind.options, **((clip.kind.fields or {}) if clip.fields else {})}
    with av.open(path, "w") as container:
        stream: VideoStream = container.add_stream(clip.kind.encoder, rate=FPS, options=options)  # type: ignore[assignment]
        stream.width, stream.height, stream.pix_fmt = width, height, clip.pixel_format
        context = stream.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace = RANGES[clip.range], matrix
        context.color_primaries, context.color_trc = primaries, transfer
        for index in range(FRAMES):
            frame = planes(partial(scene, index, width, height), width, height, clip.pixel_format, clip.coding)
            frame.color_range, frame.colorspace = RANGES[clip.range], matrix
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(_filtered(frame, "setfield=tff") if clip.fields else frame))
        container.mux(stream.encode(None))


def _copy(source: Path, target: Path, bit_stream_filter: str = "null") -> None:
    with av.open(source) as reader, av.open(target, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        filters = BitStreamFilterContext(bit_stream_filter, reader.streams.video[0], stream)
        packets = (packet for packet in reader.demux(video=0) if packet.size)
        for packet in chain.from_iterable(map(filters.filter, chain(packets, [None]))):
            packet.stream = stream
            writer.mux(packet)


def _filtered(frame: av.VideoFrame, *filters: str) -> av.VideoFrame:
    """Through FFmpeg's filters ("name=arguments")."""
    graph = Graph()
    graph.threads = 1
    buffer = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/{FPS}"
        f":colorspace={frame.colorspace}:range={frame.color_range}"
    )
    nodes = [graph.add("buffer", buffer), *(graph.add(*text.split("=", 1)) for text in filters)]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def by_ffmpeg(frame: av.VideoFrame, flags: str = _DEFAULT, *, by_fields: bool = False) -> Image:
    """RGB as its `scale` filter gives it. by_fields: each field's chroma for itself, where a frame has two."""
    bgr = _filtered(frame, f"scale=flags={flags}:interl={-1 if by_fields else 0}", "format=bgr24").to_ndarray()
    return np.asarray(bgr[..., ::-1], np.uint8)


def mapped_by_ffmpeg(frame: av.VideoFrame) -> Image:
    """RGB in BT.709's gamut and transfer function."""
    bgr = frame.reformat(
        format="bgr24", interpolation="BICUBIC", threads=1, dst_color_primaries=_BT709, dst_color_trc=_BT709
    )
    return np.asarray(bgr.to_ndarray()[..., ::-1], np.uint8)


def shown(picture: NDArray[Any], frame: av.VideoFrame) -> NDArray[Any]:
    """A stored picture as the frame's display matrix has it shown."""
    a, b, c, d = display_matrix(frame)
    if a == 0:
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d of `TURNS`."""
    for index in range(len(frame.side_data)):  # a mapping whose iteration gives values
        data: SideData = frame.side_data[index]  # type: ignore[literal-required]
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = (value >> 16 for value in struct.unpack("=9i", bytes(data)))
            return a, b, c, d
    return TURNS["upright"]


def by_us(path: Path, width: int, height: int) -> list[Image]:
    """Each frame, unresized."""
    spec = ClipSpec(sample_fps=FPS, frame_height=height, frame_width=width, resize="stretch")
    with ClipReader(path, spec) as reader:
        return [frame for chunk in reader.chunks(FRAMES + 1) for frame in chunk.frames]


def judge(clip: Clip, folder: Path) -> Judged | None:
    """Draw, decode twice and compare; None where the combination can't be drawn."""
    path = folder / f"clip.{clip.suffix}"
    try:
        draw(clip, path)
        with av.open(path) as container:
            frames = list(container.decode(video=0))
    except (FFmpegError, ValueError):
        return None
    first = frames[0]
    if (len(frames), bool(first.interlaced_frame)) != (FRAMES, clip.fields) or display_matrix(first) != TURNS[
        clip.turn
    ]:
        return None
    formulas = [shown(exact(frame, coding_of(frame, centred=clip.kind.centred)), first) for frame in frames]
    default, accurate, *by_fields = [
        [shown(by_ffmpeg(frame, flags, by_fields=apart), first) for frame in frames]
        for apart in (False, True)[: 1 + clip.fields]
        for flags in (_DEFAULT, _ACCURATE)
    ]
    judged = Judged(
        clip,
        ffmpeg=_mean(default, formulas),
        accurate=_mean(accurate, formulas),
        survived=_same(coding_of(first, centred=clip.kind.centred), clip.coding, first.format),
    )
    height, width = default[0].shape[:2]
    try:
        ours = by_us(path, width, height)
    except ReelserveError as error:
        return replace(judged, refused=f"{error.code}: {error.detail}")
    if len(ours) != FRAMES:
        return replace(judged, refused=f"{len(ours)} of {FRAMES} frames")
    nearest = min((default, accurate, *by_fields), key=partial(_mean, ours))
    judged = replace(judged, to_ffmpeg=_mean(ours, nearest), to_exact=_mean(ours, formulas), row=_row(ours, nearest))
    if clip.matrix in WIDE:
        judged = replace(judged, mapped=_mean(ours[:1], [shown(mapped_by_ffmpeg(first), first)]))
    return judged


def _same(one: Coding, other: Coding, pixel_format: av.VideoFormat) -> bool:
    """Whether samples mean the same."""
    if pixel_format.is_rgb:
        return True
    is_grey = len(pixel_format.components) < 3
    return one.full == other.full and (is_grey or WEIGHTS[one.matrix] == WEIGHTS[other.matrix])


def _mean(some: Iterable[NDArray[Any]], others: Iterable[NDArray[Any]]) -> float:
    return max(float(np.abs(one - other.astype(np.float64)).mean()) for one, other in zip(some, others, strict=True))


def _row(some: Iterable[NDArray[Any]], others: Iterable[NDArray[Any]]) -> float:
    return max(
        float(np.abs(one - other.astype(np.float64)).mean(axis=(1, 2)).max())
        for one, other in zip(some, others, strict=True)
    )


def report(found: list[Judged], not_drawn: int, worst: int) -> str:
    """All figures in words."""
    beyond = [each for each in found if each.clip.matrix in WIDE]
    found = [each for each in found if each.clip.matrix not in WIDE]
    given = sorted((each for each in found if not each.refused), key=lambda each: -each.to_ffmpeg)
    far = [each for each in given if each.to_ffmpeg > GOAL_LEVELS]
    lines = [
        f"{len(found)} combinations, the tags of {sum(each.survived for each in found)} came through "
        f"({not_drawn} more are taken by no encoder or container)",
        f"ours to FFmpeg's: worst mean difference {given[0].to_ffmpeg:.2f} of 255, {len(far)} above {GOAL_LEVELS:g}",
        f"of these {sum(each.clip.fields for each in far)} interlaced, "
        f"{sum(each.clip.turn != 'upright' for each in far)} turned",
        f"ours to the formulas: worst {max(each.to_exact for each in given):.2f}, "
        f"{sum(each.to_exact > each.ffmpeg + GOAL_LEVELS / 2 for each in given)} by 0.5 more than FFmpeg's own",
        f"FFmpeg's own to the formulas: worst {max(each.ffmpeg for each in found):.2f} with default flags, "
        f"{max(each.accurate for each in found):.2f} with accurate ones",
        f"the worst {worst}: ours to FFmpeg's, its worst row, ours to the formulas",
    ]
    lines += [f"  {each.to_ffmpeg:6.2f} {each.row:6.2f} {each.to_exact:6.2f}  {each.clip}" for each in given[:worst]]
    for name, count in Counter(each.clip.pixel_format for each in found if each.accurate > GOAL_LEVELS).items():
        lines.append(f"FFmpeg's conversion of {name}, accurate, is off the formulas by more than a level ({count})")
    lines += [
        f"{each.clip}: {each.mapped:.2f} to FFmpeg's mapping into BT.709, {each.to_ffmpeg:.2f} to its plain conversion"
        for each in beyond
    ]
    refused = Counter(f"{each.clip.kind.encoder} {each.clip.suffix}: {each.refused}" for each in found if each.refused)
    lines += [f"{count} refused: {words}" for words, count in refused.items()]
    return "\n".join(lines)


def main() -> None:
    """Judge all and print; the exit status says whether the goal is met."""
    flags = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    flags.add_argument("--encoders", help="only these, separated by commas")
    flags.add_argument("--worst", type=int, default=10)
    options = flags.parse_args()
    began = time.monotonic()
    clips = [
        clip
        for clip in chain(tagged(), interlaced(), turned(), wide())
        if not options.encoders or clip.kind.encoder in options.encoders.split(",")
    ]
    with tempfile.TemporaryDirectory() as folder:
        judged = [judge(clip, Path(folder)) for clip in clips]
    found = [each for each in judged if each]
    print(report(found, len(judged) - len(found), options.worst))
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(any(min(each.to_ffmpeg, each.mapped) > GOAL_LEVELS for each in found))


if __name__ == "__main__":
    main()
