"""A second file behind the first: found in every container whose length is known, and nowhere else."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video.container import identify
from service.video.joined import second_file
from tests.drawn import Encoder, draw

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS: dict[str, tuple[str, Encoder, dict[str, str]]] = {
    "mp4": ("mp4", "libx264", {}),
    "mp4 with its index first": ("mp4", "libx264", {"movflags": "+faststart"}),
    "fragmented mp4": ("mp4", "libx264", FRAGMENTS),
    "mov": ("mov", "libx264", {}),
    "avi": ("avi", "mpeg4", {}),
    "mkv": ("mkv", "libx264", {}),
    "webm": ("webm", "libvpx", {}),
    "flv": ("flv", "flv", {}),
    "flv of h264": ("flv", "libx264", {}),
    "apng": ("apng", "apng", {}),
}


def clip(folder: Path, suffix: str, encoder: Encoder, muxer: dict[str, str], num_frames: int = 10) -> bytes:
    how: dict[str, Any] = {"width": 64, "height": 48, "encoder": encoder, "muxer_options": muxer}
    return draw(folder / f"{num_frames}.{suffix}", num_frames, options={"g": "5"}, **how).path.read_bytes()


def second(data: bytes) -> int | None:
    return second_file(io.BytesIO(data))


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_of_a_kind(tmp_path: Path, kind: str) -> None:
    one, other = (clip(tmp_path, *KINDS[kind], num_frames=count) for count in (10, 12))
    assert (second(one), second(other)) == (None, None)
    assert second(one + other) == len(one)
    assert second(one + other + one) == len(one)


@pytest.mark.parametrize("kind", ["mp4", "avi", "mkv"])
def test_its_sender_is_told(tmp_path: Path, kind: str) -> None:
    one = clip(tmp_path, *KINDS[kind])
    path = tmp_path / f"joined.{kind}"
    path.write_bytes(one + one)
    found = identify(path)
    assert found.second_file_byte == len(one)
    assert (
        f"another file begins at byte {len(one)} of this one, and it may not have been looked at; send each by itself"
    ) in found.warnings()


@pytest.mark.parametrize("order", [b"mdat moov", b"moov mdat", b"wide mdat moov", b"free moov wide mdat"])
def test_two_quicktime_files_without_a_brand(order: bytes) -> None:
    one = b"".join(struct.pack(">I4s", 40, kind) + bytes(32) for kind in order.split())
    assert second(one) is None
    assert second(one + one) == len(one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", [b"\0", bytes(4096), b"junk that is no file", b"ftyp", b"RIFF", b"\x1a\x45\xdf\xa3"])
def test_what_lies_behind_a_file_is_not_always_another(tmp_path: Path, kind: str, rest: bytes) -> None:
    """Padding, tags of other programs, an upload that went on too long. Of Matroska four bytes do: nothing else
    begins with them."""
    one = clip(tmp_path, *KINDS[kind])
    expected = len(one) if rest == b"\x1a\x45\xdf\xa3" and kind in ("mkv", "webm") else None
    assert second(one + rest) == expected


def test_segments_of_a_stream_are_one_film(tmp_path: Path) -> None:
    """DASH and CMAF: each segment begins with `styp`."""
    one = clip(tmp_path, *KINDS["fragmented mp4"])
    segment = struct.pack(">I4s4sI", 16, b"styp", b"msdh", 0)
    first = one.index(b"moof") - 4
    assert second(one[:first] + segment + one[first:] + segment + one[first:]) is None


def test_a_brand_within_a_box_begins_no_file(tmp_path: Path) -> None:
    one = clip(tmp_path, *KINDS["mp4"])
    assert second(one + struct.pack(">I4s", 8 + len(one), b"free") + one) is None


def test_an_opendml_avi_is_one_film(tmp_path: Path) -> None:
    """Beyond a gigabyte it goes on in `RIFF AVIX` (OpenDML AVI 1.02, 4.0)."""
    one = clip(tmp_path, *KINDS["avi"])
    movi = struct.pack("<4sI4s", b"LIST", 4, b"movi")
    more = struct.pack("<4sI4s", b"RIFF", 4 + len(movi), b"AVIX") + movi
    assert second(one + more) is None
    assert second(one + more + more) is None
    assert second(one + more + one) == len(one + more)


def test_transport_streams_are_made_to_be_joined(tmp_path: Path) -> None:
    one = clip(tmp_path, "ts", "libx264", {})
    assert second(one + one) is None


def test_a_live_matroska_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    one = clip(tmp_path, "mkv", "libx264", {"live": "1"})
    assert second(one + one) is None


@pytest.mark.parametrize("kind", ["mp4", "avi", "mkv"])
def test_a_file_cut_short_has_none_behind_it(tmp_path: Path, kind: str) -> None:
    one = clip(tmp_path, *KINDS[kind])
    assert {second(one[:kept]) for kept in range(0, len(one), 97)} == {None}


@given(st.sampled_from([b"\0\0\0\x18ftypisom", b"RIFF\x10\0\0\0AVI ", b"\x1a\x45\xdf\xa3"]), st.binary(max_size=200))
def test_whatever_follows_nothing_is_raised_and_it_ends(head: bytes, rest: bytes) -> None:
    found = second(head + rest)
    assert found is None or 0 < found < len(head + rest)
