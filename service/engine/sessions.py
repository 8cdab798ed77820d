"""The small session interface behind which the runtimes are: encoders for executor threads, sessions for heads."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.bundle import GPU_RUNTIMES, EncoderDocument, Precision, Runtime
from service.engine.choice import choose_runtime
from service.engine.device_errors import DeviceLost, is_sticky
from service.engine.onnx_runtime import open_onnx_encoders, open_session, provider_of
from service.engine.openvino_runtime import open_openvino_encoders
from service.errors import NotReady

__all__ = [
    "DeviceLost", "Encoder", "check_placement", "choose_runtime", "is_sticky", "misplaced", "open_encoders",
    "open_session", "provider_of",
]  # fmt: skip

log = logging.getLogger(__name__)

# One core against a GPU is 10 to 1 and more on the slowest that is served; a graph that fell to the CPU is 1 to 1.
_GPU_AT_LEAST = 2.0
_PROBE_CPU_FRAMES = 8
_PROBE_RUNS = 3


class Encoder(Protocol):
    """One executor thread's encoder; not shared between threads.

    buffer: (max_batch_frames, H, W, 3), writable: the one place that frames are copied to.
    """

    runtime: Runtime
    precision: Precision
    feature_size: int
    buffer: NDArray[np.uint8]

    def run(self, num_frames: int, at: int = 0) -> NDArray[np.float32]:
        """Features (num_frames, D) of `buffer[at : at + num_frames]`, the caller's own.

        Raises ValueError where the buffer ends before, and DeviceLost when all is lost.
        """


def open_encoders(
    path: Path,
    document: EncoderDocument,
    runtime: Runtime,
    precision: Precision,
    *,
    count: int,
    max_batch_frames: int,
    gpu_memory_bytes: int | None = None,
) -> list[Encoder]:
    """Encoders for `count` threads, on the weights once. path: of encoder.onnx; fp16 reads encoder.fp16.onnx beside it.

    gpu_memory_bytes: most that the GPU's arena may take. Raises NotReady.
    """
    if precision == "fp16":
        if document.fp16_sha256 is None:
            raise NotReady(f"encoder {document.name} has no float16 graph; export with --fp16")
        path = path.with_name("encoder.fp16.onnx")
    if runtime == "openvino-cpu":
        return [*open_openvino_encoders(path, document, precision, count=count, max_batch_frames=max_batch_frames)]
    return [
        *open_onnx_encoders(
            path,
            document,
            runtime,
            precision,
            count=count,
            max_batch_frames=max_batch_frames,
            gpu_memory_bytes=gpu_memory_bytes,
        )
    ]


def check_placement(encoder: Encoder, path: Path, document: EncoderDocument, *, require_gpu: bool) -> float | None:
    """Time a warm batch of a GPU's encoder against one CPU thread's; returns how many times as fast; None on a CPU.

    A provider that is named may still leave nodes to the CPU, or sit on a GPU that does nothing. Raises NotReady then
    with `require_gpu`, else warns. path: of encoder.onnx. Tested with times made up: never run on a GPU.
    """
    if encoder.runtime not in GPU_RUNTIMES:
        return None
    cpu_frames = min(_PROBE_CPU_FRAMES, len(encoder.buffer))
    [on_cpu] = open_encoders(path, document, "onnxruntime-cpu", "fp32", count=1, max_batch_frames=cpu_frames)
    gpu_seconds, cpu_seconds = _frame_seconds(encoder, _PROBE_RUNS), _frame_seconds(on_cpu, _PROBE_RUNS)
    if problem := misplaced(encoder.runtime, gpu_seconds, cpu_seconds):
        if require_gpu:
            raise NotReady(f"require_gpu is set, and {problem}")
        log.warning(problem)
    return cpu_seconds / gpu_seconds


def misplaced(runtime: Runtime, gpu_seconds: float, cpu_seconds: float) -> str:
    """What is wrong with a GPU that takes `gpu_seconds` a frame where a CPU thread takes `cpu_seconds`; or empty."""
    if cpu_seconds >= _GPU_AT_LEAST * gpu_seconds:
        return ""
    return (
        f"{runtime} takes {gpu_seconds * 1e3:.3g} ms a frame and one CPU thread {cpu_seconds * 1e3:.3g} ms: the graph "
        "is not on the GPU, or the GPU is taken; see the certificate's placement and nvidia-smi"
    )


def _frame_seconds(encoder: Encoder, runs: int) -> float:
    """Seconds a frame of a full buffer, the best of some runs."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        encoder.run(len(encoder.buffer))
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(encoder.buffer)
