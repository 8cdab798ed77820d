"""Every frame's time and pixels against PyAV's: an independent binding, with an FFmpeg of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.video.container import identify
from service.video.decode import ClipReader
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.drawn import ORANGE, Drawn, Encoder, Image, draw, paint, read_index
from tests.drawn_cases import CLOCKS, CODECS, FORMATS, H264, SIZES
from tests.real_clips import NAMES, real_clip
from tests.reference import by_pyav, centre_crop, psnr_db, stretch, upright

# 48.1 dB is an error of 1 level in every pixel: rounding may differ between two builds of FFmpeg, or in a resize of
# ours by less than one level; nothing else may (measured: identical; 61.8 dB where a side under 16 is stretched).
SAME_PIXELS_DB = 48.0
# The prepared frame against the exact mean over areas: ours is halved, without an odd last row, then bilinear by less
# than 2. Camera pictures (measured: from 43.9 dB, 56.7 in the median) ...
CAMERA_DB = 40.0
# ... and drawn edges, black on white (measured: from 29.5 dB where the source is a little over twice the target).
EDGES_DB = 29.0
# Times are of the same file's integers; the report rounds to 1 µs.
SAME_SECONDS = 1e-6
# Enough for every kind of group of pictures; the odd files have up to 1 394 frames.
MAX_FRAMES = 60
SIDE = 224


@dataclass(frozen=True)
class Ours:
    """A frame of ClipReader: seconds from the stream's start, and what it made of the picture."""

    seconds: float
    picture: Image
    report: DecodeReport


def by_us(path: Path, height: int, width: int, resize: str = "stretch") -> Iterator[Ours]:
    """Every frame: at 240 samples a second each one farther than 4.2 ms from the last serves a tick."""
    spec = ClipSpec.model_validate(
        {"sample_fps": 240, "frame_height": max(16, height), "frame_width": max(16, width), "resize": resize}
    )
    with ClipReader(path, spec) as reader:
        for chunk in reader.chunks(1):
            assert len(chunk.ticks) == 1
            assert chunk.ticks[0] >= 1
            report = reader.report()
            yield Ours(report.last_seconds, chunk.frames[0], report)


def compared(
    path: Path, *, same_db: float = SAME_PIXELS_DB, prepared_db: float = EDGES_DB, off_by: float = SAME_SECONDS
) -> Iterator[Ours]:
    """Our frames, after each was held against PyAV's: its time, its stored pixels, and every 16th as an encoder
    takes it, cropped in the shape in which it is shown."""
    theirs = islice(by_pyav(path), MAX_FRAMES)
    first = next(theirs, None)
    assert first, "PyAV decodes no frame"
    stream = first.stream
    height, width = upright(first.picture, stream).shape[:2]
    ours = islice(by_us(path, height, width), MAX_FRAMES)
    prepared = islice(by_us(path, SIDE, SIDE, "crop"), MAX_FRAMES)
    for index, (our, their) in enumerate(zip_longest(ours, chain([first], theirs))):
        assert our, f"we give {index} frames, PyAV more"
        assert their, f"PyAV gives {index} frames, we give more"
        if their.pts_seconds is not None:
            assert our.seconds == pytest.approx(their.pts_seconds, abs=off_by), f"frame {index}"
        assert (our.report.width, our.report.height) == (width, height)
        assert our.report.rotation_degrees == stream.rotation_degrees
        expected = stretch(upright(their.picture, stream), *our.picture.shape[:2])
        assert psnr_db(our.picture, expected) >= same_db, f"frame {index}"
        ready = next(prepared)
        if index % 16 == 0:
            expected = upright(centre_crop(their.picture, SIDE, float(stream.pixel_aspect)), stream)
            assert psnr_db(ready.picture, expected) >= prepared_db, f"frame {index}"
        yield our


def translucent(index: int, width: int, height: int) -> Image:
    """`paint` with an alpha that falls to nothing: alpha is dropped, colours are as stored."""
    alpha = np.linspace(255, 0, width).astype(np.uint8)
    return np.dstack([paint(index, width, height), np.tile(alpha, (height, 1))])


def assert_right(drawn: Drawn, tick_seconds: float = SAME_SECONDS) -> None:
    """As `assert_same`, and the pictures' own indices, and the times that were written, from the first one's."""
    ours = list(compared(drawn.path))
    assert [read_index(our.picture) for our in ours] == list(range(len(drawn.timestamps)))
    expected = [seconds - drawn.timestamps[0] for seconds in drawn.timestamps]
    np.testing.assert_allclose([our.seconds for our in ours], expected, atol=tick_seconds)


def tick(suffix: str) -> float:
    return CLOCKS.get(suffix, 0.0) + SAME_SECONDS


def flat(_index: int, width: int, height: int) -> Image:
    """Orange, as a code value of 8 bits."""
    return np.tile(np.array(ORANGE, np.uint8), (height, width, 1))


def indices(ours: list[Ours]) -> list[int]:
    return [read_index(our.picture) for our in ours]


def pixels_are_the_same(ours: list[Ours], path: Path) -> bool:
    theirs = list(by_pyav(path))
    return len(ours) == len(theirs) and all(
        psnr_db(our.picture, upright(their.picture, their.stream)) >= SAME_PIXELS_DB
        for our, their in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", CODECS)
def test_codecs_and_containers(tmp_path: Path, name: str) -> None:
    suffix, how = CODECS[name]
    assert_right(draw(tmp_path / f"clip.{suffix}", num_frames=26, **how), tick(suffix))


@pytest.mark.parametrize("name", FORMATS)
def test_pixel_formats(tmp_path: Path, name: str) -> None:
    suffix, how = FORMATS[name]
    picture = translucent if "alpha" in name else None
    assert_right(draw(tmp_path / f"clip.{suffix}", num_frames=10, picture=picture, **how), tick(suffix))


@pytest.mark.parametrize("name", SIZES)
def test_sizes(tmp_path: Path, name: str) -> None:
    suffix, how = SIZES[name]
    assert len(list(compared(draw(tmp_path / f"clip.{suffix}", num_frames=9, **how).path))) == 9


@pytest.mark.parametrize("name", NAMES)
def test_real_clips(name: str) -> None:
    assert sum(1 for _ in compared(real_clip(name), prepared_db=CAMERA_DB)) > 20


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize(("suffix", "encoder"), [("mp4", "libx264"), ("mov", "mjpeg"), ("mp4", "libx265")])
def test_rotations(tmp_path: Path, suffix: str, encoder: Encoder, turn: int) -> None:
    assert_right(draw(tmp_path / f"clip.{suffix}", num_frames=9, encoder=encoder, rotation_degrees=turn))


def disc(aspect: Fraction, _index: int, width: int, height: int) -> Image:
    """White, round where a pixel is `aspect` as wide as high, and half as high as the picture."""
    y, x = np.ogrid[:height, :width]
    inside = np.hypot((x - (width - 1) / 2) * float(aspect), y - (height - 1) / 2) < height / 4
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


# MP4 alone of these holds a rotation.
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(1, 2), Fraction(2), Fraction(1)], ids=str)
@pytest.mark.parametrize(
    ("suffix", "encoder", "turn"),
    [("mp4", "libx264", 0), ("mp4", "libx264", 90), ("mkv", "libx264", 0), ("ts", "libx264", 0), ("avi", "mpeg4", 0)],
)
def test_discs_are_round(tmp_path: Path, suffix: str, encoder: Encoder, aspect: Fraction, turn: int) -> None:
    """Non-square pixels: the crop is taken from the picture as shown. The aspect is that of an upright pixel."""
    width = round(320 / aspect / 16) * 16
    drawn = draw(
        tmp_path / f"clip.{suffix}", num_frames=2, width=width, height=240, encoder=encoder, rotation_degrees=turn,
        sample_aspect_ratio=1 / aspect if turn else aspect, picture=partial(disc, aspect),
    )  # fmt: skip
    assert len(list(compared(drawn.path))) == 2
    white = next(by_us(drawn.path, SIDE, SIDE, "crop")).picture[..., 1] > 127
    assert np.ptp(np.flatnonzero(white.any(axis=0))) + 1 == pytest.approx(SIDE / 2, abs=2)
    assert np.ptp(np.flatnonzero(white.any(axis=1))) + 1 == pytest.approx(SIDE / 2, abs=2)


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        ("mp4", {**H264, "options": {"x264-params": "tff=1"}}),
        ("mkv", {**H264, "options": {"x264-params": "tff=1"}}),
        ("ts", {**H264, "b_frames": 2, "options": {"x264-params": "bff=1"}}),
        ("mpg", {"encoder": "mpeg2video", "b_frames": 2, "options": {"flags": "+ildct+ilme"}}),
        ("avi", {"encoder": "mpeg4", "options": {"flags": "+ildct+ilme"}}),
    ],
)
def test_interlaced(tmp_path: Path, suffix: str, how: dict[str, Any]) -> None:
    """Both fields as they are stored, woven, and said to be."""
    drawn = draw(tmp_path / f"clip.{suffix}", num_frames=9, **how)
    assert next(by_pyav(drawn.path)).stream.is_interlaced
    said = identify(drawn.path)
    assert (said.interlaced, said.hdr, said.pixel_format) == (True, None, "YUV 4:2:0")
    assert any("interlaced" in line for line in said.warnings())
    assert_right(drawn, tick(suffix))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_progressive_video_is_not_said_to_be_otherwise(tmp_path: Path, suffix: str) -> None:
    said = identify(draw(tmp_path / f"clip.{suffix}", num_frames=4).path)
    assert (said.interlaced, said.hdr, said.warnings()) == (False, None, [])


@pytest.mark.parametrize(
    ("suffix", "transfer", "name"),
    [("mp4", "smpte2084", "PQ"), ("mkv", "arib-std-b67", "HLG"), ("ts", "smpte2084", "PQ")],
)
def test_hdr(tmp_path: Path, suffix: str, transfer: str, name: str) -> None:
    """Mapped into the gamut and transfer function of BT.709, as libswscale does, and said to be."""
    params = f"log-level=none:pools=none:frame-threads=1:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    how: dict[str, Any] = {"encoder": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": params}}
    # Of two frames with a B-frame x265 writes one time in twenty-five a stream that FFmpeg's MP4 muxer does not take.
    drawn = draw(tmp_path / f"clip.{suffix}", 4, width=160, height=120, picture=flat, b_frames=1, **how)
    said = identify(drawn.path)
    assert (said.hdr, said.interlaced, said.pixel_format, said.bit_depth) == (name, False, "YUV 4:2:0", 10)
    assert f"the video is HDR ({name}); its colours were mapped to standard range" in said.warnings()
    ours = list(compared(drawn.path))
    coded = flat(0, 160, 120).astype(int)
    assert len(ours) == 4
    assert all(abs(our.picture.astype(int) - coded).mean() > 10 for our in ours), "not mapped at all"
