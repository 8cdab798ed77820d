"""One open file: the header's facts made sane, undecodable packets passed over and counted, FFmpeg's words kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from service.errors import EmptyFile
from service.video.errors import NotAVideo
from service.video.opencv_source import OpenCvSource
from service.video.orientation import UPRIGHT
from service.video.source import Header, InterlacedFrame
from tests.drawn import Encoder, Image, draw, read_index
from tests.drawn_cases import CODECS
from tests.reference import psnr_db

SANE = {
    cv2.CAP_PROP_FOURCC: int.from_bytes(b"avc1", "little"), cv2.CAP_PROP_FPS: 25, cv2.CAP_PROP_FRAME_COUNT: 50,
    cv2.CAP_PROP_FRAME_WIDTH: 320, cv2.CAP_PROP_FRAME_HEIGHT: 240, cv2.CAP_PROP_SAR_NUM: 4, cv2.CAP_PROP_SAR_DEN: 3,
}  # fmt: skip


class FakeCv:
    """A `cv2.VideoCapture` whose header says what it is told."""

    def __init__(self, says: dict[int, float]) -> None:
        self.says = SANE | says

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, *_: Any) -> bool:
        return True

    def get(self, prop: int) -> float:
        return float(self.says.get(prop, 0))


class FakeLog:
    """Each `take` gives the next line, then none; each `take_interlaced` whether the next frame is."""

    def __init__(self, lines: Sequence[str | None], interlaced: Sequence[bool] = ()) -> None:
        self.lines, self.interlaced = list(lines), list(interlaced)

    def take(self) -> str | None:
        return self.lines.pop(0) if self.lines else None

    def take_interlaced(self) -> bool:
        return self.interlaced.pop(0) if self.interlaced else False


@pytest.fixture
def header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def read(says: dict[int, float]) -> Header:
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCv(says))
        (tmp_path / "file").write_bytes(b"x")
        return OpenCvSource(tmp_path / "file").header

    return read


def test_a_header(header: Any) -> None:
    assert header({}) == Header("h264", 320, 240, UPRIGHT, Fraction(4, 3), 25.0, 50, "opencv")
    assert header({}).step_seconds == 1 / 25
    assert header({}).duration_seconds == 2.0


@pytest.mark.parametrize(
    ("says", "degrees"),
    [(0, 0), (90, 90), (180, 180), (270, 270), (-90, 270), (360, 0), (89.6, 90), (3, 0), (-2_147_483_648, 0)],
)
def test_rotations(header: Any, says: float, degrees: int) -> None:
    assert header({cv2.CAP_PROP_ORIENTATION_META: says}).orientation.rotation_degrees == degrees


@pytest.mark.parametrize(
    ("numerator", "denominator", "aspect"),
    [
        (16, 11, Fraction(16, 11)), (1, 10, Fraction(1, 10)), (10, 1, Fraction(10)), (0, 1, Fraction(1)),
        (1, 0, Fraction(1)), (0, 0, Fraction(1)), (-4, 3, Fraction(1)), (1, 11, Fraction(1)), (11, 1, Fraction(1)),
        (math.nan, 1, Fraction(1)), (1, math.inf, Fraction(1)), (2**31 - 1, 1, Fraction(1)),
    ],
)  # fmt: skip
def test_pixel_aspects(header: Any, numerator: float, denominator: float, aspect: Fraction) -> None:
    says = {cv2.CAP_PROP_SAR_NUM: numerator, cv2.CAP_PROP_SAR_DEN: denominator}
    assert header(says).pixel_aspect == aspect


@pytest.mark.parametrize(
    ("says", "fps"),
    [(29.97, 29.97), (0.1, 0.1), (480, 480.0), (0, None), (-25, None), (0.09, None), (1000, None), (90_000, None)],
)
def test_frame_rates(header: Any, says: float, fps: float | None) -> None:
    read = header({cv2.CAP_PROP_FPS: says})
    assert (read.fps, read.step_seconds) == (fps, 1 / (fps or 25))


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_a_frame_rate_that_is_no_number(header: Any, rate: float) -> None:
    assert header({cv2.CAP_PROP_FPS: rate}).fps is None


@pytest.mark.parametrize("count", [0, -1, -2_562_047_788_015_215, 1e15, math.nan])
def test_frame_counts_that_are_none(header: Any, count: float) -> None:
    read = header({cv2.CAP_PROP_FRAME_COUNT: count})
    assert (read.num_frames, read.duration_seconds) == (None, None)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (b"avc1", "h264"), (b"h264", "h264"), (b"H264", "h264"), (b"hvc1", "hevc"), (b"hev1", "hevc"), (b"VP90", "vp9"),
        (b"FMP4", "mpeg4"), (b"XVID", "mpeg4"), (b"MJPG", "mjpeg"), (b"ap4h", "ap4h"), (b"gif\0", "gif"),
        (b"\0\0\0\0", "unknown"), (b"\1\2\3\4", "unknown"), (b"\xff\xff\xff\xff", "\ufffd" * 4),
    ],
)  # fmt: skip
def test_codec_names(header: Any, tag: bytes, name: str) -> None:
    assert header({cv2.CAP_PROP_FOURCC: int.from_bytes(tag, "little", signed=True)}).codec == name


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264-b-mp4", "h264"), ("h264-b-mkv", "h264"), ("h264-b-ts", "h264"), ("h264-b-flv", "h264"),
        ("hevc-b-mp4", "hevc"), ("hevc-b-ts", "hevc"), ("vp9-webm", "vp9"), ("vp9-mp4", "vp9"), ("vp8-webm", "vp8"),
        ("mpeg4-avi", "mpeg4"), ("mpeg4-b-mp4", "mpeg4"), ("mpeg2-b-ts", "mpeg2video"), ("mpeg2-ps", "mpeg2video"),
        ("mjpeg-avi", "mjpeg"),
    ],
)  # fmt: skip
def test_codec_names_of_files(tmp_path: Path, name: str, codec: str) -> None:
    suffix, how = CODECS[name]
    assert OpenCvSource(draw(tmp_path / f"clip.{suffix}", num_frames=9, **how).path).header.codec == codec


def overwrite_packet(path: Path, index: int) -> None:
    """Fill one packet of an MP4 or MOV with zeros."""
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][index]
        start, size = packet.pos, packet.size
    assert start is not None
    blob = bytearray(path.read_bytes())
    blob[start : start + size] = bytes(size)
    path.write_bytes(blob)


def read_indices(source: OpenCvSource, most: int = 100) -> list[int]:
    found: list[int] = []
    while len(found) < most and source.grab():
        picture = source.retrieve()
        assert picture is not None
        found.append(read_index(picture))
    return found


def damage_of(source: OpenCvSource) -> tuple[float, str]:
    """The index of the last good frame before the first damage, and the words for it."""
    assert source.first_damage
    seconds, words = source.first_damage
    return round(seconds * 25, 6), words


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [("mp4", "mpeg4"), ("mov", "mjpeg"), ("mp4", "libx264"), ("mov", "png"), ("mp4", "libvpx-vp9")],
)
def test_grab_goes_on_over_an_undecodable_packet(tmp_path: Path, suffix: str, encoder: Encoder) -> None:
    """Frame 5 is lost and known to be; what is predicted from it is only as good as the codec makes it."""
    path = draw(tmp_path / f"clip.{suffix}", num_frames=12, encoder=encoder).path
    overwrite_packet(path, 5)
    source = OpenCvSource(path)
    assert read_indices(source, 6) == [0, 1, 2, 3, 4, 6]
    assert source.pts_seconds() == pytest.approx(6 / 25)
    frames = 6
    while source.grab():
        frames += 1
    assert frames == 11
    assert (source.gaps, source.damaged) == (1, 1)
    assert damage_of(source) == (4, "a packet that can't be decoded")


def test_a_whole_clip_has_no_damage(tmp_path: Path) -> None:
    source = OpenCvSource(draw(tmp_path / "clip.mp4", num_frames=12, b_frames=3).path, log=FakeLog([]))
    assert read_indices(source) == list(range(12))
    assert (source.gaps, source.damaged, source.first_damage) == (0, 0, None)


def test_lines_of_the_log_count_frames_and_the_first_is_kept(tmp_path: Path) -> None:
    log = FakeLog([None, None, "error while decoding MB 3 4", None, "concealing 12 errors"])
    source = OpenCvSource(draw(tmp_path / "clip.mp4", num_frames=12).path, log=log)
    assert len(read_indices(source)) == 12
    assert (source.gaps, source.damaged) == (0, 2)
    assert damage_of(source) == (1, "error while decoding MB 3 4")


def test_the_log_names_an_undecodable_packet(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mov", num_frames=6, encoder="mjpeg").path
    overwrite_packet(path, 3)
    source = OpenCvSource(path, log=FakeLog([None, None, None, "No JPEG data found in image"]))
    assert read_indices(source) == [0, 1, 2, 4, 5]
    assert (source.gaps, source.damaged) == (1, 1)
    assert damage_of(source) == (2, "No JPEG data found in image")


def test_an_error_at_the_end_damages_no_frame(tmp_path: Path) -> None:
    source = OpenCvSource(draw(tmp_path / "clip.mp4", num_frames=2).path, log=FakeLog([None, None, "no frame!"]))
    assert len(read_indices(source)) == 2
    assert (source.gaps, source.damaged) == (0, 0)
    assert damage_of(source) == (1, "no frame!")


def test_no_video_is_refused_with_the_words_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no video" * 100)
    with pytest.raises(NotAVideo, match=r"moov atom not found"):
        OpenCvSource(tmp_path / "file", log=FakeLog(["moov atom not found"]))
    with pytest.raises(NotAVideo, match=r"in these bytes; send"):
        OpenCvSource(tmp_path / "file", log=FakeLog([]))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmptyFile):
        OpenCvSource(tmp_path / "file")


def test_a_frame_that_the_log_calls_interlaced_is_no_picture(tmp_path: Path) -> None:
    """OpenCV gives a blank or stale one of it, and says that all is well."""
    log = FakeLog([], [False, True, False])
    source = OpenCvSource(draw(tmp_path / "clip.mp4", num_frames=3).path, log=log)
    assert source.grab()
    assert source.retrieve() is not None
    assert source.grab()
    with pytest.raises(InterlacedFrame):
        source.retrieve()
    assert source.grab()
    assert source.retrieve() is not None


def test_a_picture_of_another_size_is_scaled_to_the_headers(tmp_path: Path) -> None:
    """FFmpeg looks a few frames ahead, and may take the second size for the header's."""
    small, large = draw(tmp_path / "1.ts", 5), draw(tmp_path / "2.ts", 5, width=640, height=480)
    path = tmp_path / "joined.ts"
    path.write_bytes(small.path.read_bytes() + large.path.read_bytes())
    source = OpenCvSource(path)
    pictures = list[Image]()
    while source.grab():
        picture = source.retrieve()
        assert picture is not None
        assert picture.shape == (source.header.height, source.header.width, 3)
        pictures.append(picture)
    assert [read_index(picture) for picture in pictures] == [0, 1, 2, 3, 4] * 2


def light(_index: int, width: int, height: int) -> Image:
    return np.full((height, width, 3), 200, np.uint8)


@pytest.mark.parametrize("height", [1080, 242])
@pytest.mark.parametrize(
    ("encoder", "pixel_format"),
    [
        *product(["libx264", "libx265"], ["yuv420p10le", "yuv420p", "yuv422p10le"]),
        *product(["libsvtav1"], ["yuv420p10le", "yuv420p"]),
    ],
)
def test_every_row_is_written(tmp_path: Path, pixel_format: str, encoder: Encoder, height: int) -> None:
    """OpenCV 4.12 left the last three rows of deep 4:2:0 as the memory was, where the coded picture is higher."""
    path = tmp_path / "clip.mp4"
    draw(path, 2, width=64, height=height, encoder=encoder, pixel_format=pixel_format, picture=light)
    source = OpenCvSource(path)
    for _ in range(2):
        assert source.grab()
        picture = source.retrieve()
        assert picture is not None
        assert abs(picture.astype(int) - 200).max() <= 4


def test_rows_that_are_written_are_kept(tmp_path: Path) -> None:
    """A height that no block exceeds."""
    path = draw(tmp_path / "clip.mp4", 1, height=256, pixel_format="yuv420p10le", picture=slope).path
    source = OpenCvSource(path)
    assert source.grab()
    picture = source.retrieve()
    assert picture is not None
    assert psnr_db(picture[-3:], slope(0, 320, 256)[-3:]) > 35
    assert picture[-4:, 0, 0].tolist() == sorted(set(picture[-4:, 0, 0].tolist()))


def slope(_index: int, width: int, height: int) -> Image:
    """Black, and each of the last rows lighter."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[-8:] = np.arange(20, 180, 20)[:, None, None]
    return picture
