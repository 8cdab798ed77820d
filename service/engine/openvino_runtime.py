"""OpenVINO: the same encoder.onnx on its CPU plugin, which also computes in bf16 where the CPU can.

Encoders only: with symbolic axes its recurrent layers ignore `sequence_lens`, without a word (CONTRIBUTING, Decisions).
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import EncoderDocument, Precision, Runtime
from service.errors import NotReady

log = logging.getLogger(__name__)

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


def absent() -> str:
    """Why OpenVINO can't serve here; empty where it can."""
    if importlib.util.find_spec("openvino") is None:
        return "the package openvino is not installed; install the extra: requirements/serve-openvino.txt"
    return ""


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU (AVX512-BF16, AMX); asked for it elsewhere, it computes in fp32."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_encoder(path: Path, precision: Precision, count: int) -> Any:
    """The graph for `count` threads at once, a core each. Raises NotReady without OpenVINO, RuntimeError of its own."""
    if reason := absent():
        raise NotReady(reason)
    import openvino as ov

    core = ov.Core()
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],  # its default is bf16 where the CPU has it
        "NUM_STREAMS": count,
        "INFERENCE_NUM_THREADS": count,
        "ENABLE_CPU_PINNING": False,  # decoders and other processes run on the same cores
    }
    return core.compile_model(core.read_model(path), "CPU", options)


class OpenVinoEncoder:
    """One thread's encoder: its own infer request, which reads the buffer where it lies.

    The caller waits while one of the compiled graph's own threads computes. A number of frames that such a thread has
    not met yet costs it several times as long, once: warm all encoders up at the same time (`BatchSizes.timed`).
    """

    runtime: Runtime = "openvino-cpu"

    def __init__(self, request: Any, document: EncoderDocument, precision: Precision, max_batch_frames: int) -> None:
        self.precision = precision
        self.feature_size = document.feature_size
        self.buffer: NDArray[np.uint8] = np.zeros(
            (max_batch_frames, document.frame_height, document.frame_width, 3), np.uint8
        )
        self._request = request
        self._tensors: dict[tuple[int, int], Any] = {}

    def run(self, num_frames: int, at: int = 0) -> NDArray[np.float32]:
        """Features (num_frames, D) float32 of the buffer's frames from `at` on. Raises RuntimeError of OpenVINO.

        num_frames: from 1 to what the buffer has there; ValueError beyond.
        """
        frames = self.buffer[at : at + num_frames]
        if not 0 < num_frames == len(frames):
            raise ValueError(f"num_frames {num_frames} is not from 1 to {len(self.buffer) - at}")
        if (at, num_frames) not in self._tensors:
            import openvino as ov

            self._tensors[at, num_frames] = ov.Tensor(frames, shared_memory=True)
        self._request.set_tensor("frames", self._tensors[at, num_frames])
        self._request.infer()
        features: NDArray[np.float32] = self._request.get_tensor("features").data.copy()
        if features.shape != (num_frames, self.feature_size):
            raise RuntimeError(f"{features.shape} for {num_frames} frames, not ({num_frames}, {self.feature_size})")
        return features


def open_openvino_encoders(
    path: Path, document: EncoderDocument, precision: Precision, *, count: int, max_batch_frames: int
) -> list[OpenVinoEncoder]:
    """Encoders for `count` threads on one compiled graph: the weights are there once."""
    compiled = compile_encoder(path, precision, count)
    computed = precision
    if precision == "bf16" and not has_bf16():
        log.warning("encode_precision is bf16, which this CPU lacks: OpenVINO computes in fp32, closer but no faster")
        computed = "fp32"
    return [
        OpenVinoEncoder(compiled.create_infer_request(), document, computed, max_batch_frames) for _ in range(count)
    ]
