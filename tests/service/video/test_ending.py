"""How long the last frame is shown and whether a file is cut short, by what its headers promise; and of drawn files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from service.video.clock import Clock
from service.video.container import Container
from service.video.decode import ClipReader
from service.video.ending import Ending
from service.video.source import Header
from service.video.spec import ClipSpec
from tests.drawn import Encoder, draw

STEP = 0.04
FILM = Container(format="MPEG-4", kinds=("Video",), duration_seconds=4.0, last_frame_seconds=STEP)
STREAM = Container(format="MPEG-TS", kinds=("Video",))


def header(num_frames: int | None = 100, fps: float = 25.0) -> Header:
    return Header("h264", 320, 240, fps=fps, num_frames=num_frames)


def walked(num_frames: int, *, step: float = STEP, jump: float = 0.0) -> Clock:
    clock = Clock(STEP, max_hold_seconds=600.0)
    for index in range(num_frames):
        clock.tick(index * step + (jump if index >= 50 else 0.0))
    return clock


def ended(container: Container, clock: Clock, num_frames: int | None = 100, *, is_damaged: bool = False) -> float:
    return Ending(container, header(num_frames)).seconds(clock, is_damaged=is_damaged)


def warned(container: Container, clock: Clock, num_frames: int | None = 100, *, is_damaged: bool = False) -> list[str]:
    return list(Ending(container, header(num_frames)).warnings(clock, is_damaged=is_damaged))


def of(container: Container, **changes: object) -> Container:
    return Container(**(vars(container) | changes))


@pytest.mark.parametrize(
    ("container", "seconds"),
    [
        (FILM, 4.0),
        (of(FILM, kinds=("Video", "Audio")), 4.0),
        (of(FILM, duration_seconds=None), 4.0),  # FFmpeg's
        (Container(format="Matroska", kinds=("Video", "Audio"), duration_seconds=3.5), 3.5),
        (Container(format="WebM", kinds=("Video",)), 4.0),
        (Container(format="Matroska", kinds=("Video", "Audio")), None),  # without a tag of its own
        (Container(format="Nut"), None),
        (STREAM, 4.0),
        (of(STREAM, kinds=("Video", "Audio")), None),  # that of the longest stream
        (of(STREAM, duration_seconds=7.0), 4.0),
    ],
)
def test_the_streams_own_length(container: Container, seconds: float | None) -> None:
    assert Ending(container, header()).stream_seconds == seconds


@pytest.mark.parametrize(
    ("container", "holds"),
    [
        (FILM, False),
        (of(FILM, frame_rate_mode="CFR"), False),
        (of(FILM, frame_rate_mode="VFR"), False),
        (Container(format="GIF"), True),
        (Container(format="PNG"), True),
        (Container(format="WebP"), True),
    ],
)
def test_headers_that_tell_of_held_pictures(container: Container, holds: bool) -> None:
    assert Ending(container, header()).holds_pictures is holds


def test_the_last_sample_tells_how_long_it_is_shown() -> None:
    """The case of 51 frames whose last one, at 2 s, lasts for 30."""
    container = of(FILM, duration_seconds=32.0, last_frame_seconds=30.0)
    assert ended(container, walked(51), 51) == pytest.approx(32.0)
    assert warned(container, walked(51), 51) == []


def test_the_stream_tells_how_long_the_last_frame_is_shown() -> None:
    """Where samples have no durations of their own; that it may be cut short instead is said."""
    container = Container(format="Matroska", kinds=("Video",), duration_seconds=32.0)
    assert ended(container, walked(51), 800) == 32.0
    [warning] = warned(container, walked(51), 800)
    assert "at 2.000 s, is held to the end that the header promises, 32.000 s, unless the file is cut" in warning


@pytest.mark.parametrize("container", [FILM, of(FILM, last_frame_seconds=30.0), STREAM])
def test_a_cut_or_damaged_file_ends_a_step_after_its_last_frame(container: Container) -> None:
    assert ended(of(container, truncated=True), walked(50)) == pytest.approx(2.0)
    assert ended(container, walked(50), is_damaged=True) == pytest.approx(2.0)
    assert any("4.00 s of video, 2.00 s came" in each for each in warned(container, walked(50), is_damaged=True))


def test_after_a_jump_the_headers_length_counts_no_more() -> None:
    """Two recordings, the second one shorter: FFmpeg takes the length of the first."""
    clock = Clock(0.04)
    for pts in [*(index * 0.04 for index in range(250)), *(index * 0.04 for index in range(100))]:
        clock.tick(pts)
    assert clock.num_jumps == 1
    for container in (STREAM, Container(format="Matroska", kinds=("Video",), duration_seconds=10.0)):
        assert ended(container, clock, 250) == pytest.approx(14.0)
        assert warned(container, clock, 250) == []


def test_a_cut_file_that_does_not_say_how_long_its_video_is() -> None:
    live = Container(format="Matroska", kinds=("Video", "Audio"), truncated=True)
    assert warned(live, walked(50)) == [
        "the file has fewer bytes than it promises, 2.00 s of video came: it is cut short"
    ]
    assert warned(of(live, truncated=False), walked(50)) == []


def test_samples_that_are_missing_are_not_made_up_by_a_hold() -> None:
    """The samples say that none of them is shown for long."""
    assert ended(FILM, walked(50)) == pytest.approx(2.0)
    [warning] = warned(FILM, walked(50))
    assert warning == (
        "the header promises 4.00 s of video, 2.00 s came: the file is cut short, or its header is wrong"
    )


@pytest.mark.parametrize("counted", [51, None])
def test_of_animations_nobody_may_tell_how_many_pictures_there_are(counted: int | None) -> None:
    container = Container(format="PNG", kinds=("Image",), last_frame_seconds=30.0)
    assert ended(container, walked(51), counted) == pytest.approx(32.0)


@pytest.mark.parametrize("last_sample", [1.1, 0.01])
def test_the_last_sample_s_own_duration_counts_before_the_edits(last_sample: float) -> None:
    """As FFmpeg shows it, though of B-frames at uneven times it may be a step of decoding."""
    assert ended(of(FILM, last_frame_seconds=last_sample), walked(100)) == pytest.approx(3.96 + last_sample)


def test_where_samples_were_cut_off_by_an_edit_the_edits_tell() -> None:
    container = of(FILM, duration_seconds=4.5, last_frame_seconds=30.0)
    assert ended(container, walked(100), 120) == pytest.approx(4.5)


def test_a_hold_that_edits_cut_ends_with_them() -> None:
    """The samples behind it are left out, so that the table's last one tells nothing of it."""
    container = of(FILM, duration_seconds=6.0)
    assert ended(container, walked(100), 120) == pytest.approx(4.0)
    assert ended(of(container, is_trimmed=True), walked(100), 120) == pytest.approx(6.0)
    assert warned(of(container, is_trimmed=True), walked(100), 120) == []


def test_where_all_samples_came_nothing_is_cut_short() -> None:
    """A header may promise more, of a longer edit or of sound."""
    container = of(FILM, duration_seconds=9.0)
    assert warned(container, walked(100), 100) == []
    assert len(warned(container, walked(100), 200)) == 1


def test_a_length_that_ends_before_the_last_frame_tells_nothing() -> None:
    """Of the media without an edit list, where B-frames come at uneven times."""
    assert ended(of(FILM, duration_seconds=3.0, last_frame_seconds=0.5), walked(100)) == pytest.approx(4.46)


def test_a_hold_longer_than_is_believed_is_none() -> None:
    container = of(FILM, duration_seconds=10_000.0, last_frame_seconds=9_996.0)
    assert ended(container, walked(100)) == pytest.approx(4.0)


def test_longer_sound_does_not_cut_the_video_short() -> None:
    """Nobody tells the video's own length, and a count is made of the whole file's."""
    container = of(STREAM, kinds=("Video", "Audio"))
    for promised in (50, 100):
        assert ended(container, walked(50), promised) == pytest.approx(2.0)
        assert warned(container, walked(50), promised) == []


def test_a_length_that_nobody_tells_is_that_of_the_frames() -> None:
    assert ended(STREAM, walked(50), None) == pytest.approx(2.0)
    assert warned(STREAM, walked(50), None) == []


def test_after_a_jump_no_promise_counts() -> None:
    assert warned(of(FILM, duration_seconds=1804.0), walked(60, jump=1800.0)) == []


@pytest.mark.parametrize("promised", [3.9, 4.0, 4.3])
def test_headers_round(promised: float) -> None:
    assert warned(of(FILM, duration_seconds=promised), walked(100)) == []
    assert warned(Container(format="Matroska", kinds=("Video",), duration_seconds=promised), walked(100)) == []


def with_long_last(source: Path, target: Path, seconds: int) -> None:
    """The same packets, of which the last lasts so long."""
    with av.open(source) as reader, av.open(target, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        for index, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.duration = seconds * 25 if packet is packets[-1] else 1
            writer.mux(packet)


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [("mp4", "libx264"), ("mov", "mjpeg"), ("mp4", "libsvtav1"), ("mkv", "libx264"), ("webm", "libvpx-vp9")],
)
def test_the_last_frame_is_shown_until_its_end(tmp_path: Path, suffix: str, encoder: Encoder) -> None:
    path = tmp_path / f"long.{suffix}"
    with_long_last(draw(tmp_path / f"clip.{suffix}", 11, encoder=encoder).path, path, seconds=5)
    with ClipReader(path, ClipSpec(sample_fps=10, frame_height=64, frame_width=64)) as reader:
        ticks = [count for chunk in reader.chunks(16) for count in chunk.ticks.tolist()]
        report = reader.report()
    assert report.duration_seconds == pytest.approx(5.4, abs=1e-3)
    assert (sum(ticks), ticks[-1], report.ticks) == (54, 50, 54)
    assert not any("cut short" in warning for warning in report.warnings if "unless" not in warning)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "mpg"])
def test_a_file_cut_short_is_said_to_be(tmp_path: Path, suffix: str) -> None:
    encoder: Encoder = "mpeg2video" if suffix == "mpg" else "libx264"
    path = draw(tmp_path / f"clip.{suffix}", 100, encoder=encoder, options={"g": "10"}).path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with ClipReader(path, ClipSpec(sample_fps=4, frame_height=64, frame_width=64)) as reader:
        list(reader.chunks(16))
        report = reader.report()
    assert report.duration_seconds == pytest.approx(report.frames_walked / 25, abs=0.05)
    assert any("cut short" in warning for warning in report.warnings) == (suffix in ("mkv", "avi"))
