"""What PyAV is there for: any of a file's video streams, interlaced frames; and what broken files do to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from service.video import DEMUXER_OPTIONS
from service.video.errors import NotAVideo
from service.video.orientation import Orientation
from service.video.pyav_source import PyAvSource
from tests.drawn import Encoder, draw, paint, read_index
from tests.service.video.test_source import walk

INTERLACED: dict[str, tuple[str, dict[str, Any]]] = {
    "h264-mp4": ("mp4", {"encoder": "libx264", "options": {"x264-params": "tff=1"}}),
    "h264-b-ts": ("ts", {"encoder": "libx264", "b_frames": 2, "options": {"x264-params": "bff=1"}}),
    "mpeg2-b-mpg": ("mpg", {"encoder": "mpeg2video", "b_frames": 2, "options": {"flags": "+ildct+ilme"}}),
    "mpeg4-avi": ("avi", {"encoder": "mpeg4", "options": {"flags": "+ildct+ilme"}}),
}


def two_streams(
    path: Path,
    sizes: tuple[tuple[int, int], ...] = ((64, 48), (160, 120)),
    frames: int = 10,
    default: int | None = None,
) -> Path:
    """Frame i of stream s is painted with i + 100 s; the sizes differ too. default: the one that is marked so."""
    with av.open(path, "w") as container:
        streams = []
        for width, height in sizes:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        if default is not None:
            for number, stream in enumerate(streams):
                stream.disposition = Disposition.default if number == default else Disposition(0)
        for index in range(frames):
            for number, stream in enumerate(streams):
                picture = paint(index + 100 * number, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def indices(source: PyAvSource) -> list[int]:
    return [read_index(picture[..., ::-1]) for picture in walk(source)[1]]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "avi"])
def test_any_of_the_video_streams(tmp_path: Path, suffix: str) -> None:
    path = two_streams(tmp_path / f"two.{suffix}")
    for stream, size in enumerate([(64, 48), (160, 120)]):
        source = PyAvSource(path, stream)
        assert (source.header.width, source.header.height) == size
        assert indices(source) == [100 * stream + index for index in range(10)]
    with pytest.raises(NotAVideo, match="video stream 2 can't be opened"):
        PyAvSource(path, 2)


@pytest.mark.parametrize("kind", INTERLACED)
def test_both_fields_as_they_are_stored(tmp_path: Path, kind: str) -> None:
    suffix, how = INTERLACED[kind]
    assert indices(PyAvSource(draw(tmp_path / f"clip.{suffix}", 9, **how).path)) == list(range(9))


def test_the_orientation_is_the_callers_word(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 2, rotation_degrees=90).path
    assert PyAvSource(path).header.orientation == Orientation()
    turned = Orientation(90, mirrored=True)
    assert PyAvSource(path, orientation=turned).header.orientation == turned


def test_options_are_left_for_the_next_video(tmp_path: Path) -> None:
    """PyAV takes from the dictionary what FFmpeg has used."""
    before = dict(DEMUXER_OPTIONS)
    PyAvSource(draw(tmp_path / "clip.mp4", 2).path)
    assert before == DEMUXER_OPTIONS


def test_a_codec_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.avi", 5, encoder="mpeg4").path
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"REEL"))
    with pytest.raises(NotAVideo, match="no decoder"):
        PyAvSource(path)


@pytest.mark.parametrize(("suffix", "encoder"), [("mp4", "libx264"), ("mkv", "libx265"), ("ts", "mpeg2video")])
def test_broken_files_end_without_an_exception(tmp_path: Path, suffix: str, encoder: Encoder) -> None:
    whole = draw(tmp_path / f"clip.{suffix}", 12, encoder=encoder, b_frames=2, width=64, height=48).path.read_bytes()
    path, rng = tmp_path / f"broken.{suffix}", random.Random(0)
    opened = 0
    for number in range(60):
        broken = bytearray(whole if number % 2 else whole[: rng.randrange(1, len(whole))])
        for _ in range(rng.randrange(20)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            source = PyAvSource(path)
        except NotAVideo:
            continue
        opened += 1
        assert len(walk(source)[0]) <= 12
        source.release()
    assert opened > 10


class _Unreadable:
    """Packets of which some can't be read: a fake, as files fail to be read by their disk alone."""

    def __init__(self, container: av.container.InputContainer, failing: int) -> None:
        self._container, self._failing = container, failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
        if self._failing:
            self._failing -= 1
            raise av.error.InvalidDataError(0, "no")
        yield from self._container.demux(stream)


@pytest.mark.parametrize("failing", [1, 3, 10_000])
def test_what_cannot_be_read_is_a_gap_and_the_rest_is_given(tmp_path: Path, failing: int) -> None:
    source = PyAvSource(draw(tmp_path / "clip.mp4", 9, b_frames=2).path)
    source._container = _Unreadable(source._container, failing)
    frames = indices(source)
    assert frames == ([] if failing > 1000 else list(range(9)))
    assert source.first_damage is not None or failing > 1000
