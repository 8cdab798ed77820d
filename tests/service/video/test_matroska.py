"""Matroska's projection against the display matrix that FFmpeg makes of it, for each of the tracks."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest

from service.video.container import identify
from service.video.matroska import is_live, orientations
from service.video.orientation import UPRIGHT, Orientation, of_matrix
from service.video.sources import open_source
from tests.drawn import draw, write_display_matrix
from tests.service.video.test_orientation import MATRICES, nine

YAW, PITCH, ROLL = b"\x76\x73", b"\x76\x74", b"\x76\x75"


def copied(path: Path, *films: Path) -> Path:
    """Their video streams as one Matroska file."""
    with av.open(path, "w") as writer:
        readers = [av.open(film) for film in films]
        streams = [writer.add_stream_from_template(reader.streams.video[0]) for reader in readers]
        for reader, stream in zip(readers, streams, strict=True):
            for packet in reader.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    writer.mux(packet)
            reader.close()
    return path


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    drawn = draw(path, 3, width=64, height=48).path
    write_display_matrix(drawn, *matrix)
    return drawn


def read(data: bytes) -> list[Orientation]:
    return orientations(io.BytesIO(data))


def written(data: bytes, angle: bytes, instead: bytes, degrees: float) -> bytes:
    """With another angle in the place of this one, which FFmpeg writes as 8 bytes."""
    head = angle + b"\x88"
    assert data.count(head) == 1
    at = data.index(head)
    return data[:at] + instead + b"\x88" + struct.pack(">d", degrees) + data[at + len(head) + 8 :]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_of_each_track_as_it_was_written(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    other = MATRICES[(MATRICES.index(matrix) + 1) % len(MATRICES)]
    films = [turned(tmp_path / f"{i}.mp4", each) for i, each in enumerate((matrix, other))]
    path = copied(tmp_path / "both.mkv", *films)
    expected = [of_matrix(nine(*each)) for each in (matrix, other)]
    assert read(path.read_bytes()) == expected
    for stream, orientation in enumerate(expected):
        source = open_source(path, identify(path, stream))
        assert source.header.orientation == orientation
        source.release()


@pytest.mark.parametrize(
    ("angle", "degrees", "roll", "expected"),
    [
        (YAW, 0.0, 0.0, UPRIGHT),
        (YAW, -180.0, 180.0, Orientation(180, mirrored=True)),
        (YAW, 0.0, -630.0, Orientation(270)),
        (YAW, 30.0, 0.0, UPRIGHT),
        (PITCH, 180.0, 0.0, UPRIGHT),
        (YAW, 0.0, 45.0, UPRIGHT),
        (YAW, 0.0, float("nan"), UPRIGHT),
        (YAW, 0.0, float("inf"), UPRIGHT),
    ],
)
def test_what_leaves_the_plane_is_ignored_as_by_ffmpeg(
    tmp_path: Path, angle: bytes, degrees: float, roll: float, expected: Orientation
) -> None:
    data = copied(tmp_path / "clip.mkv", turned(tmp_path / "clip.mp4", (1, 0, 0, -1))).read_bytes()
    assert read(data) == [Orientation(180, mirrored=True)]
    data = written(data, YAW, angle, degrees)
    assert read(written(data, ROLL, ROLL, roll)) == [expected]


@pytest.mark.parametrize("live", [False, True])
def test_a_live_recording_promises_no_length(tmp_path: Path, live: bool) -> None:
    """As browsers write it: MediaInfo takes the segment of unknown length for one that is cut short."""
    path = draw(tmp_path / "clip.webm", 26, encoder="libvpx", muxer_options={"live": str(int(live))}).path
    with path.open("rb") as file:
        assert is_live(file) is live
    container = identify(path)
    assert (container.truncated, container.warnings()) == (False, [])
    path.write_bytes(path.read_bytes()[:-40])
    assert identify(path).truncated is not live


@pytest.mark.parametrize("data", [b"", b"RIFF", bytes.fromhex("1a45dfa3"), bytes.fromhex("1a45dfa380")])
def test_what_is_no_matroska_is_not_live(data: bytes) -> None:
    assert not is_live(io.BytesIO(data))


def test_of_broken_files_there_are_none_or_some(tmp_path: Path) -> None:
    whole = copied(tmp_path / "clip.mkv", turned(tmp_path / "clip.mp4", (0, 1, -1, 0))).read_bytes()
    for length in range(0, min(len(whole), 1024)):
        assert read(whole[:length]) in ([], [UPRIGHT], [Orientation(90)])
    assert read(b"RIFF" + whole) == []
