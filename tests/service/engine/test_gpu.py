"""What is done for a GPU, as far as a machine without one can tell: decisions, options, and calls to a library."""

from __future__ import annotations

import ctypes
import gc
import logging
from pathlib import Path

import numpy as np
import pytest

from service.bundle import Runtime
from service.engine import pinned
from service.engine.onnx_runtime import _providers
from service.engine.pinned import page_lock
from service.engine.sessions import Encoder, check_placement, misplaced, open_encoders
from service.errors import NotReady
from tests.service.engine.graphs import ENCODER, encoder


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(encoder())
    return path


@pytest.fixture
def on_cpu(graph: Path) -> Encoder:
    [one] = open_encoders(graph, ENCODER, "onnxruntime-cpu", "fp32", count=1, max_batch_frames=4)
    return one


@pytest.mark.parametrize(
    ("gpu_seconds", "cpu_seconds", "right"),
    [
        (2e-4, 5.7e-3, True),
        (1e-3, 2e-3, True),
        (1.1e-3, 2e-3, False),
        (5.7e-3, 5.7e-3, False),
        (8e-3, 5.7e-3, False),
    ],
)
def test_a_gpu_is_at_least_twice_as_fast_as_a_core(gpu_seconds: float, cpu_seconds: float, right: bool) -> None:
    assert (misplaced("onnxruntime-cuda", gpu_seconds, cpu_seconds) == "") is right


def test_a_cpu_is_not_probed(on_cpu: Encoder, graph: Path) -> None:
    assert check_placement(on_cpu, graph, ENCODER, require_gpu=True) is None


@pytest.mark.parametrize("runtime", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_gpu_s_graph_that_runs_on_the_cpu_is_found_out(
    runtime: Runtime, on_cpu: Encoder, graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An encoder that says it is on a GPU, and is as fast as the CPU that it is on; the clock is ours."""
    on_cpu.runtime = runtime
    ticks = iter(np.arange(100) * 0.004)
    monkeypatch.setattr("service.engine.sessions.time.perf_counter", lambda: next(ticks))
    assert check_placement(on_cpu, graph, ENCODER, require_gpu=False) == pytest.approx(1)
    words = f"{runtime} takes 1 ms a frame and one CPU thread 1 ms: the graph is not on the GPU, or the GPU is taken"
    assert [line.message[: len(words)] for line in caplog.records] == [words]
    with pytest.raises(NotReady, match=f"require_gpu is set, and {words}"):
        check_placement(on_cpu, graph, ENCODER, require_gpu=True)


def test_a_limit_of_memory_stops_the_arena_from_doubling() -> None:
    [(cuda, options), (cpu, none)] = _providers("onnxruntime-cuda", gpu_memory_bytes=2**30)
    assert (cuda, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {
        "use_tf32": "0", "gpu_mem_limit": "1073741824", "arena_extend_strategy": "kSameAsRequested",
    }  # fmt: skip
    assert none == {}
    assert _providers("onnxruntime-cuda")[0][1] == {"use_tf32": "0"}


def test_tensorrt_is_told_of_float16() -> None:
    assert _providers("onnxruntime-tensorrt", "fp16")[0] == ("TensorrtExecutionProvider", {"trt_fp16_enable": "1"})
    assert _providers("onnxruntime-tensorrt")[0] == ("TensorrtExecutionProvider", {})


class Cudart:
    """In place of libcudart, which is where a GPU is: what it was asked to lock and unlock."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.locked: dict[int | None, int] = {}

    def cudaHostRegister(self, address: ctypes.c_void_p, size: ctypes.c_size_t, flags: int) -> int:  # noqa: N802
        assert flags == 1
        if self.code == 0:
            self.locked[address.value] = size.value
        return self.code

    def cudaHostUnregister(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        del self.locked[address.value]
        return 0


def test_a_buffer_is_locked_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    cudart = Cudart(0)
    monkeypatch.setattr(pinned, "_cuda_runtime", lambda: cudart)
    buffer = np.zeros((4, 2, 2, 3), np.uint8)
    assert page_lock(buffer)
    assert cudart.locked == {buffer.ctypes.data: 48}
    part = buffer[:2]
    del buffer
    gc.collect()
    assert cudart.locked, "a view keeps the memory"
    del part
    gc.collect()
    assert cudart.locked == {}


@pytest.mark.parametrize("cudart", [Cudart(2), None], ids=["refused", "no library"])
def test_a_buffer_that_can_t_be_locked_is_used_as_it_is(
    cudart: Cudart | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pinned, "_cuda_runtime", lambda: cudart)
    assert not page_lock(np.zeros(3, np.uint8))
    assert [line.levelno for line in caplog.records] == [logging.WARNING]
    assert f"(cudaHostRegister: {2 if cudart else -1})" in caplog.text


def test_no_cuda_is_loaded_where_there_is_none() -> None:
    library = pinned._cuda_runtime()
    assert library is None or hasattr(library, "cudaHostRegister")
