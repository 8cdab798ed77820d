"""`sample_fps` null: every frame that is shown is a tick, at its own time; against what was drawn, and PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.video import sources
from service.video.clock import Clock
from service.video.decode import ClipReader
from service.video.errors import PastTheEnd, TooManyFrames, TooShort
from service.video.grid import FrameGrid, SamplingGrid, grid_of
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.decoders import only_decoder
from tests.drawn import draw, read_index, serving_frames
from tests.real_clips import NAMES, real_clip
from tests.service.video.test_animation import gif
from tests.service.video.test_decode import UNEVEN, _FailsToRetrieve
from tests.service.video.test_grid import ENDS, HOLDS, STARTS, taken, timestamps
from tests.service.video.test_times_against_pyav import remux

SPEC = ClipSpec(sample_fps=None, frame_height=64, frame_width=64)
ODD = Path(__file__).parents[3].parent / "shared" / "data" / "odd"
# Of other projects' tests, of a variable rate.
UNEVEN_FILES = (
    "intel-sample-videos/asl_gestures/brother.mkv", "file-type/fixture/fixture2.mkv",
    "file-type/fixture/fixture-null.webm", "file-type/fixture/fixture.flv",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Of each tick: the frame's number and time; and the report."""

    indices: list[int]
    seconds: list[float]
    report: DecodeReport


def walked(reader: ClipReader, max_frames: int = 16) -> Found:
    indices, seconds = list[int](), list[float]()
    with reader:
        for chunk in reader.chunks(max_frames):
            assert chunk.ticks.tolist() == [1] * len(chunk.frames)
            assert len(chunk.seconds) == len(chunk.frames)
            indices += map(read_index, chunk.frames)
            seconds += chunk.seconds.tolist()
        return Found(indices, seconds, reader.report())


def found(path: Path, **how: Any) -> Found:
    return walked(ClipReader(path, SPEC, **how))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as running:
        yield running


@pytest.mark.parametrize(
    ("suffix", "fps", "b_frames"),
    [("mp4", 25.0, 0), ("mp4", 29.97, 3), ("mkv", 23.976, 2), ("mov", 60.0, 3), ("ts", 25.0, 2), ("avi", 12.0, 0)],
)
def test_a_constant_rate(tmp_path: Path, suffix: str, fps: float, b_frames: int) -> None:
    drawn = draw(tmp_path / f"clip.{suffix}", num_frames=40, fps=fps, b_frames=b_frames)
    ours = found(drawn.path)
    assert ours.indices == list(range(40))
    assert ours.seconds == pytest.approx(drawn.timestamps, abs=6e-4)
    report = ours.report
    assert (report.ticks, report.frames_used, report.frames_walked, report.frames_repeated) == (40, 40, 40, 0)
    assert (report.origin_seconds, report.first_seconds) == (0.0, 0.0)
    assert report.last_seconds == round(ours.seconds[-1], 6)
    assert report.ticks_end_seconds == report.duration_seconds == pytest.approx(40 / fps, abs=2e-3)


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(("suffix", "rounding"), [("mp4", 1e-6), ("mkv", 6e-4)])
def test_a_variable_rate_is_decoded_once_and_nothing_is_repeated(
    tmp_path: Path, suffix: str, rounding: float, b_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds of many steps, which a grid finds out too late."""
    opened, really = list[Path](), sources.open_source

    def noted(path: Path, *how: Any) -> Any:
        opened.append(path)
        return really(path, *how)

    monkeypatch.setattr(sources, "open_source", noted)
    drawn = draw(
        tmp_path / f"clip.{suffix}", len(UNEVEN), b_frames=b_frames, timestamps=UNEVEN, last_seconds=0.7
    )  # fmt: skip
    ours = found(drawn.path)
    assert ours.indices == list(range(len(UNEVEN)))
    assert ours.seconds == pytest.approx(drawn.timestamps, abs=rounding)
    assert (ours.report.frames_repeated, ours.report.frames_used) == (0, len(UNEVEN))
    assert ours.report.ticks_end_seconds == ours.report.duration_seconds
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0.0, 1.0), (0.4, 1.0), (0.41, 1.01), (1.9, math.inf), (1.99, math.inf), (0.0, 0.039), (0.05, 0.07),
        (0.4, 0.4005), (0.3995, 0.44), (0.4, 0.4401), (0.0, 0.01),
    ],
)  # fmt: skip
def test_start_and_end_take_the_frames_that_are_shown_between(tmp_path: Path, start: float, end: float) -> None:
    """Tick 0 is the frame that is shown at the start, with its own time, which may lie before it."""
    drawn = draw(tmp_path / "clip.mp4", b_frames=2)
    expected = serving_frames(drawn.timestamps, None, start, end)
    if not expected:
        with pytest.raises(TooShort, match=r"gives 0 frames, the model needs 1; give"):
            found(drawn.path, start_seconds=start, end_seconds=end)
        return
    ours = found(drawn.path, start_seconds=start, end_seconds=end)
    assert ours.indices == expected
    assert ours.seconds == pytest.approx([drawn.timestamps[index] for index in expected], abs=1e-6)
    assert ours.report.origin_seconds == round(ours.seconds[0], 6)
    assert ours.report.ticks_end_seconds == pytest.approx((expected[-1] + 1) / 25, abs=1e-6)


def test_what_is_before_the_start_is_not_converted(tmp_path: Path) -> None:
    report = found(draw(tmp_path / "clip.mp4").path, start_seconds=1.0, end_seconds=1.2).report
    assert (report.frames_decoded, report.frames_used, report.frames_walked) == (5, 5, 31)


def test_a_cut_within_a_hold_is_its_frame(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "clip.mp4", 3, timestamps=[0.0, 6.0, 12.0], last_seconds=2.0)
    ours = found(drawn.path, start_seconds=7.0, end_seconds=8.0)
    assert (ours.indices, ours.seconds) == ([1], [6.0])
    assert (ours.report.origin_seconds, ours.report.ticks_end_seconds) == (6.0, 12.0)
    last = found(drawn.path, start_seconds=13.0)
    assert (last.indices, last.report.ticks_end_seconds) == ([2], 14.0)
    with pytest.raises(PastTheEnd, match=r"start_seconds is 14, and the video ends at 14\.00 s"):
        found(drawn.path, start_seconds=14.0)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif"])
def test_a_clip_of_one_frame(tmp_path: Path, suffix: str) -> None:
    encoder: Any = "gif" if suffix == "gif" else "libx264"
    ours = found(draw(tmp_path / f"clip.{suffix}", 1, encoder=encoder).path)
    assert (ours.indices, ours.seconds, ours.report.ticks) == ([0], [0.0], 1)
    assert ours.report.ticks_end_seconds == ours.report.duration_seconds > 0


def test_a_gif_with_holds(tmp_path: Path) -> None:
    delays = [10, 300, 4, 4, 50, 700]
    ours = found(gif(tmp_path / "clip.gif", delays))
    assert ours.indices == list(range(6))
    assert ours.seconds == pytest.approx(np.cumsum([0, *delays[:-1]]) / 100, abs=1e-6)
    assert ours.report.ticks_end_seconds == pytest.approx(sum(delays) / 100)


def test_of_two_frames_at_one_time_the_second_is_the_tick(tmp_path: Path) -> None:
    """As on a grid: it takes the place of the first; of three the third comes a nominal step later."""
    path = tmp_path / "repeating.mkv"
    remux(draw(tmp_path / "clip.mkv", num_frames=8).path, path, [0, 1, 1, 4, 4, 4, 8, 9])
    ours = found(path)
    assert ours.indices == [0, 2, 4, 5, 6, 7]
    assert ours.seconds == pytest.approx([at / 25 for at in (0, 1, 4, 5, 8, 9)], abs=1e-3)
    assert ours.report.frames_walked == 8


def test_a_frame_that_can_not_be_converted_is_no_tick(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "clip.mp4", 10)
    reader = ClipReader(drawn.path, SPEC)
    reader._source = _FailsToRetrieve(reader._source, {3, 6, 7})  # type: ignore[assignment]
    ours = walked(reader)
    assert ours.indices == [0, 1, 2, 4, 5, 8, 9]
    assert (ours.report.ticks, ours.report.frames_dropped) == (7, 3)
    assert ours.report.warnings == ("3 sampled frames could not be decoded; they are no ticks",)


def test_a_hold_of_minutes_is_one_tick_and_told(tmp_path: Path) -> None:
    ours = found(draw(tmp_path / "clip.mp4", 3, timestamps=[0.0, 0.04, 90.0], last_seconds=0.04).path)
    assert (ours.indices, ours.seconds) == ([0, 1, 2], [0.0, 0.04, 90.0])
    assert ours.report.warnings == ("a frame is shown for 90.0 s, from 0.040 s on: it is one tick, as any other",)


def test_more_frames_than_ticks_may_be(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 10).path
    assert found(path, limits=DecodeLimits(max_ticks=10)).report.ticks == 10
    with pytest.raises(TooManyFrames, match=r"sees every frame, and there are more than 9; cut .* max_ticks") as caught:
        found(path, limits=DecodeLimits(max_ticks=9))
    assert (caught.value.value, caught.value.limit) == (10, 9)


def test_too_few_frames(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 7).path
    with pytest.raises(TooShort, match=r"^the clip gives 7 frames, the model needs 8; send a longer clip$"):
        walked(ClipReader(path, SPEC.model_copy(update={"min_frames": 8})))


@pytest.mark.parametrize("max_frames", [1, 7, 16])
def test_chunks_do_not_change_it(tmp_path: Path, pool: DecodePool, max_frames: int) -> None:
    """Neither do processes, turns, or batches of them."""
    drawn = draw(tmp_path / "clip.mp4", len(UNEVEN), timestamps=UNEVEN, last_seconds=0.7)
    ours = found(drawn.path)
    assert walked(ClipReader(drawn.path, SPEC), max_frames) == ours
    with pool.open(drawn.path, SPEC) as video:
        seconds, indices = list[float](), list[int]()
        for chunk in video.batches(max_frames):
            assert len(chunk.seconds) == len(chunk.ticks) == len(chunk.frames) <= max_frames
            seconds += chunk.seconds.tolist()
            indices += map(read_index, chunk.frames)
        assert Found(indices, seconds, video.report()) == ours


def test_a_lost_process_loses_and_doubles_no_time(tmp_path: Path, pool: DecodePool) -> None:
    drawn = draw(tmp_path / "clip.mp4", 263, width=160, height=120)
    with pool.open(drawn.path, SPEC) as video:
        seconds: list[float] = []
        for number, chunk in enumerate(video.chunks()):
            seconds += chunk.seconds.tolist()
            chunk.release()
            if number == 1:
                only_decoder(pool).kill()
    assert seconds == pytest.approx(drawn.timestamps, abs=1e-6)


def test_a_grid_s_frames_bear_no_times(tmp_path: Path, pool: DecodePool) -> None:
    """It costs its messages nothing."""
    path = draw(tmp_path / "clip.mp4").path
    with pool.open(path, SPEC.model_copy(update={"sample_fps": 8.0})) as video:
        chunks = list(video.batches(64))
    assert [(len(chunk.frames), len(chunk.seconds)) for chunk in chunks] == [(16, 0)]


def of_packets(path: Path) -> tuple[list[float], float]:
    """When each packet's picture is shown, from the first one on, and how long the last is; by PyAV, undecoded."""
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None and not packet.is_discard]
    packets.sort(key=lambda packet: packet.pts or 0)
    base = packets[0].time_base or Fraction(1)
    first, last = packets[0].pts or 0, packets[-1]
    return [float(((packet.pts or 0) - first) * base) for packet in packets], float((last.duration or 0) * base)


@pytest.mark.parametrize("name", NAMES)
def test_of_real_clips_each_packet_is_a_tick(name: str) -> None:
    ours = found_of_any(real_clip(name))
    assert ours.seconds == pytest.approx(of_packets(real_clip(name))[0], abs=1e-6)


@pytest.mark.skipif(not ODD.is_dir(), reason="the folder of odd files, ../shared/data/odd, is not here")
@pytest.mark.parametrize("file", UNEVEN_FILES)
def test_of_real_files_of_a_variable_rate_too(file: str) -> None:
    ours, (seconds, last) = found_of_any(ODD / file), of_packets(ODD / file)
    steps = np.diff(seconds)
    assert steps.max() > 1.5 * steps.min(), "the rate varies"
    assert ours.seconds == pytest.approx(seconds, abs=1e-6)
    assert ours.report.frames_walked == ours.report.ticks == len(seconds)
    assert ours.report.ticks_end_seconds == pytest.approx(seconds[-1] + last, abs=steps.max())


def found_of_any(path: Path) -> Found:
    """Of pictures that bear no number."""
    with ClipReader(path, SPEC) as reader:
        chunks = list(reader.chunks(16))
        seconds = [at for chunk in chunks for at in chunk.seconds.tolist()]
        return Found([], seconds, reader.report())


@given(timestamps(), HOLDS, STARTS, ENDS)
def test_the_grid_takes_who_is_shown(times: list[float], hold: float, start: float, end: float) -> None:
    """A frame that is shown for less than four times the tolerance may be taken for less: it is that short."""
    assume(start < end)
    shown_until = times[-1] + hold
    grid = FrameGrid(start, end)
    counts = taken(grid, times, shown_until)
    ours = [index for index, count in enumerate(counts) if count]
    sure = set(serving_frames(times, None, start, end, shown_until=shown_until))
    ends = [*times[1:], shown_until]
    assert sure <= set(ours)
    for index in set(ours) - sure:
        assert ends[index] - times[index] < 4.1e-3
        assert times[index] < end
        assert ends[index] > start
    assert ours == list(range(ours[0], ours[0] + len(ours))) if ours else grid.num_ticks == 0
    if ours:
        assert (grid.origin_seconds, grid.ticks_end_seconds) == (times[ours[0]], ends[ours[-1]])
    assert not grid.exhausted or shown_until >= end


def test_a_thousand_frames_a_second_are_each_a_tick() -> None:
    """The tolerance is less than a quarter of what a frame is shown."""
    times = [index / 1000 for index in range(1000)]
    assert taken(FrameGrid(), times, 1.0) == [1] * 1000
    cut = taken(FrameGrid(0.5, 0.75), times, 1.0)
    assert (cut.index(1), sum(cut)) == (500, 250)


@given(st.lists(st.floats(-1.0, 40.0) | st.just(math.nan), min_size=1, max_size=60))
def test_times_of_ticks_rise_whatever_the_file_says(stamps: list[float]) -> None:
    """By the mended clock, whose jumps are bridged."""
    clock, grid = Clock(0.04, max_hold_seconds=10.0), FrameGrid()
    starts: list[float] = []
    for stamp in stamps:
        clock.tick(stamp)
        if clock.num_frames > 1 and grid.take(clock.previous_seconds, clock.last_seconds):
            starts.append(clock.previous_seconds)
    if grid.take(clock.last_seconds, clock.end_seconds()):
        starts.append(clock.last_seconds)
    assert len(starts) == grid.num_ticks > 0
    assert all(one < other for one, other in zip(starts, starts[1:], strict=False))
    assert starts[-1] < grid.ticks_end_seconds


def test_an_empty_cut_has_no_tick() -> None:
    assert taken(FrameGrid(1.0, 0.5), [0.0], 9.0) == [0]


def test_a_rate_makes_a_grid_and_none_the_frames() -> None:
    grid, frames = grid_of(8.0, 1.0, 2.0), grid_of(None, 1.0, 2.0)
    assert isinstance(grid, SamplingGrid)
    assert grid.sample_fps == 8.0
    assert isinstance(frames, FrameGrid)
    assert (frames.start_seconds, frames.end_seconds) == (grid.start_seconds, grid.end_seconds) == (1.0, 2.0)
