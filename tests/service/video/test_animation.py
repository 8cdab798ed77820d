"""The delay of the last picture: of drawn GIFs and animated PNGs whose delays are written over, and of other files."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import av
import pytest

from service.video import animation
from service.video.animation import last_delay_seconds
from service.video.decode import ClipReader
from service.video.spec import ClipSpec
from tests.drawn import draw


def gif(path: Path, hundredths: Sequence[int]) -> Path:
    """Drawn pictures with these delays."""
    draw(path, len(hundredths), width=64, height=48, encoder="gif", fps=10)
    data = bytearray(path.read_bytes())
    for found, delay in zip(re.finditer(rb"\x21\xf9\x04", bytes(data)), hundredths, strict=True):
        struct.pack_into("<H", data, found.start() + 4, delay)
    path.write_bytes(data)
    return path


def apng(path: Path, milliseconds: Sequence[int]) -> Path:
    """The same of PNG, whose chunks have a checksum."""
    draw(path, len(milliseconds), width=64, height=48, encoder="apng", fps=10)
    data = bytearray(path.read_bytes())
    for found, delay in zip(re.finditer(rb"fcTL", bytes(data)), milliseconds, strict=True):
        struct.pack_into(">HH", data, found.start() + 24, delay, 1000)
        struct.pack_into(">I", data, found.start() + 30, zlib.crc32(data[found.start() : found.start() + 30]))
    path.write_bytes(data)
    return path


def delay(path: Path) -> float | None:
    with path.open("rb") as file:
        return last_delay_seconds(file)


DELAYS = [[10, 10, 3000], [4] * 100 + [500], [50, 7, 3, 100, 2, 9], [300], [100, 3, 3], [1, 1, 1, 300]]


@pytest.mark.parametrize(
    ("suffix", "hundredths"),
    [*(("gif", delays) for delays in DELAYS), *(("apng", delays) for delays in DELAYS if len(delays) > 1)],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} to {value[-1]}",
)
def test_the_last_picture_is_shown_to_its_end(tmp_path: Path, suffix: str, hundredths: list[int]) -> None:
    """As PyAV's packets have it, whatever the mean rate is."""
    path = tmp_path / f"clip.{suffix}"
    path = gif(path, hundredths) if suffix == "gif" else apng(path, [10 * each for each in hundredths])
    with av.open(path) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        assert last.pts is not None
        assert last.time_base is not None
        shown_until = float((last.pts + (last.duration or 0)) * last.time_base)
    assert shown_until == pytest.approx(sum(hundredths) / 100)
    with ClipReader(path, ClipSpec(sample_fps=10, frame_height=64, frame_width=64)) as reader:
        ticks = sum(int(chunk.ticks.sum()) for chunk in reader.chunks(16))
        report = reader.report()
    assert report.duration_seconds == pytest.approx(shown_until, abs=1e-6)
    assert report.frames_walked == len(hundredths)
    assert ticks == report.ticks == -(-sum(hundredths) // 10)
    assert report.warnings == ()


def test_a_delay_of_nothing_is_a_tenth_of_a_second(tmp_path: Path) -> None:
    assert delay(gif(tmp_path / "clip.gif", [5, 5, 0])) == 0.1


def test_a_png_of_no_denominator_counts_hundredths(tmp_path: Path) -> None:
    path = apng(tmp_path / "clip.apng", [100, 20])
    data = bytearray(path.read_bytes())
    struct.pack_into(">H", data, data.rindex(b"fcTL") + 26, 0)
    assert last_delay_seconds(io.BytesIO(data)) == 0.2


def test_it_is_found_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the border lies."""
    data = gif(tmp_path / "clip.gif", [10, 20, 70]).read_bytes()
    for piece in (7, 8, 9, 10, 11, 64, 100, len(data) - 1):
        monkeypatch.setattr(animation, "_PIECE_BYTES", piece)
        assert last_delay_seconds(io.BytesIO(data)) == 0.7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"GIF89a\x21\xf9\x04\x00",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\nfcTL",
        b"RIFF\x21\xf9\x04" + bytes(8),
    ],
)
def test_other_files_tell_nothing(data: bytes) -> None:
    assert last_delay_seconds(io.BytesIO(data)) is None
