"""The forecast against what a pass over the same clip really takes and gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.video.cost import forecast, num_frames, num_ticks
from service.video.decode import ClipReader
from service.video.facts import ProbeFacts, Promise, Speed, Walk
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import draw
from tests.real_clips import NAMES, real_clip
from tests.service.video.test_times_against_pyav import remux

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
SPEED = Speed(start_milliseconds=10.0, frames=24, decode_milliseconds=2.0, convert_milliseconds=1.0)


def promised(frames: int | None = 100, seconds: float | None = 4.0, fps: float | None = 25.0) -> ProbeFacts:
    header = Promise(num_frames=frames, duration_seconds=seconds, fps=fps)
    return ProbeFacts(decodable=True, header=header, speed=SPEED)


def test_the_sum() -> None:
    cost = forecast(promised(), SPEC, encode_frame_seconds=0.003)
    assert cost is not None
    assert (cost.basis, cost.frames_decoded, cost.ticks, cost.frames_encoded) == ("header", 100, 16, 16)
    assert cost.decode_milliseconds == 10.0 + 100 * 2.0 + 16 * 1.0
    assert cost.encode_milliseconds == 48.0


def test_no_frame_is_encoded_twice() -> None:
    cost = forecast(promised(frames=4, seconds=4.0, fps=1.0), SPEC)
    assert cost is not None
    assert (cost.ticks, cost.frames_encoded) == (16, 4)


def test_what_nobody_measured_is_null() -> None:
    cost = forecast(promised().model_copy(update={"speed": None}), SPEC)
    assert cost is not None
    assert (cost.decode_milliseconds, cost.encode_milliseconds) == (None, None)


@pytest.mark.parametrize(
    "facts",
    [
        ProbeFacts(),
        promised(seconds=None),
        promised(frames=None, fps=None),
        promised().model_copy(update={"decodable": False}),
    ],
)
def test_no_forecast_without_frames_or_length(facts: ProbeFacts) -> None:
    assert forecast(facts, SPEC) is None


def test_frames_from_duration_and_rate() -> None:
    assert num_frames(promised(frames=None)) == 100


@pytest.mark.parametrize("name", NAMES)
def test_after_a_walk_ticks_and_frames_are_those_of_a_pass(name: str) -> None:
    with DecodePool(1) as pool:
        facts = pool.probe(real_clip(name), full=True)
    with ClipReader(real_clip(name), SPEC) as reader:
        list(reader.chunks(16))
        report = reader.report()
    cost = forecast(facts, SPEC)
    assert cost is not None
    assert cost.basis == "walk"
    assert (cost.ticks, cost.frames_encoded) == (report.ticks, report.frames_used)
    assert cost.frames_decoded == report.frames_walked


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_is_a_tick_of_a_model_without_a_rate(name: str) -> None:
    every = SPEC.model_copy(update={"sample_fps": None})
    with DecodePool(1) as pool:
        facts = pool.probe(real_clip(name), full=True)
    with ClipReader(real_clip(name), every) as reader:
        list(reader.chunks(16))
        report = reader.report()
    cost = forecast(facts, every)
    assert cost is not None
    assert cost.ticks == cost.frames_encoded == cost.frames_decoded == report.ticks == report.frames_walked
    assert num_ticks(promised(frames=51, seconds=32.0), every) == 51, "a hold is one tick"
    assert num_ticks(promised(frames=None), every) == 100


def test_a_frame_whose_place_is_taken_is_no_tick(tmp_path: Path) -> None:
    path, every = tmp_path / "repeating.mkv", SPEC.model_copy(update={"sample_fps": None})
    remux(draw(tmp_path / "clip.mkv", num_frames=8).path, path, [0, 1, 1, 4, 4, 4, 8, 9])
    with DecodePool(1) as pool:
        assert num_ticks(pool.probe(path, full=True), every) == 6


def test_a_late_first_frame_shifts_the_grid() -> None:
    walk = Walk(
        complete=True, num_frames=50, duration_seconds=12.0, first_seconds=10.0, last_seconds=11.96, rate="constant",
        fps=25.0, shortest_step_seconds=0.04, commonest_step_seconds=0.04, longest_step_seconds=0.04,
        frames_without_time=0, keyframes=None,
    )  # fmt: skip
    assert num_ticks(ProbeFacts(decodable=True, walk=walk), SPEC) == 8


def test_a_held_last_frame_has_ticks_to_its_end() -> None:
    """The header's word is the stream's length; so is the walk's."""
    assert num_ticks(promised(frames=51, seconds=32.0), SPEC) == 128


def test_the_header_of_a_drawn_clip_forecasts_what_the_walk_finds(tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mp4", num_frames=80)
    with DecodePool(1) as pool:
        by_header, by_walk = (forecast(pool.probe(clip.path, full=full), SPEC) for full in (False, True))
    assert by_header is not None
    assert by_walk is not None
    assert (by_header.frames_decoded, by_header.ticks) == (by_walk.frames_decoded, by_walk.ticks) == (80, 13)
