"""Folders: all that can be decoded is found, by content where the name says nothing; the rest is counted and said."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.jobs.errors import BadInput
from service.jobs.folders import VIDEO_SUFFIXES, PassedOver, is_named_video, is_video_file, videos_below
from service.jobs.inputs import Inputs
from service.jobs.remote import Remote
from service.spool import Spool
from tests.drawn import paint

# By FFmpeg's names: the muxer, the encoder.
VIDEOS = {
    "mp4": "libx264", "mov": "mjpeg", "3g2": "mpeg4", "3gp": "mpeg4", "matroska": "libx264", "webm": "libvpx",
    "avi": "mjpeg", "mpegts": "mpeg2video", "vob": "mpeg2video", "mpeg2video": "mpeg2video", "flv": "flv",
    "asf": "wmv2", "ogg": "libvpx", "gif": "gif", "apng": "apng", "webp": "libwebp_anim", "mxf": "mpeg2video",
    "nut": "ffv1",    "yuv4mpegpipe": "rawvideo", "ivf": "libvpx", "h264": "libx264", "hevc": "libx265", "m4v": "mpeg4",
}  # fmt: skip
PICTURES = {"gif": "gif", "image2pipe": "png", "webp": "libwebp", "mjpeg": "mjpeg"}
SOUNDS = {"ipod": ("m4a", "aac"), "mp3": ("mp3", "libmp3lame"), "ogg": ("ogg", "libopus"), "wav": ("wav", "pcm_s16le"),
          "flac": ("flac", "flac"), "asf": ("wma", "wmav2"), "matroska": ("mka", "flac")}  # fmt: skip
_OPTIONS = {"libx265": {"x265-params": "log-level=none:pools=none"}, "libx264": {"preset": "ultrafast"}}


def film(path: Path, muxer: str, encoder: str, num_frames: int = 3) -> Path:
    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(25), options=_OPTIONS.get(encoder, {}))
        stream.width, stream.height, stream.thread_count = 176, 144, 1
        kinds = {"gif": "rgb8", "apng": "rgb24", "png": "rgb24", "mjpeg": "yuvj420p", "libwebp": "bgra"}
        stream.pix_fmt = kinds.get(encoder, "bgra" if "webp" in encoder else "yuv420p")
        for index in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(index, 176, 144), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def sound(path: Path, muxer: str, encoder: str) -> Path:
    with av.open(str(path), "w", format=muxer) as container:
        stream: Any = container.add_stream(encoder, rate=48000, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), format="fltp", layout="stereo")
        frame.rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(stream.format, "stereo", 48000, stream.codec_context.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films, pictures and sounds, without a suffix."""
    folder = tmp_path_factory.mktemp("drawn")
    for muxer, encoder in VIDEOS.items():
        film(folder / f"film {muxer}", muxer, encoder)
    for muxer, encoder in PICTURES.items():
        film(folder / f"picture {muxer}", muxer, encoder, num_frames=1)
    for muxer, (suffix, encoder) in SOUNDS.items():
        sound(folder / f"sound.{suffix}", muxer, encoder)
    return folder


@pytest.mark.parametrize("muxer", VIDEOS)
def test_a_film_is_known_by_its_content(drawn: Path, tmp_path: Path, muxer: str) -> None:
    """Without a suffix, under one that nobody knows, under one of pictures, and of any other kind."""
    for name in ("film", "film.2024-06-01", "film.mp4.bak", "film ", "film.dat", "film.PNG", "film.gif"):
        if muxer in ("gif", "apng", "webp") or not name.lower().endswith((".png", ".gif")):
            shutil.copy(drawn / f"film {muxer}", tmp_path / name)
            assert is_video_file(tmp_path / name), name


@pytest.mark.parametrize("muxer", PICTURES)
def test_a_picture_is_none(drawn: Path, tmp_path: Path, muxer: str) -> None:
    for name in ("picture", "picture.gif", "picture.png", "picture.WEBP", "picture.jpg", "picture.bmp"):
        shutil.copy(drawn / f"picture {muxer}", tmp_path / name)
        assert not is_video_file(tmp_path / name), name


@pytest.mark.parametrize("suffix", [suffix for suffix, _ in SOUNDS.values()])
def test_sound_is_none(drawn: Path, suffix: str) -> None:
    assert not is_video_file(drawn / f"sound.{suffix}")


@pytest.mark.parametrize(
    "content",
    [b"", b"The free encyclopedia", b"\x00\x01\x00\x00\x00\x10", b"\x00\x00\x01\x00\x01\x00", b"G" * 600, b"%PDF-1.7",
     b"PK\x03\x04", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"GIF89a", b"GIF89a" + b"\x00" * 7 + b"\x2c" * 9 + b"\x01" * 4000,
     b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\x00" * 4096, b"\x00\x00\x00\x18ftypheic"],
)  # fmt: skip
def test_what_begins_otherwise_is_none(tmp_path: Path, content: bytes) -> None:
    """Text, fonts, icons, archives, torn pictures."""
    (tmp_path / "file").write_bytes(content)
    assert not is_video_file(tmp_path / "file")


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_what_is_named_as_a_video_is_one(tmp_path: Path, suffix: str) -> None:
    """Whatever is in it: a broken one is a row that says so."""
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).write_bytes(b"\xff\xff broken")
        assert is_video_file(tmp_path / name)
        assert is_named_video(f"bucket/folder.txt/{name}")


def test_typescript_is_no_transport_stream(tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "index.ts").write_text("export const page = 1;\n")
    shutil.copy(drawn / "film mpegts", tmp_path / "film.ts")
    assert (is_video_file(tmp_path / "index.ts"), is_video_file(tmp_path / "film.ts")) == (False, True)


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    shutil.copy(drawn / "film vob", tmp_path / "VTS_01_1.VOB")
    shutil.copy(drawn / "film gif", tmp_path / "anim.gif")
    shutil.copy(drawn / "film asf", tmp_path / "cam.asf")
    shutil.copy(drawn / "film 3g2", tmp_path / "phone.3g2")
    shutil.copy(drawn / "picture gif", tmp_path / "still.gif")
    shutil.copy(drawn / "film mp4", tmp_path / "GX010042")
    for name in ("notes.txt", "more/NOTES.TXT", "more/cover.jpg", ".hidden", "readme", "more/a.[b]"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere")
    return tmp_path


FOUND = ["GX010042", "VTS_01_1.VOB", "anim.gif", "cam.asf", "lost.mp4", "phone.3g2"]
SAID = "passed over 7 files that are no video: 2 .txt, 1 .[b], 1 .gif, 1 .jpg, 1 special, 1 without extension"


def test_what_is_found_and_what_is_passed_over(folder: Path) -> None:
    passed_over = PassedOver()
    assert list(videos_below(folder, passed_over)) == [str(folder / name) for name in FOUND]
    assert str(passed_over) == SAID


def test_inputs_say_what_they_passed_over(folder: Path, tmp_path: Path) -> None:
    inputs = Inputs([str(folder)], Remote(None, Spool(tmp_path / ".spool", 1 << 20, 1 << 20)))
    for _ in range(2):
        assert [found.item.uri for found in inputs] == [str(folder / name) for name in FOUND]
        assert str(inputs.passed_over) == SAID
    inputs = Inputs([str(folder / "more")], Remote(None, Spool(tmp_path / ".spool", 1 << 20, 1 << 20)))
    with pytest.raises(
        BadInput, match=r"more names no video; passed over 3 files that are no video: 1 \.\[b\], 1 \.jpg"
    ):
        list(inputs)


def test_a_pattern_passes_over_what_a_folder_does(folder: Path, tmp_path: Path) -> None:
    """Unless it names a kind: then that is wanted."""
    remote = Remote(None, Spool(tmp_path / ".spool", 1 << 20, 1 << 20))
    inputs = Inputs([str(folder / "*")], remote)
    assert [found.item.uri for found in inputs] == [str(folder / name) for name in FOUND]
    assert (
        str(inputs.passed_over) == "passed over 4 files that are no video: 1 .gif, 1 .mp4, 1 .txt, 1 without extension"
    )
    named = Inputs([str(folder / "**/*.txt")], remote)
    assert [found.item.uri for found in named] == [str(folder / "notes.txt")]
    assert len(named.passed_over) == 0


def test_many_kinds_are_said_in_short() -> None:
    passed_over = PassedOver()
    for number in range(12):
        for _ in range(20 - number):
            passed_over.add(f"folder.d/a.{number:x}\x1b")
    said = str(passed_over)
    assert said.startswith("passed over 174 files that are no video: 20 .0\\x1b, 19 .1\\x1b,")
    assert said.endswith(" 13 .7\\x1b, 42 of other kinds")
