"""Which library decodes what, with PyAV and without it; and the switch where a stream turns interlaced midway."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from service.video import pyav_source, sources
from service.video.container import Container, identify
from service.video.decode import ClipReader
from service.video.errors import CodecNotSupported, NoSuchStream, NoVideoStream
from service.video.limits import DecodeLimits
from service.video.orientation import Orientation
from service.video.pool import DecodePool
from service.video.probe import Prober
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.drawn import Drawn, Encoder, Image, draw, paint, read_index, serving_frames
from tests.drawn_cases import CODECS
from tests.service.video.test_opencv_source import FakeLog
from tests.service.video.test_pyav_source import INTERLACED, two_streams

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyav_source, "AVAILABLE", False)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as running:
        yield running


def read_here(path: Path, **how: Any) -> tuple[list[int], DecodeReport]:
    """The indices of the frames, and the report."""
    with ClipReader(path, SPEC, **how) as reader:
        found = [read_index(frame) for chunk in reader.chunks(16) for frame in chunk.frames]
        return found, reader.report()


def read_apart(pool: DecodePool, path: Path, **how: Any) -> tuple[list[int], DecodeReport]:
    found = list[int]()
    with pool.open(path, SPEC, **how) as video:
        for chunk in video.chunks():
            found += [read_index(frame) for frame in chunk.frames]
            chunk.release()
    return found, video.report()


def used(timestamps: tuple[float, ...]) -> list[int]:
    return sorted(set(serving_frames(timestamps, SPEC.sample_fps)))


def test_the_versions_decide_whether_features_are_fresh() -> None:
    assert f"opencv {cv2.__version__}, pyav {pyav_source.VERSION}" == sources.VERSIONS


@pytest.mark.parametrize("name", ["h264-b-mp4", "hevc-b-mkv", "vp9-webm", "mpeg2-b-ts", "mjpeg-mov", "gif"])
def test_progressive_video_is_opencvs_with_pyav_and_without(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, how = CODECS[name]
    drawn = draw(tmp_path / f"clip.{suffix}", 26, **how)
    found = read_here(drawn.path)
    assert (found[0], found[1].decoder) == (used(drawn.timestamps), "opencv")
    monkeypatch.setattr(pyav_source, "AVAILABLE", False)
    assert read_here(drawn.path) == found


@pytest.mark.parametrize("kind", INTERLACED)
def test_interlaced_video_is_pyavs(tmp_path: Path, pool: DecodePool, kind: str) -> None:
    suffix, how = INTERLACED[kind]
    drawn = draw(tmp_path / f"clip.{suffix}", 26, **how)
    for found, report in (read_here(drawn.path), read_apart(pool, drawn.path)):
        assert found == used(drawn.timestamps)
        assert (report.decoder, report.frames_walked, report.frames_damaged) == ("pyav", 26, 0)
    facts = pool.probe(drawn.path, full=True)
    assert facts.walk is not None
    assert (facts.decoder, facts.interlaced, facts.walk.num_frames, facts.refusal) == ("pyav", True, 26, None)


@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize("kind", INTERLACED)
@pytest.mark.parametrize("log", [None, FakeLog([], [True] * 30)], ids=["here", "apart"])
def test_without_pyav_interlaced_video_is_refused_with_two_remedies(
    tmp_path: Path, kind: str, log: FakeLog | None
) -> None:
    """By its headers, or where there is a log by the first frame that OpenCV can't convert."""
    suffix, how = INTERLACED[kind]
    path = draw(tmp_path / f"clip.{suffix}", 9, **how).path
    with pytest.raises(CodecNotSupported) as caught:
        read_here(path, log=log)
    assert caught.value.value == "interlaced video"
    for words in ("PyAV", "pip install -r requirements/codecs.txt", "ffmpeg -i INPUT -vf bwdif=mode=send_frame -c:v"):
        assert words in caught.value.detail


@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_a_probe_says_what_a_prediction_would(tmp_path: Path) -> None:
    """Where the headers don't tell, too: the scan is known with the first frame converted."""
    suffix, how = INTERLACED["h264-mp4"]
    path = draw(tmp_path / f"clip.{suffix}", 9, **how).path
    with pytest.raises(CodecNotSupported):
        Prober(path, DecodeLimits())
    prober = Prober(path, DecodeLimits(), FakeLog([], [True] * 30), replace(identify(path), scan=None))
    prober.measure(10.0)
    refusal = prober.facts().refusal
    assert refusal is not None
    assert refusal.code == "codec_not_supported"
    assert "requirements/codecs.txt" in refusal.detail


def test_requirements_of_the_remedy_are_there() -> None:
    assert (Path(__file__).parents[3] / "requirements" / "codecs.txt").exists()


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Progressive for a second, then interlaced for another; MediaInfo reads only the beginning."""
    folder = tmp_path_factory.mktemp("turning")
    times = [tuple(start + i / 25 for i in range(25)) for start in (0.0, 1.0)]
    parts = [
        draw(folder / f"{number}.ts", 25, timestamps=each, options=options, picture=picture)
        for number, (each, options, picture) in enumerate(
            zip(times, ({"g": "5"}, {"g": "5", "x264-params": "tff=1"}), (None, _second), strict=True)
        )
    ]
    path = folder / "turning.ts"
    path.write_bytes(b"".join(part.path.read_bytes() for part in parts))
    return Drawn(path, tuple(i / 25 for i in range(50)))


def _second(index: int, width: int, height: int) -> Image:
    return paint(index + 25, width, height)


def test_where_a_stream_turns_interlaced_the_decoder_is_changed(pool: DecodePool, turning: Drawn) -> None:
    assert not identify(turning.path).interlaced
    found, report = read_apart(pool, turning.path)
    assert found == used(turning.timestamps)
    assert (report.decoder, report.frames_walked, report.frames_dropped) == ("pyav", 50, 0)
    assert report.warnings == ("the video is interlaced; its fields were not separated",)
    assert (report.time_base, report.frames_damaged) == ("pts", 0)


def test_a_probe_of_it_counts_every_frame_once(pool: DecodePool, turning: Drawn) -> None:
    walk = pool.probe(turning.path, full=True).walk
    assert walk is not None
    assert (walk.num_frames, walk.frames_without_time, walk.jumps, walk.last_seconds) == (50, 0, 0, 1.96)


@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_it_is_refused_when_that_frame_is_asked_for(turning: Drawn) -> None:
    flags = [False] * 8 + [True] * 25  # of those that are retrieved, 8 a second
    assert read_here(turning.path, end_seconds=0.8, log=FakeLog([], list(flags)))[1].decoder == "opencv"
    with pytest.raises(CodecNotSupported, match=r"interlaced video \(AVC in MPEG-TS\) needs PyAV"):
        read_here(turning.path, log=FakeLog([], list(flags)))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "avi"])
def test_the_stream_that_is_asked_for(tmp_path: Path, pool: DecodePool, suffix: str) -> None:
    path = two_streams(tmp_path / f"two.{suffix}", frames=26)
    frames = used(tuple(i / 25 for i in range(26)))
    for stream, decoder, width in ((0, "opencv", 64), (1, "pyav", 160)):
        found, report = read_apart(pool, path, stream=stream)
        assert found == [100 * stream + index for index in frames]
        assert (report.decoder, report.width) == (decoder, width)
        assert report.duration_seconds == pytest.approx(1.04, abs=0.041)
        facts = pool.probe(path, stream=stream, full=True)
        assert (facts.stream, facts.width, facts.decoder, facts.num_films) == (stream, width, decoder, 2)
    with pytest.raises(NoSuchStream, match="no video stream 2; it has 0: AVC 64 x 48, 1: AVC 160 x 120"):
        read_apart(pool, path, stream=2)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("default", [0, 1])
def test_unasked_it_is_the_one_that_players_take(tmp_path: Path, suffix: str, default: int) -> None:
    path = two_streams(tmp_path / f"two.{suffix}", default=default)
    container = identify(path)
    assert container.stream == default
    assert any(f"{default} was taken, ask for another with stream" in line for line in container.warnings())
    found, _ = read_here(path)
    assert found[0] == 100 * default


@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_another_stream_is_refused_with_two_remedies(tmp_path: Path) -> None:
    path = two_streams(tmp_path / "two.mp4")
    assert read_here(path)[1].width == 64
    with pytest.raises(CodecNotSupported) as caught:
        read_here(path, stream=1)
    assert caught.value.value == "video stream 1"
    for words in ("requirements/codecs.txt", "ffmpeg -i INPUT -map 0:v:1 -c:v libx264"):
        assert words in caught.value.detail


def _boxed(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def with_cover(path: Path, *, front: bool) -> Path:
    """Cover art as iTunes writes it (`udta`, `meta`, `ilst`, `covr`), before or behind the tracks."""
    jpeg = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    handler = _boxed(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    cover = _boxed(b"covr", _boxed(b"data", struct.pack(">II", 13, 0) + jpeg))
    udta = _boxed(b"udta", _boxed(b"meta", bytes(4) + handler + _boxed(b"ilst", cover)))
    data = path.read_bytes()
    start = data.rindex(b"moov") - 4
    moov = data[start + 8 :]
    head = 8 + struct.unpack(">I", moov[4:8])[0] - 8 if front else len(moov)
    path.write_bytes(data[:start] + _boxed(b"moov", moov[:head] + udta + moov[head:]))
    return path


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("mjpeg", "mjpeg")])
def test_cover_art_is_no_video(tmp_path: Path, pool: DecodePool, front: bool, encoder: Encoder, codec: str) -> None:
    drawn = draw(tmp_path / "clip.mov", 26, encoder=encoder)
    path = with_cover(drawn.path, front=front)
    found, report = read_apart(pool, path)
    assert found == used(drawn.timestamps)
    assert (report.codec, report.width) == (codec, 320)
    assert identify(path).num_films == 1


def with_thumbnail(path: Path, *, default: bool) -> Path:
    """A track of one JPEG before the film. default: it is marked so as well."""
    with av.open(path, "w") as container:
        thumbnail, film = container.add_stream("mjpeg", rate=25), container.add_stream("libx264", rate=25)
        thumbnail.width, thumbnail.height, thumbnail.pix_fmt = 64, 48, "yuvj420p"
        film.width, film.height, film.pix_fmt = 320, 240, "yuv420p"
        thumbnail.disposition = Disposition.default if default else Disposition(0)
        film.disposition = Disposition.default
        container.mux(thumbnail.encode(av.VideoFrame.from_ndarray(paint(0, 64, 48), format="rgb24")))
        for index in range(26):
            container.mux(film.encode(av.VideoFrame.from_ndarray(paint(index, 320, 240), format="rgb24")))
        container.mux(thumbnail.encode(None))
        container.mux(film.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_a_thumbnail_track_is_passed_over(tmp_path: Path, suffix: str) -> None:
    """The film alone is marked as default: nothing to warn of."""
    path = with_thumbnail(tmp_path / f"clip.{suffix}", default=False)
    found = identify(path)
    assert (found.stream, found.num_films, found.warnings()) == (1, 1, [])
    assert read_here(path)[1].width == 320


def test_a_thumbnail_track_that_is_marked_as_default_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    path = with_thumbnail(tmp_path / "clip.mkv", default=True)
    assert any("1 was taken, ask for another with stream" in line for line in identify(path).warnings())
    assert read_here(path)[1].width == 320


def test_pictures_of_chapters_are_passed_over(tmp_path: Path, pool: DecodePool) -> None:
    """As iTunes writes them: a track of its own, to which the film's points (`tref`, `chap`); FFmpeg takes it for
    cover art, MediaInfo for video."""
    path = with_thumbnail(tmp_path / "clip.mp4", default=False)
    data = path.read_bytes()
    moov, film = data.rindex(b"moov") - 4, data.rindex(b"trak") - 4
    end = film + struct.unpack_from(">I", data, film)[0]
    chapters = _boxed(b"tref", _boxed(b"chap", struct.pack(">I", 1)))
    marked = bytearray(data[:end] + chapters + data[end:])
    for at in (moov, film):
        struct.pack_into(">I", marked, at, struct.unpack_from(">I", marked, at)[0] + len(chapters))
    path.write_bytes(marked)
    found, report = read_apart(pool, path)
    assert (found, report.width, report.decoder) == (used(tuple(i / 25 for i in range(26))), 320, "pyav")


@pytest.mark.parametrize(("encoder", "suffix"), [("libx264", "h264"), ("libx265", "hevc")])
@pytest.mark.parametrize("fps", [15, 50])
def test_streams_without_a_container_go_at_their_codecs_rate(
    tmp_path: Path, pool: DecodePool, encoder: Encoder, suffix: str, fps: int
) -> None:
    drawn = draw(tmp_path / f"clip.{suffix}", 30, fps=fps, encoder=encoder)
    _, report = read_apart(pool, drawn.path)
    assert (report.decoder, report.frames_walked) == ("pyav", 30)
    assert report.duration_seconds == pytest.approx(30 / fps, abs=1e-3)


@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_a_film_behind_a_picture_is_refused(tmp_path: Path) -> None:
    """Where OpenCV takes the picture for the film: a fake of its header, as its own order differs by version."""
    drawn = draw(tmp_path / "clip.mov", 5, encoder="mjpeg")
    container = replace(identify(drawn.path), codec="AVC")
    with pytest.raises(CodecNotSupported, match="a film behind a picture"):
        sources.open_source(drawn.path, container)


def test_a_film_of_pictures_is_no_cover(tmp_path: Path) -> None:
    films: tuple[tuple[Encoder, str], ...] = (
        ("mjpeg", "mov"), ("mjpeg", "mkv"), ("mjpeg", "avi"), ("png", "mov"), ("png", "avi"), ("gif", "mov"),
        ("gif", "gif"), ("mjpeg", "nut"), ("apng", "apng"),
    )  # fmt: skip
    for encoder, suffix in films:
        drawn = draw(tmp_path / f"{encoder}.{suffix}", 26, encoder=encoder)
        found, report = read_here(drawn.path)
        assert (found, report.decoder) == (used(drawn.timestamps), "opencv"), (encoder, suffix)


def test_a_song_is_no_video_though_it_has_a_cover(tmp_path: Path) -> None:
    """OpenCV would show the cover."""
    path = draw(tmp_path / "cover.mov", 1, encoder="mjpeg").path
    song = Container(format="MPEG-4", kinds=("Audio",), codec="JPEG")
    with pytest.raises(NoVideoStream, match=r"MPEG-4 and holds only sound \(cover art is no video\)"):
        sources.open_source(path, song)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turns_are_the_same_whichever_library_decodes(tmp_path: Path, degrees: int) -> None:
    path = draw(tmp_path / "clip.mp4", 3, rotation_degrees=degrees).path
    container = identify(path)
    for found in (container, replace(container, scan="Interlaced"), replace(container, orientation=None)):
        source = sources.open_source(path, found)
        assert source.header.orientation == Orientation(degrees)
        source.release()
