"""What a clip will cost, by its headers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from service.engine.forecast import Forecast, Machine
from service.video.container import Container
from service.video.decode import ClipReader
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.real_clips import real_clip

SPEC = ClipSpec(sample_fps=4.0, frame_height=224, frame_width=224)
CLIP = Container(format="MPEG-4", num_frames=125, duration_seconds=5.0, width=320, height=240)
BYTES = 500_000
FRAME_SECONDS = 0.0055
CPU = Machine(cores=2, executors=2, shared=True)
GPU = Machine(cores=16, executors=1, shared=False)


def test_a_short_clip() -> None:
    cost = Forecast(CPU).cost(CLIP, BYTES, SPEC, FRAME_SECONDS)
    assert cost.frames == 21
    assert cost.machine_seconds == pytest.approx((0.015 + 125 * 320 * 240 * 3.2e-9 + 21 * FRAME_SECONDS) / 2)
    assert cost.alone_seconds >= cost.machine_seconds


def test_on_a_gpu_decoding_and_encoding_do_not_share_cores() -> None:
    film = replace(CLIP, num_frames=180_000, duration_seconds=7200.0)
    cost = Forecast(GPU).cost(film, 10**9, SPEC, 0.0002)
    encode = 28_801 * 0.0002
    assert cost.machine_seconds == pytest.approx(encode), "16 cores decode it faster"
    assert cost.alone_seconds == pytest.approx(0.015 + 180_000 * 320 * 240 * 3.2e-9), "one clip has one decoder"


def test_a_trim_costs_what_it_walks_and_what_it_keeps() -> None:
    film = replace(CLIP, num_frames=180_000, duration_seconds=7200.0)
    forecast = Forecast(CPU)
    cost = forecast.cost(film, 10**9, SPEC, FRAME_SECONDS, span=(3600.0, 3610.0))
    assert cost.frames == 41
    walked = 180_000 * 3610 / 7200
    assert cost.machine_seconds == pytest.approx((0.015 + walked * 320 * 240 * 3.2e-9 + 41 * FRAME_SECONDS) / 2)


@pytest.mark.parametrize("duration", [None, 0.0, -5.5e17, math.inf, math.nan])
def test_without_a_length_its_bytes_make_a_guess(duration: float | None) -> None:
    guess = Forecast(CPU).cost(replace(CLIP, duration_seconds=duration), BYTES, SPEC, FRAME_SECONDS)
    assert guess.is_guess
    frames = BYTES / 2000
    assert guess.frames == 34, "4 a second of 250 frames at 30"
    assert guess.machine_seconds == pytest.approx((0.015 + frames * 320 * 240 * 3.2e-9 + 34 * FRAME_SECONDS) / 2)


@pytest.mark.parametrize("format_", ["MPEG-TS", "MPEG-PS"])
def test_a_clock_that_jumps_makes_no_length(format_: str) -> None:
    """Two recordings of seconds, half an hour apart by their clocks: the bytes can't be of all that time."""
    stream = replace(CLIP, format=format_, num_frames=None)
    forecast = Forecast(CPU)
    assert not forecast.cost(stream, BYTES, SPEC, FRAME_SECONDS).is_guess
    assert forecast.cost(replace(stream, duration_seconds=1804.0), 70_000, SPEC, FRAME_SECONDS).is_guess
    slides = replace(CLIP, format="MPEG-4", num_frames=12, duration_seconds=1804.0)
    assert not forecast.cost(slides, 70_000, SPEC, FRAME_SECONDS).is_guess


def test_the_bytes_of_a_frame_are_learnt(walked: DecodeReport) -> None:
    forecast = Forecast(CPU)
    piped = replace(CLIP, duration_seconds=None)
    before = forecast.cost(piped, BYTES, SPEC, FRAME_SECONDS)
    for _ in range(200):
        forecast.learn(walked, 0.1, 125 * 8000)
    assert forecast.cost(piped, BYTES, SPEC, FRAME_SECONDS).frames < before.frames / 3


def test_overlapping_windows_cost_what_the_head_reads() -> None:
    plain = Forecast(CPU).cost(CLIP, BYTES, SPEC, FRAME_SECONDS)
    dense = Forecast(CPU).cost(CLIP, BYTES, SPEC, FRAME_SECONDS, tick_seconds=0.001)
    assert dense.machine_seconds - plain.machine_seconds == pytest.approx(21 * 0.001 / 2)


def test_a_header_that_promises_more_frames_than_bytes_could_hold_is_not_believed() -> None:
    liar = replace(CLIP, num_frames=10**9, duration_seconds=1e7)
    cost = Forecast(CPU).cost(liar, 8000, SPEC, FRAME_SECONDS)
    assert cost.frames == 1000


def test_without_a_frame_count_the_length_tells_it() -> None:
    cost = Forecast(CPU).cost(replace(CLIP, num_frames=None), BYTES, SPEC, FRAME_SECONDS)
    counted = Forecast(CPU).cost(replace(CLIP, num_frames=150), BYTES, SPEC, FRAME_SECONDS)
    assert cost == counted


@pytest.mark.parametrize("span", [(0.0, math.inf), (1.0, 4.0)])
def test_of_a_model_that_sees_every_frame_all_are_encoded(span: tuple[float, float]) -> None:
    """CLIP has 25 a second; a frame a tick, as a grid of just that rate has."""
    every, dense = (SPEC.model_copy(update={"sample_fps": rate}) for rate in (None, 25.0))
    cost, as_dense = (Forecast(CPU).cost(CLIP, BYTES, spec, FRAME_SECONDS, span=span) for spec in (every, dense))
    assert cost == as_dense
    assert cost.frames >= 75
    slides = replace(CLIP, num_frames=12, duration_seconds=1804.0)
    assert Forecast(CPU).cost(slides, BYTES, every, FRAME_SECONDS).frames == 12


@pytest.fixture(scope="module")
def walked() -> DecodeReport:
    """Of a real clip, as if it were `CLIP`."""
    with ClipReader(real_clip("bikes.mp4"), SPEC) as reader:
        assert sum(len(chunk.ticks) for chunk in reader.chunks(16))
        return replace(reader.report(), frames_walked=125, width=320, height=240)


def machine_seconds(forecast: Forecast) -> float:
    cost = forecast.cost(CLIP, BYTES, SPEC, FRAME_SECONDS)
    return cost.machine_seconds


def test_a_codec_that_takes_twice_as_long_is_learnt(walked: DecodeReport) -> None:
    forecast = Forecast(CPU)
    before = machine_seconds(forecast)
    pixels = 125 * 320 * 240
    for _ in range(2000):
        forecast.learn(walked, 0.015 + pixels * 6.4e-9, BYTES)
    assert machine_seconds(forecast) - before == pytest.approx(pixels * 3.2e-9 / 2, rel=0.05)


def test_no_clip_can_spoil_the_forecast_of_others(walked: DecodeReport) -> None:
    """A video of 2 × 2 pixels that opened slowly once made every clip cost hours."""
    forecast = Forecast(CPU)
    before = machine_seconds(forecast)
    for _ in range(1000):
        forecast.learn(replace(walked, frames_walked=3, width=2, height=2), 0.5, BYTES)
    assert machine_seconds(forecast) == before
    forecast.learn(walked, 1e9, BYTES)
    assert machine_seconds(forecast) < 1.2 * before
