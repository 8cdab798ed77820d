"""Files that people have and that were answered wrongly once; `tests/assets/cases` holds them, drawn by us.

An orange court and a blue pool stand for two scenes. Each right value was found with ffprobe, FFmpeg and PyAV.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.video.decode import ClipReader
from service.video.errors import NoVideoStream
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

CASES = Path(__file__).parents[2] / "assets" / "cases"
WIDTH, HEIGHT = 320, 240
# Of 255, between two encodings of one scene (measured: 0.72 at most); a wrong range or matrix is off by 8 and more.
SAME_LEVELS = 2.0


@dataclass(frozen=True)
class Ticks:
    """The picture of each tick, (N, 240, 320, 3) uint8 RGB, and the report."""

    pictures: NDArray[np.uint8]
    report: DecodeReport

    @property
    def scenes(self) -> str:
        """C for the court, P for the pool, tick by tick."""
        red, _, blue = self.pictures.mean(axis=(1, 2)).T
        return "".join("C" if warm else "P" for warm in red > blue)


def ticks(name: str, sample_fps: float = 4.0, start: float = 0.0, end: float = math.inf) -> Ticks:
    spec = ClipSpec(sample_fps=sample_fps, frame_height=HEIGHT, frame_width=WIDTH, resize="stretch")
    pictures: list[NDArray[np.uint8]] = []
    with ClipReader(CASES / name, spec, start_seconds=start, end_seconds=end) as reader:
        for chunk in reader.chunks(16):
            pictures += list(np.repeat(chunk.frames, chunk.ticks, axis=0))
        return Ticks(np.stack(pictures), reader.report())


def off(one: Ticks, other: Ticks) -> float:
    """Mean difference of the worst tick."""
    assert len(one.pictures) == len(other.pictures)
    return float(np.abs(one.pictures.astype(np.int16) - other.pictures).mean(axis=(1, 2, 3)).max())


def cut_short(report: DecodeReport) -> list[str]:
    return [each for each in report.warnings if "cut short" in each]


def test_a_screen_recording_is_the_film_that_was_seen() -> None:
    """Four pictures, held for 6, 6, 0.2 and 6 s, and the same at 25 frames a second."""
    screen, film = ticks("screen.mp4"), ticks("truth.mp4")
    assert screen.report.frames_walked == 4
    assert screen.scenes == film.scenes == 24 * "C" + 24 * "P" + 25 * "C"
    assert off(screen, film) <= SAME_LEVELS


@pytest.mark.parametrize(("start", "end", "scenes"), [(2, 5, 12 * "C"), (7, 8, 4 * "P"), (5, 7, "CCCCPPPP")])
def test_a_part_of_a_held_picture(start: float, end: float, scenes: str) -> None:
    assert ticks("screen.mp4", start=start, end=end).scenes == scenes


def test_the_last_frame_is_shown_until_its_end() -> None:
    found = ticks("lastlong.mp4")
    assert found.report.duration_seconds == pytest.approx(32.0, abs=0.1)
    assert found.scenes == 8 * "C" + 120 * "P"
    assert not cut_short(found.report)


def test_a_clock_that_jumps_is_bridged() -> None:
    """Two recordings of 4 s; the second's clock begins at 1799.92 s."""
    found = ticks("jump.ts")
    assert (found.report.frames_walked, len(found.pictures)) == (200, 32)
    assert found.report.duration_seconds == pytest.approx(8.0, abs=0.05)
    [warning] = [each for each in found.report.warnings if "jump" in each]
    before, after = (float(number) for number in re.findall(r"(\d+\.\d+) s", warning)[:2])
    assert before == pytest.approx(3.96, abs=1.6)  # from the stream's start, or from its clock's, 1.48 s before
    assert after - before == pytest.approx(1799.92 - 3.96, abs=0.05)


def test_two_edits_of_a_stream_with_b_frames() -> None:
    found = ticks("elst2.mp4", sample_fps=25.0)
    assert (found.report.frames_walked, found.report.frames_used, len(found.pictures)) == (100, 100, 100)
    assert found.report.first_seconds == 0.0
    assert found.report.last_seconds == pytest.approx(3.96, abs=1e-3)
    assert found.report.duration_seconds == pytest.approx(4.0, abs=1e-3)
    assert found.report.time_base == "pts"
    assert not found.report.warnings


def test_video_that_begins_after_the_sound() -> None:
    found = ticks("late.mp4")
    assert found.report.duration_seconds == pytest.approx(8.0, abs=0.04)
    assert found.report.stream_start_seconds == pytest.approx(3.0, abs=1e-3)
    assert (found.report.origin_seconds, len(found.pictures)) == (0.0, 32)
    assert not cut_short(found.report)


def test_the_film_not_its_thumbnails() -> None:
    """The first stream has 160 x 120 pixels and is not the default one."""
    report = ticks("two.mp4").report
    assert (report.width, report.height, report.codec) == (WIDTH, HEIGHT, "h264")


@pytest.mark.parametrize("name", ["song.m4a", "song.mp3"])
def test_cover_art_is_no_video(name: str) -> None:
    spec = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
    with DecodePool(num_credits=1) as pool, pytest.raises(NoVideoStream) as raised, pool.open(CASES / name, spec):
        pass
    assert "is a picture" not in raised.value.detail


def test_an_empty_packet_of_theora_is_no_damage() -> None:
    """It holds the picture before: `ffmpeg -vsync cfr -c:v libtheora` of four pictures writes 36 of them."""
    report = ticks("held.ogv").report
    assert (report.codec, report.frames_damaged, report.warnings) == ("theora", 0, ())
    assert report.duration_seconds == pytest.approx(1.6, abs=0.13)


def test_a_mirrored_film_is_seen_as_players_show_it() -> None:
    """The other file holds the pictures as they are seen."""
    mirrored, seen = ticks("hf_horse.mp4"), ticks("hfb_horse.mp4")
    assert off(mirrored, seen) <= SAME_LEVELS
    assert off(Ticks(mirrored.pictures[:, :, ::-1], mirrored.report), seen) > SAME_LEVELS


@pytest.mark.parametrize(
    ("one", "other"), [("full10.mp4", "limited10.mp4"), ("piano_pc.webm", "piano_tv.webm"), ("q709.mov", "q.mov")]
)
def test_range_and_matrix_do_not_show(one: str, other: str) -> None:
    """10-bit HEVC and VP9 in full and in limited range; RGB with and without BT.709's tag."""
    assert off(ticks(one), ticks(other)) <= SAME_LEVELS
