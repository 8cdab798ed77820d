"""What graphs are expected to take, held against what they take."""

from __future__ import annotations

import dataclasses
import mmap

import pytest

from service.bundle import EncoderDocument, read_document
from service.engine.footprint import FILE, Expectations, Growth, Load, Recorded, growth
from service.settings import MIB
from tests.measure_footprint import measured_apart
from tests.zoo import TRAINED_ENCODER

LOAD = Load(disk_bytes=10 * MIB, pixels=MIB)


def test_the_recorded_rates_are_those_of_a_load() -> None:
    """In a process of its own; within a factor of two, as machines and allocators differ."""
    recorded, here = Recorded.model_validate_json(FILE.read_bytes()).rates, measured_apart()
    assert 0.5 < here.graph / recorded.graph < 2.0
    assert 0.5 < here.pixel / recorded.pixel < 2.0


def test_weights_and_frames_in_flight_count() -> None:
    rates = Expectations().rates
    assert Expectations().graph_bytes(MIB) == round(rates.graph * MIB)
    assert Expectations().encoder_bytes(LOAD) == round(rates.graph * 10 * MIB) + round(rates.pixel * MIB)


def test_what_was_measured_here_comes_before_what_is_recorded() -> None:
    expected = Expectations()
    expected.learn(LOAD, Growth(20 * MIB), Growth(50 * MIB))
    assert expected.encoder_bytes(LOAD) == 70 * MIB
    assert expected.encoder_bytes(dataclasses.replace(LOAD, pixels=2 * MIB)) == 120 * MIB


def test_a_load_into_freed_memory_teaches_nothing_less() -> None:
    expected = Expectations()
    expected.learn(LOAD, Growth(20 * MIB), Growth(50 * MIB))
    expected.learn(LOAD, Growth(0), Growth(0))
    assert expected.encoder_bytes(LOAD) == 70 * MIB


def test_weights_are_there_once_for_certain() -> None:
    expected = Expectations()
    expected.learn(LOAD, Growth(0), Growth(0))
    assert expected.encoder_bytes(LOAD) == LOAD.disk_bytes


def test_frames_on_a_gpu_are_not_in_this_process() -> None:
    document = read_document(TRAINED_ENCODER / "encoder.json", EncoderDocument)
    on_gpu = Load.of(TRAINED_ENCODER / "encoder.onnx", document, "onnxruntime-cuda", 128)
    on_cpu = Load.of(TRAINED_ENCODER / "encoder.onnx", document, "onnxruntime-cpu", 8)
    assert (on_gpu.pixels, on_cpu.pixels) == (0, 8 * 224 * 224)
    expected = Expectations()
    rates = expected.rates
    expected.learn(on_gpu, Growth(2 * on_gpu.disk_bytes), Growth(50 * MIB))
    assert (expected.rates.graph, expected.rates.pixel) == (2.0, rates.pixel)


@pytest.mark.parametrize("num_bytes", [0, 64 * MIB])
def test_growth_is_that_of_this_process(num_bytes: int) -> None:
    with growth() as grown:  # pages of its own: what other tests left to the allocator would be used again
        block = mmap.mmap(-1, num_bytes or mmap.PAGESIZE)
        block.write(b"x" * num_bytes)
    assert num_bytes * 0.9 <= grown.num_bytes < num_bytes + 16 * MIB
