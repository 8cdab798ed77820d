"""Times of drawn files against those that were written and PyAV's: odd rates, no timestamps, repeated and cut ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.drawn import Encoder, draw, read_index
from tests.drawn_cases import H264, RATES
from tests.service.video.test_against_pyav import (
    SAME_SECONDS,
    Ours,
    assert_right,
    by_us,
    compared,
    indices,
    pixels_are_the_same,
    tick,
)  # fmt: skip


def from_first(ours: list[Ours]) -> list[float]:
    return [our.seconds - ours[0].seconds for our in ours]


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        ("avi", {**H264, "b_frames": 3}),
        ("avi", {"encoder": "mpeg4", "b_frames": 2}),
        ("m2v", {"encoder": "mpeg2video", "b_frames": 2}),
    ],
)
def test_files_without_presentation_times(tmp_path: Path, suffix: str, how: dict[str, Any]) -> None:
    """AVI and elementary streams hold decoding times alone, late by the decoder's delay, and PyAV's may fall. The
    frames come one nominal step after the other. (`service.video` lists the containers: MPEG-1 and -2 are the only
    elementary streams.)"""
    drawn = draw(tmp_path / f"clip.{suffix}", num_frames=26, **how)
    ours = list(by_us(drawn.path, 240, 320))
    assert indices(ours) == list(range(26))
    assert pixels_are_the_same(ours, drawn.path)
    np.testing.assert_allclose(from_first(ours), drawn.timestamps, atol=SAME_SECONDS)


@pytest.mark.parametrize("name", RATES)
def test_times(tmp_path: Path, name: str) -> None:
    suffix, how = RATES[name]
    how = {"num_frames": len(how.get("timestamps", range(20))), **how}
    assert_right(draw(tmp_path / f"clip.{suffix}", **how), tick(suffix))


def test_an_edit_list_hides_frames_before_zero(tmp_path: Path) -> None:
    """Frames at -0.2 to -0.04 s are decoded and not shown."""
    early = [(i - 5) / 25 for i in range(26)]
    how: dict[str, Any] = {"b_frames": 2, "timestamps": early, "muxer_options": {"avoid_negative_ts": "disabled"}}
    ours = list(compared(draw(tmp_path / "clip.mp4", num_frames=26, **how).path))
    assert indices(ours) == list(range(5, 26))
    np.testing.assert_allclose(from_first(ours), early[5:], atol=SAME_SECONDS)


def remux(source: Path, target: Path, ticks: list[int]) -> None:
    """Copy the packets (of a stream without B-frames), the i-th at `ticks[i]` / 25 s."""
    with av.open(source) as reader, av.open(target, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for index, packet in enumerate(packet for packet in reader.demux(video=0) if packet.size):
            packet.stream = stream
            packet.time_base, packet.pts, packet.dts = Fraction(1, 25), ticks[index], ticks[index]
            writer.mux(packet)


@pytest.mark.parametrize("encoder", ["mjpeg", "libvpx", "libx264"])
def test_repeating_timestamps(tmp_path: Path, encoder: Encoder) -> None:
    """A frame at the time of the one before takes its place, as in a player; a third one comes a nominal step later, so
    that no clock stands still."""
    path = tmp_path / "repeating.mkv"
    remux(draw(tmp_path / "clip.mkv", num_frames=8, encoder=encoder).path, path, [0, 1, 1, 4, 4, 4, 8, 9])
    ours = list(by_us(path, 240, 320))
    assert indices(ours) == [0, 2, 4, 5, 6, 7]
    np.testing.assert_allclose([our.seconds * 25 for our in ours], [0, 1, 4, 5, 8, 9], atol=25e-3)
    report = ours[-1].report
    assert (report.time_base, report.frames_walked) == ("nominal", 8)
    assert report.warnings[0].startswith("1 of 8 frames had no rising timestamp")


def test_hasty_gifs(tmp_path: Path) -> None:
    """Delays of 1/100 s are kept, as FFmpeg 8 has it."""
    drawn = draw(tmp_path / "clip.gif", 5, encoder="gif", timestamps=[0, 0.01, 0.02, 0.06, 0.08])
    ours = list(by_us(drawn.path, 240, 320))
    assert indices(ours) == list(range(5))
    np.testing.assert_allclose([our.seconds for our in ours], [0, 0.01, 0.02, 0.06, 0.08], atol=SAME_SECONDS)


@pytest.mark.parametrize(("suffix", "encoder"), [("ts", "libx264"), ("mpg", "mpeg2video")])
def test_a_stream_cut_at_an_open_group_of_pictures(tmp_path: Path, suffix: str, encoder: Encoder) -> None:
    """From the second key frame on, of whose leading B-frames one reference is gone."""
    options = {"x264-params": "open-gop=1:keyint=10:scenecut=0"} if encoder == "libx264" else {"g": "10"}
    whole = draw(tmp_path / f"whole.{suffix}", 26, encoder=encoder, b_frames=2, options=options).path
    path = tmp_path / f"cut.{suffix}"
    with av.open(whole) as reader, av.open(path, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        keys = 0
        for packet in reader.demux(video=0):
            keys += packet.is_keyframe
            if keys > 1 and packet.size:
                packet.stream = stream
                writer.mux(packet)
    found = indices(list(compared(path, off_by=tick(suffix))))
    assert found == list(range(found[0], 26))
    assert found[0] >= 10


def test_a_stream_without_a_start(tmp_path: Path) -> None:
    """One frame of MPEG-PS is too little for FFmpeg to find the start: its time is the file's own."""
    (our,) = by_us(draw(tmp_path / "clip.mpg", num_frames=1, encoder="mpeg2video").path, 240, 320)
    assert (read_index(our.picture), our.seconds, our.report.time_base) == (0, 0.5, "pts")
    assert our.report.duration_seconds == pytest.approx(0.5 + 1 / 25, abs=1 / 25)
