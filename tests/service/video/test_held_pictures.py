"""Held pictures: each tick gets the frame that is shown then, though nobody knew it when that frame was there.

Real files first; then a fake source, of which hypothesis makes more than any encoder could write.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.video import sources
from service.video.container import Container
from service.video.decode import ClipReader
from service.video.ending import Ending
from service.video.errors import CorruptVideo
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.source import Damages, Header
from service.video.spec import ClipSpec
from tests.drawn import Drawn, Encoder, draw, read_index, serving_frames

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
# A screen recording; one hold amid a constant rate; and two.
SCREEN = (0.0, 6.0, 12.0, 12.2)
HOLD = tuple(i / 25 + (2.0 if i >= 20 else 0.0) for i in range(40))
HOLDS = tuple(i / 25 + (2.0 if i >= 20 else 0.0) + (0.7 if i >= 33 else 0.0) for i in range(50))
TIMES = {"screen": SCREEN, "hold": HOLD, "holds": HOLDS}


@dataclass(frozen=True)
class Pass:
    """What one pass gave."""

    frames: list[NDArray[np.uint8]]
    ticks: list[int]
    report: DecodeReport

    @property
    def serving(self) -> list[int]:
        return [read_index(frame) for frame, count in zip(self.frames, self.ticks, strict=True) for _ in range(count)]


def walk(reader: ClipReader, chunk: int = 16, seconds: float = math.inf) -> Pass:
    """In turns of `seconds`, as a decode process does."""
    out = np.zeros((chunk, reader.spec.frame_height, reader.spec.frame_width, 3), np.uint8)
    frames, ticks = list[NDArray[np.uint8]](), list[int]()
    with reader:
        while not reader.ended:
            counts = reader.fill(out, seconds).ticks.tolist()
            frames += [out[index].copy() for index in range(len(counts))]
            ticks += counts
        return Pass(frames, ticks, reader.report())


def same(one: Pass, other: Pass) -> bool:
    return (one.ticks, one.report) == (other.ticks, other.report) and np.array_equal(one.frames, other.frames)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files, as they are opened by this process."""
    paths, really = list[Path](), sources.open_source

    def noted(path: Path, *how: Any) -> Any:
        paths.append(path)
        return really(path, *how)

    monkeypatch.setattr(sources, "open_source", noted)
    return paths


def told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is retrieved from the first on: no picture is ever fetched a second time."""
    monkeypatch.setattr(Ending, "holds_pictures", property(lambda _: True))


@pytest.fixture(scope="module", params=TIMES)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    times = TIMES[request.param]
    path = tmp_path_factory.mktemp("held") / f"{request.param}.mp4"
    return draw(path, len(times), timestamps=times, b_frames=2, width=160, height=120)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize(
    ("suffix", "encoder", "b_frames"),
    [
        ("mp4", "libx264", 3), ("mov", "mjpeg", 0), ("mkv", "libx264", 2), ("ts", "libx264", 2), ("flv", "libx264", 0),
        ("webm", "libvpx-vp9", 0), ("mp4", "libsvtav1", 0), ("mkv", "libx265", 2), ("asf", "wmv2", 0),
        ("gif", "gif", 0), ("apng", "apng", 0),
    ],
)  # fmt: skip
def test_every_tick_gets_the_frame_that_is_shown(
    tmp_path: Path, suffix: str, encoder: Encoder, b_frames: int, times: tuple[float, ...]
) -> None:
    path = tmp_path / f"clip.{suffix}"
    drawn = draw(
        path, len(times), timestamps=times, encoder=encoder, b_frames=b_frames, width=160, height=120
    )  # fmt: skip
    found = walk(ClipReader(path, SPEC))
    end = found.report.duration_seconds
    assert end >= times[-1]
    assert found.serving == serving_frames(drawn.timestamps, SPEC.sample_fps, shown_until=end)
    assert (found.report.frames_walked, found.report.time_base) == (len(times), "pts")


def test_only_a_variable_rate_is_decoded_twice(tmp_path: Path, opened: list[Path]) -> None:
    for fps in (25.0, 29.97, 60.0):
        walk(ClipReader(draw(tmp_path / f"{fps}.mkv", 60, fps, b_frames=2, width=64, height=48).path, SPEC))
    assert len(opened) == 3


def test_a_film_is_decoded_twice_at_most(held: Drawn, opened: list[Path]) -> None:
    walk(ClipReader(held.path, SPEC))
    assert 1 <= len(opened) <= 2


@pytest.mark.parametrize("chunk", [1, 3, 16])
@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_neither_chunks_nor_turns_nor_a_second_decoding_change_it(
    held: Drawn, chunk: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of no time is one step: every step is once the last of its turn."""
    found = walk(ClipReader(held.path, SPEC), chunk, seconds)
    told_beforehand(monkeypatch)
    assert same(found, walk(ClipReader(held.path, SPEC)))


@pytest.mark.parametrize(
    ("start", "end"), [(0.9, 2.1), (1.5, 1.6), (0.5, 1.0), (2.0, math.inf), (2.3, 3.4), (0.0, 0.8)]
)
def test_cuts_that_begin_and_end_in_a_hold(tmp_path: Path, start: float, end: float) -> None:
    drawn = draw(tmp_path / "clip.mp4", len(HOLDS), timestamps=HOLDS, width=160, height=120)
    found = walk(ClipReader(drawn.path, SPEC, start_seconds=start, end_seconds=end))
    assert found.serving == serving_frames(
        drawn.timestamps, SPEC.sample_fps, start, end, shown_until=HOLDS[-1] + 1 / 25
    )
    assert found.report.origin_seconds == start
    assert found.report.first_seconds == pytest.approx(drawn.timestamps[found.serving[0]], abs=1e-6)


def test_in_a_process_of_its_own(held: Drawn) -> None:
    """Files may be opened there a second time, and it takes another video after that."""
    expected = walk(ClipReader(held.path, SPEC))
    with DecodePool(1) as pool:
        for _ in range(2):
            with pool.open(held.path, SPEC) as video:
                frames, ticks = list[NDArray[np.uint8]](), list[int]()
                for chunk in video.chunks():
                    frames += list(chunk.frames.copy())
                    ticks += chunk.ticks.tolist()
                    chunk.release()
            assert same(Pass(frames, ticks, video.report()), expected)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hold after some broken slices."""
    drawn = draw(
        tmp_path_factory.mktemp("damaged") / "clip.mp4", len(HOLD), timestamps=HOLD, options={"g": "10"},
    )  # fmt: skip
    data = bytearray(drawn.path.read_bytes())
    at = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 5
    data[at : at + 300] = bytes(300)
    drawn.path.write_bytes(data)
    return drawn.path


def test_damage_is_counted_once(damaged: Path) -> None:
    with DecodePool(1) as pool:
        with pool.open(damaged, SPEC) as video:
            for chunk in video.chunks():
                chunk.release()
        facts = pool.probe(damaged, full=True)
    report = video.report()
    assert facts.damage is not None
    assert facts.damage.frames == report.frames_damaged > 0
    assert facts.walk is not None
    assert facts.walk.num_frames == report.frames_walked
    [warning] = [each for each in report.warnings if "corrupt" in each]
    assert f"corrupt at {facts.damage.first_seconds:.3f} s" in warning


def test_strict_refuses_it_at_the_first_damage(damaged: Path) -> None:
    with DecodePool(1) as pool, pytest.raises(CorruptVideo) as caught, pool.open(damaged, SPEC, strict=True) as video:
        list(video.chunks())
    assert isinstance(caught.value.value, float)
    assert caught.value.value < HOLD[19]


# What follows has no file: a source whose frames carry their number, whose timestamps and damage are given.


@dataclass
class Film:
    """timestamps: of the frames; bad: those with which FFmpeg complains, or the end; container: of its headers."""

    timestamps: Sequence[float]
    bad: frozenset[int] = frozenset()
    fps: float = 25.0
    container: Container = field(default_factory=Container)
    opened: int = 0
    retrieved: list[int] = field(default_factory=list)


@dataclass
class Shelf:
    """The film that is opened, whatever the path."""

    film: Film | None = None

    def open(self, *_: object) -> FakeSource:
        assert self.film
        self.film.opened += 1
        return FakeSource(self.film)

    def put(self, film: Film) -> Film:
        self.film = film
        return film


class FakeSource(Damages):
    """A `Source` of a `Film`: a fake, as hypothesis asks for more files than can be encoded."""

    times_are_rounded = is_interlaced = False

    def __init__(self, film: Film) -> None:
        super().__init__(None)
        self._film, self._frame = film, -1
        self.header = Header("h264", 16, 16, fps=film.fps)
        self._log = self  # type: ignore[assignment]

    def take(self) -> str | None:
        return "no frame!" if self._frame in self._film.bad else None

    def grab(self) -> bool:
        self._frame += 1
        there = self._frame < len(self._film.timestamps)
        self.note(self._film.timestamps[self._frame - 1] if self._frame else 0.0, frame=there)
        return there

    def pts_seconds(self) -> float:
        return self._film.timestamps[self._frame]

    def retrieve(self) -> NDArray[np.uint8]:
        self._film.retrieved.append(self._frame)
        return np.full((16, 16, 3), self._frame, np.uint8)

    def is_intra(self) -> bool:
        return False

    def release(self) -> None:
        self._frame = -1


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sources, "open_source", (shelf := Shelf()).open)
        yield shelf


TINY = ClipSpec(sample_fps=8, frame_height=16, frame_width=16)
# Milliseconds from one frame to the next: steady with some holds, or anyhow. They are a little short, so that no frame
# comes a millisecond after a tick, to the last bit of a float.
MILLISECOND = 0.000_997_31
STEPS = st.lists(st.just(40) | st.just(40) | st.integers(1, 1500), max_size=60) | st.lists(st.integers(1, 300))


def shown(
    shelf: Shelf, film: Film, chunk: int = 16, seconds: float = math.inf, **how: Any
) -> tuple[list[int], DecodeReport]:
    """The frame of each tick, by the colour of its picture."""
    spec = TINY.model_copy(update={"sample_fps": how.pop("sample_fps", 8.0), "min_frames": 0})
    found = walk(ClipReader(Path(), spec, container=shelf.put(film).container, **how), chunk, seconds)
    for frame in found.frames:
        assert np.ptp(frame) == 0
    return [int(f[0, 0, 0]) for f, n in zip(found.frames, found.ticks, strict=True) for _ in range(n)], found.report


@given(
    steps=STEPS,
    hold=st.sampled_from([0.04, 0.04, 3.0]),
    sample_fps=st.sampled_from([1.0, 4.0, 8.0, 12.5, 25.0, 60.0]),
    chunk=st.sampled_from([1, 2, 5, 16]),
    seconds=st.sampled_from([0.0, math.inf]),
    start=st.sampled_from([0.0, 0.0, 0.3, 1.7]),
    end=st.sampled_from([math.inf, math.inf, 1.0, 2.2]),
)
@example(steps=[6000, 6000, 200], hold=0.04, sample_fps=4.0, chunk=16, seconds=math.inf, start=2.0, end=5.0)
@example(steps=[40] * 30 + [2000] + [40] * 30, hold=3.0, sample_fps=8.0, chunk=2, seconds=0.0, start=0.0, end=math.inf)
def test_whatever_the_timestamps(
    shelf: Shelf, steps: list[int], hold: float, sample_fps: float, chunk: int, seconds: float, start: float, end: float
) -> None:
    times = [milliseconds * MILLISECOND for milliseconds in accumulate(steps, initial=0)]
    film = Film(times, container=Container(last_frame_seconds=hold))
    serving, report = shown(shelf, film, chunk, seconds, sample_fps=sample_fps, start_seconds=start, end_seconds=end)
    assert serving == serving_frames(times, sample_fps, start, end, shown_until=times[-1] + hold)
    if math.isinf(end):
        assert report.frames_walked == len(times)
        assert report.duration_seconds == pytest.approx(times[-1] + hold, abs=1e-6)
    assert film.opened <= 2, "a film is decoded twice at most"


@given(st.integers(2, 150), st.sampled_from([24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 120.0]), st.booleans())
def test_a_constant_rate_costs_no_more_than_its_samples(shelf: Shelf, count: int, fps: float, rounded: bool) -> None:
    """Opened once, and hardly a picture is converted in vain; Matroska's whole milliseconds are a constant rate too."""
    film = Film([round(i / fps, 3) if rounded else i / fps for i in range(count)], fps=fps)
    serving, _ = shown(shelf, film)
    assert film.opened == 1
    assert set(serving) <= set(film.retrieved)
    # Where a tick falls on a frame's very time, the frame before may have been shown until then.
    assert len(film.retrieved) <= 2 * len(set(serving)) + 1


@given(STEPS, st.frozensets(st.integers(0, 61), max_size=4))
def test_whatever_the_damage_it_is_counted_once(shelf: Shelf, steps: list[int], bad: frozenset[int]) -> None:
    times = [milliseconds * MILLISECOND for milliseconds in accumulate(steps, initial=0)]
    film = Film(times, bad)
    _, report = shown(shelf, film)
    assert report.frames_damaged == sum(frame < len(times) for frame in bad)
    assert any("corrupt at" in warning for warning in report.warnings) == any(frame <= len(times) for frame in bad)


@given(STEPS, st.integers(0, 61))
def test_strict_raises_at_the_first_damage(shelf: Shelf, steps: list[int], bad: int) -> None:
    times = [milliseconds * MILLISECOND for milliseconds in accumulate(steps, initial=0)]
    film = Film(times, frozenset({bad}))
    if bad > len(times):
        shown(shelf, film, strict=True)
        return
    with pytest.raises(CorruptVideo):
        shown(shelf, film, strict=True)


@pytest.mark.parametrize("chunk", [1, 16])
@pytest.mark.parametrize("hold", [0.04, 5.0])
def test_a_complaint_at_the_end_is_kept_where_the_last_picture_is_held(shelf: Shelf, hold: float, chunk: int) -> None:
    """Until the end nobody knew of that hold, so it is decoded again, and the end comes a second time."""
    film = Film([i / 25 for i in range(49)], frozenset({49}), container=Container(last_frame_seconds=hold))
    serving, report = shown(shelf, film, chunk, strict=False)
    assert serving == serving_frames(film.timestamps, 8.0, shown_until=1.92 + hold)
    assert (film.opened, report.frames_walked, report.frames_damaged) == (1 if hold < 1 else 2, 49, 0)
    assert [warning.split(";")[0] for warning in report.warnings] == ["corrupt at 1.920 s (no frame!)"]


def test_a_jump_of_the_clock_is_no_hold(shelf: Shelf) -> None:
    film = Film([*(i / 25 for i in range(50)), *(1800 + i / 25 for i in range(50))])
    serving, report = shown(shelf, film, limits=DecodeLimits(max_hold_seconds=600.0))
    assert serving == serving_frames([i / 25 for i in range(100)], 8.0)
    assert report.warnings == (
        "the clock jumps from 1.960 s to 1800.000 s: bridged, as if the one frame followed the other "
        "(max_hold_seconds is 600)",
    )


def test_a_wrong_first_timestamp_gives_the_first_picture_no_tick_of_its_own(shelf: Shelf) -> None:
    """The grid begins where the first frame was put right to."""
    film = Film([0.56, *(i / 25 for i in range(1, 50))])
    serving, report = shown(shelf, film)
    assert serving == serving_frames([i / 25 for i in range(50)], 8.0)
    assert (report.origin_seconds, report.first_seconds, report.time_base) == (0.0, 0.0, "pts")
