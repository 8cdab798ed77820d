"""The contract that both decoders keep over the same clips: order, times, header, damage, and nothing left open."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from service.errors import ReelserveError
from service.video.errors import NotAVideo
from service.video.opencv_source import OpenCvSource
from service.video.pyav_source import PyAvSource
from service.video.source import Header, Source, sane_fps, sane_pixel_aspect
from tests.decoders import open_descriptors
from tests.drawn import Image, draw, read_index
from tests.drawn_cases import CLOCKS, CODECS, RATES, UNEVEN
from tests.reference import psnr_db
from tests.service.video.test_opencv_source import FakeLog, overwrite_packet

Opener = Callable[..., Source]
BOTH = pytest.mark.parametrize("opener", [OpenCvSource, PyAvSource])
# AVI holds no presentation times: with B-frames each library makes something else of it.
CLIPS = {name: CODECS[name] for name in CODECS if name != "gif"} | {
    name: RATES[name] for name in ("vfr-mp4", "vfr-mkv", "vfr-ts", "late-mp4", "late-mkv", "late-ts", "early-mkv")
}
AV1 = {f"av1-{suffix}": (suffix, {"encoder": "libsvtav1"}) for suffix in ("mp4", "mkv", "webm")}
# Both carry the same libswscale, asked for the same.
SAME_PIXELS_DB = 60.0
# OpenCV has a tag in place of the codec's name.
TAGGED = ("prores-mov", "huffyuv-avi", "raw-avi", "raw-mov")
DEEP = {"av1-10-bit": ("mp4", {"encoder": "libsvtav1", "pixel_format": "yuv420p10le"})}


@dataclass(frozen=True)
class Clip:
    """A drawn file, and its frames' times from the first one's."""

    name: str
    path: Path
    times: tuple[float, ...]


@pytest.fixture(scope="module", params=[*CLIPS, *AV1, *DEEP])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    suffix, how = (CLIPS | AV1 | DEEP)[request.param]
    count = len(how.get("timestamps", range(26)))
    drawn = draw(tmp_path_factory.mktemp("clips") / f"clip.{suffix}", count, **how)
    return Clip(request.param, drawn.path, tuple(seconds - drawn.timestamps[0] for seconds in drawn.timestamps))


def walk(source: Source) -> tuple[list[float], list[Image]]:
    times, pictures = list[float](), list[Image]()
    while source.grab():
        times.append(source.pts_seconds())
        picture = source.retrieve()
        assert picture is not None
        assert picture.shape == (source.header.height, source.header.width, 3)
        pictures.append(picture.copy())
    assert not source.grab(), "it stays at the end"
    return times, pictures


@BOTH
def test_frames_in_their_order_at_their_times(clip: Clip, opener: Opener) -> None:
    times, pictures = walk(opener(clip.path))
    assert [read_index(picture[..., ::-1]) for picture in pictures] == list(range(len(clip.times)))
    late = [seconds - times[0] for seconds in times]  # of streams that begin before their start
    kept = len(late) - (clip.name == "mpeg2-b-ps")  # MPEG program streams lose the last timestamp
    tick = CLOCKS.get(clip.path.suffix[1:], 0.0) + 1e-6
    assert late[:kept] == pytest.approx(clip.times[:kept], abs=tick)


def test_both_say_the_same(clip: Clip) -> None:
    one, other = OpenCvSource(clip.path), PyAvSource(clip.path)
    for key in ("width", "height", "orientation", "pixel_aspect"):
        assert getattr(one.header, key) == getattr(other.header, key), key
    assert clip.name in TAGGED or one.header.codec == other.header.codec
    assert (one.header.decoder, other.header.decoder) == ("opencv", "pyav")
    if clip.name not in RATES:  # of a variable rate each has its own mean
        assert one.header.step_seconds == pytest.approx(other.header.step_seconds, rel=1e-6)
    if one.header.duration_seconds and other.header.duration_seconds:
        assert one.header.duration_seconds == pytest.approx(other.header.duration_seconds, abs=0.05)
    (times, pictures), (others, same) = walk(one), walk(other)
    if math.isnan(times[-1]):  # of MPEG-PS with B-frames; PyAV takes the decoding time
        times[-1] = others[-1]
    assert times == pytest.approx(others, abs=1e-6)
    for picture, twin in zip(pictures, same, strict=True):
        assert psnr_db(picture, twin) >= SAME_PIXELS_DB


@pytest.mark.parametrize(
    ("primaries", "transfer", "matrix"),
    [
        ("smpte170m", "smpte170m", "smpte170m"),
        ("smpte432", "bt709", "bt709"),
        ("bt2020", "arib-std-b67", "bt2020nc"),
    ],
)
def test_colours_are_the_same_whichever_decodes(tmp_path: Path, primaries: str, transfer: str, matrix: str) -> None:
    """Wide gamuts and HDR are mapped to BT.709 by both, and nothing else is; in seconds a clip, and not a frame."""
    tags = f"colorprim={primaries}:transfer={transfer}:colormatrix={matrix}"
    path = draw(
        tmp_path / "clip.mp4", 2, encoder="libx265", pixel_format="yuv420p10le", width=64, height=48,
        options={"x265-params": f"log-level=none:pools=none:frame-threads=1:{tags}"},
    ).path  # fmt: skip
    (_, pictures), (_, same) = walk(OpenCvSource(path)), walk(PyAvSource(path))
    for picture, twin in zip(pictures, same, strict=True):
        assert psnr_db(picture, twin) >= SAME_PIXELS_DB


@BOTH
def test_the_shape_of_pixels_and_the_rate(tmp_path: Path, opener: Opener) -> None:
    path = draw(tmp_path / "clip.mkv", 9, 29.97, width=160, height=120, sample_aspect_ratio=Fraction(16, 11)).path
    header = opener(path).header
    assert (header.codec, header.width, header.height, header.pixel_aspect) == ("h264", 160, 120, Fraction(16, 11))
    assert header.fps == pytest.approx(29.97, rel=1e-3)


@BOTH
def test_i_pictures_are_told(tmp_path: Path, opener: Opener) -> None:
    options = {"g": "5", "x264-params": "scenecut=0"}
    source = opener(draw(tmp_path / "clip.mp4", 12, options=options).path)
    told = list[bool]()
    while source.grab():
        told.append(source.is_intra())
    assert [index for index, intra in enumerate(told) if intra] == [0, 5, 10]


@BOTH
@pytest.mark.parametrize(("suffix", "encoder"), [("mp4", "mpeg4"), ("mov", "mjpeg"), ("mov", "png")])
def test_an_undecodable_packet_is_a_gap(tmp_path: Path, opener: Opener, suffix: str, encoder: Any) -> None:
    path = draw(tmp_path / f"clip.{suffix}", 12, encoder=encoder).path
    overwrite_packet(path, 5)
    source = opener(path)
    times, _ = walk(source)
    assert times == pytest.approx([i / 25 for i in range(12) if i != 5])
    assert (source.gaps, source.damaged) == (1, 1)
    assert source.first_damage is not None
    assert source.first_damage[0] == pytest.approx(4 / 25)
    assert source.first_damage[1] == "a packet that can't be decoded"


@BOTH
def test_what_ffmpeg_prints_belongs_to_the_frame_just_grabbed(tmp_path: Path, opener: Opener) -> None:
    path = draw(tmp_path / "clip.mp4", 12).path
    source = opener(path, log=FakeLog([None, None, "error while decoding MB 3 4", None, "concealing 12 errors"]))
    walk(source)
    assert (source.gaps, source.damaged) == (0, 2)
    assert source.first_damage is not None
    assert source.first_damage[0] == pytest.approx(1 / 25)
    assert source.first_damage[1] == "error while decoding MB 3 4"


@BOTH
def test_an_error_at_the_end_damages_no_frame(tmp_path: Path, opener: Opener) -> None:
    source = opener(draw(tmp_path / "clip.mp4", 2).path, log=FakeLog([None, None, "no frame!"]))
    walk(source)
    assert (source.gaps, source.damaged) == (0, 0)
    assert source.first_damage is not None
    assert source.first_damage[0] == pytest.approx(1 / 25)
    assert source.first_damage[1] == "no frame!"


@BOTH
def test_a_picture_that_changes_its_size_keeps_the_headers(tmp_path: Path, opener: Opener) -> None:
    parts = [draw(tmp_path / f"{width}.ts", 5, width=width, height=120).path.read_bytes() for width in (160, 240)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    _, pictures = walk(opener(tmp_path / "joined.ts"))
    assert [read_index(picture[..., ::-1]) for picture in pictures] == [0, 1, 2, 3, 4] * 2


@BOTH
@pytest.mark.parametrize("content", [b"This is not a video.\n" * 100, bytes(5000), b"\0"])
def test_what_is_no_video_is_refused(tmp_path: Path, opener: Opener, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotAVideo) as caught:
        opener(tmp_path / "file")
    assert str(tmp_path) not in caught.value.detail


@BOTH
def test_a_playlist_opens_no_other_file(tmp_path: Path, opener: Opener) -> None:
    draw(tmp_path / "secret.mp4", 5)
    for name, text in {
        "list.m3u8": "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(NotAVideo):
            opener(tmp_path / name)


@BOTH
@pytest.mark.parametrize("name", ["12:30.mp4", "a%03d.mp4", "-i.mp4", "ü 片.mp4", "a|b.mp4", "http:a.mp4"])
def test_odd_names(tmp_path: Path, opener: Opener, name: str) -> None:
    path = draw(tmp_path / "clip.mp4", 3, width=64, height=48).path.rename(tmp_path / name)
    assert len(walk(opener(path))[0]) == 3


@BOTH
def test_nothing_is_left_open(tmp_path: Path, opener: Opener) -> None:
    path = draw(tmp_path / "clip.mp4", 5, width=64, height=48).path
    (tmp_path / "text.mp4").write_text("This is not a video.\n" * 100)

    def use() -> None:
        source = opener(path)
        source.grab()
        source.release()
        with pytest.raises(ReelserveError):
            opener(tmp_path / "text.mp4")

    use()
    gc.collect()
    before = open_descriptors()
    for _ in range(5):
        use()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("fps", "sane"),
    [
        (29.97, 29.97),
        (0.1, 0.1),
        (480, 480),
        (0, None),
        (0.09, None),
        (90_000, None),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_rates_that_one_can_believe(fps: float, sane: float | None) -> None:
    assert sane_fps(fps) == sane


@pytest.mark.parametrize(
    ("numerator", "denominator", "aspect"),
    [(16, 11, Fraction(16, 11)), (1, 10, Fraction(1, 10)), (0, 1, 1), (1, 0, 1), (-4, 3, 1), (1, 11, 1), (11, 1, 1)],
)
def test_pixels_that_one_can_believe(numerator: int, denominator: int, aspect: Fraction | int) -> None:
    assert sane_pixel_aspect(numerator, denominator) == aspect


def test_a_header_without_a_rate_steps_as_films_do() -> None:
    header = Header("h264", 320, 240, num_frames=50)
    assert (header.step_seconds, header.duration_seconds) == (1 / 25, None)


def test_uneven_times_are_those_that_were_drawn() -> None:
    """That the clips above have them at all."""
    assert RATES["vfr-mp4"][1]["timestamps"] == UNEVEN
