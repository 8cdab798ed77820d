"""Colours, ranges, fields and turns of drawn pictures against FFmpeg's own conversion; `python -m tests.pictures` has
all combinations, these are some of each kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.picture_kinds import KINDS, MATRICES, RANGES, TURNS, Clip, Kind, clip
from tests.pictures import GOAL_LEVELS, Judged, judge

# A row of chroma that was left unwritten, or half a field, is far more; the last row's chroma may be held.
ROW_LEVELS = 3.0
# The formulas against FFmpeg's accurate conversion (measured: 0.73 at most): both are right, and so is this judge.
FORMULA_LEVELS = 0.8


def judged(wanted: Clip, folder: Path) -> Judged:
    found = judge(wanted, folder)
    assert found, "the encoder does not take it"
    assert not found.refused
    return found


def assert_right(wanted: Clip, folder: Path) -> Judged:
    found = judged(wanted, folder)
    assert found.to_ffmpeg <= GOAL_LEVELS
    assert found.row <= ROW_LEVELS
    return found


def formats() -> list[Clip]:
    """Every pixel format of every encoder once: full range and BT.709 where its container can say so."""
    chosen = []
    for kind in KINDS:
        main = kind.suffixes.split()[0]
        range_, matrix = ("full", "bt709") if _holds_tags(kind, main) else ("untagged", "untagged")
        chosen += [Clip(kind, name, main, kind.sizes[1], range_, matrix) for name in kind.pixel_formats.split()]
    return chosen


def _holds_tags(kind: Kind, suffix: str) -> bool:
    """Both tags: codecs that always are limited, or full, or BT.601 are tagged by `tests.pictures` alone."""
    encoders = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "rawvideo")
    return kind.tags and suffix in ("mp4", "mkv", "webm") and kind.encoder in encoders


@pytest.mark.parametrize("wanted", formats(), ids=str)
def test_pixel_formats(tmp_path: Path, wanted: Clip) -> None:
    assert_right(wanted, tmp_path)


@pytest.mark.parametrize(("tags", "size"), list(product(product(RANGES, MATRICES), (0, 1))), ids=str)
@pytest.mark.parametrize(
    "kind",
    [("libx264", "yuv420p", "mp4"), ("libx265", "yuv420p10le", "mkv"), ("libvpx-vp9", "yuv444p", "webm")],
    ids=str,
)
def test_ranges_and_matrices(tmp_path: Path, kind: tuple[str, str, str], tags: tuple[str, str], size: int) -> None:
    plain = clip(*kind)
    wanted = replace(plain, range=tags[0], matrix=tags[1], size=plain.kind.sizes[size])
    found = assert_right(wanted, tmp_path)
    assert found.survived or (kind[0], tags[1]) == ("libvpx-vp9", "fcc"), "VP9 has no number for it"
    assert found.accurate <= FORMULA_LEVELS


@pytest.mark.parametrize("range_", RANGES)
def test_range_of_grey(tmp_path: Path, range_: str) -> None:
    """FFmpeg takes grey for full, whatever its tag says; H.264's comes out as YCbCr."""
    found = judged(clip("libx265", "gray", "mp4", range=range_), tmp_path)
    assert found.to_ffmpeg <= GOAL_LEVELS


@pytest.mark.parametrize("suffix", ["mov", "avi"])
@pytest.mark.parametrize("matrix", ["untagged", "bt709", "bt2020nc"])
@pytest.mark.parametrize(("encoder", "pixel_format"), [("png", "rgb24"), ("rawvideo", "bgr24")])
def test_rgb_has_no_matrix(tmp_path: Path, encoder: str, pixel_format: str, matrix: str, suffix: str) -> None:
    """Whatever its container says."""
    assert_right(clip(encoder, pixel_format, suffix, range="limited", matrix=matrix), tmp_path)


@pytest.mark.parametrize("matrix", [name for name in MATRICES if name != "bt2020nc"])
def test_primaries_of_their_matrix_change_nothing(tmp_path: Path, matrix: str) -> None:
    assert_right(clip("libx264", "yuv420p", "mp4", matrix=matrix, whole=True), tmp_path)


def test_hdr_is_ffmpegs(tmp_path: Path) -> None:
    """Mapped into BT.709 as libswscale does, or not at all, as its `scale` filter does."""
    found = judged(clip("libx265", "yuv420p10le", "mp4", matrix="hlg", whole=True), tmp_path)
    assert min(found.to_ffmpeg, found.mapped) <= GOAL_LEVELS


@pytest.mark.parametrize("tags", [("untagged", "untagged"), ("full", "bt709")], ids=str)
@pytest.mark.parametrize(
    ("encoder", "pixel_format", "suffix"),
    [
        ("libx264", "yuv420p", "mp4"), ("libx264", "yuv420p", "ts"), ("libx264", "yuv422p10le", "mkv"),
        ("libx265", "yuv420p", "mp4"), ("mpeg2video", "yuv420p", "mpg"), ("mpeg2video", "yuv422p", "mkv"),
        ("mpeg4", "yuv420p", "avi"), ("prores_ks", "yuv422p10le", "mov"), ("ffv1", "yuv420p", "mkv"),
        ("ffv1", "gbrp10le", "mkv"),
    ],
)  # fmt: skip
def test_interlaced(tmp_path: Path, encoder: str, pixel_format: str, suffix: str, tags: tuple[str, str]) -> None:
    """Both fields as they are stored, woven."""
    found = judged(clip(encoder, pixel_format, suffix, range=tags[0], matrix=tags[1], fields=True), tmp_path)
    assert found.to_ffmpeg <= GOAL_LEVELS


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    "upright",
    [
        clip("libx264", "yuv420p", "mp4"),
        clip("libx264", "yuv420p", "mkv"),
        clip("libx264", "yuv420p", "mp4", fields=True),
        clip("libx265", "yuv420p10le", "mp4", range="full", matrix="bt709"),
        clip("libsvtav1", "yuv420p", "mp4"),
        clip("mjpeg", "yuvj422p", "mov"),
        clip("png", "rgb24", "mov"),
    ],
    ids=str,
)
def test_turns_and_flips(tmp_path: Path, upright: Clip, turn: str) -> None:
    assert_right(replace(upright, turn=turn, size=upright.kind.sizes[not upright.fields]), tmp_path)
