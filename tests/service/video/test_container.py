"""What the headers say, on drawn files of every container, and on files that are none."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.video.container import Container, identify
from tests.drawn import Encoder, draw


@pytest.mark.parametrize(
    ("name", "encoder", "format", "codec"),
    [
        ("clip.mp4", "libx264", "MPEG-4", "AVC"),
        ("clip.mp4", "libx265", "MPEG-4", "HEVC"),
        ("clip.mp4", "libsvtav1", "MPEG-4", "AV1"),
        ("clip.mov", "libx264", "MPEG-4", "AVC"),
        ("clip.mkv", "libx264", "Matroska", "AVC"),
        ("clip.webm", "libvpx-vp9", "WebM", "VP9"),
        ("clip.avi", "mpeg4", "AVI", "MPEG-4 Visual"),
        ("clip.ts", "libx264", "MPEG-TS", "AVC"),
        ("clip.mpg", "mpeg2video", "MPEG-PS", "MPEG Video"),
        ("clip.flv", "flv", "Flash Video", "Sorenson Spark"),
        ("clip.gif", "gif", "GIF", "GIF"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, encoder: Encoder, format: str, codec: str) -> None:  # noqa: A002
    found = identify(draw(tmp_path / name, 10, encoder=encoder).path)
    assert (found.format, found.codec) == (format, codec)
    assert found.kinds[0] == ("Image" if format == "GIF" else "Video")
    assert (found.width, found.height) == (320, 240) or format == "GIF"
    assert not found.truncated


def test_an_open_file_says_the_same(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4").path
    with path.open("rb") as file:
        assert identify(file) == identify(path)


def test_the_place_of_the_index(tmp_path: Path) -> None:
    assert identify(draw(tmp_path / "last.mp4").path).streamable is False
    fast = draw(tmp_path / "first.mp4", muxer_options={"movflags": "+faststart"}).path
    assert identify(fast).streamable is True


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_is_truncated(tmp_path: Path, name: str, share: float) -> None:
    path = draw(tmp_path / name).path
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert identify(path).truncated


def test_interlaced(tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mpg", 10, encoder="mpeg2video", options={"flags": "+ilme+ildct"})
    found = identify(clip.path)
    assert (found.scan, found.interlaced) == ("Interlaced", True)
    assert any("interlaced" in line for line in found.warnings())


@pytest.mark.parametrize("data", [b"", b"This is not a video.", bytes(64), np.random.default_rng(0).bytes(5000)])
def test_no_container(data: bytes) -> None:
    assert identify(io.BytesIO(data)) == Container()


def test_other_files_have_a_name_and_no_video(tmp_path: Path) -> None:
    archive, picture = tmp_path / "a.zip", tmp_path / "a.png"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("clip.mp4", b"x")
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    assert (identify(archive).format, identify(archive).kinds) == ("ZIP", ())
    assert (identify(picture).format, identify(picture).kinds) == ("PNG", ("Image",))
