"""ONNX Runtime: providers, threads and sessions; the encoder on them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.bundle import GPU_RUNTIMES, EncoderDocument, Precision, Runtime
from service.engine.device_errors import DeviceLost, is_sticky
from service.engine.pinned import page_lock
from service.errors import NotReady

# What a runtime's own provider does not take goes to the next.
_PROVIDERS: dict[Runtime, tuple[str, ...]] = {
    "onnxruntime-cpu": ("CPUExecutionProvider",),
    "onnxruntime-cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
# ONNX: one Identity of a float, opset 17. A provider says only in a session whether its device and libraries are here.
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


def provider_of(runtime: Runtime) -> str:
    """ONNX Runtime's name of the provider that a runtime is named after."""
    return _PROVIDERS[runtime][0]


@functools.cache
def absent(runtime: Runtime) -> str:
    """Why ONNX Runtime can't serve on this runtime here; empty where it can."""
    provider = provider_of(runtime)
    if runtime in GPU_RUNTIMES and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN of their own wheels; without it a silent fall to the CPU
    if provider not in ort.get_available_providers():
        return f"ONNX Runtime has no {provider} here; install requirements/serve-gpu.txt"
    if ort.InferenceSession(_IDENTITY, providers=_providers(runtime)).get_providers()[0] != provider:
        return f"ONNX Runtime's {provider} finds no device, or not its libraries"
    return ""


def open_session(
    path: Path,
    runtime: Runtime,
    num_threads: int = 1,
    profile_prefix: Path | None = None,
    *,
    precision: Precision = "fp32",
    gpu_memory_bytes: int | None = None,
) -> ort.InferenceSession:
    """A session on one provider, without spinning threads; with `profile_prefix` it writes which node ran where.

    Small batches, one thread each, a thread a core, beat large batches on many threads on a CPU. `run` may be
    called from many threads at once. Raises NotReady when it falls to another provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    session = ort.InferenceSession(str(path), options, providers=_providers(runtime, precision, gpu_memory_bytes))
    if session.get_providers()[0] != provider_of(runtime):
        raise NotReady(f"{path.name} runs on {session.get_providers()[0]}, not on {provider_of(runtime)}")
    return session


class OnnxEncoder:
    """One thread's encoder: its own buffer, bound as it lies to a session that others may share.

    On a CPU the graph reads the buffer itself; on a GPU the buffer is page-locked, and copied by the device. The
    features are written where the caller gets them.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        document: EncoderDocument,
        runtime: Runtime,
        precision: Precision,
        max_batch_frames: int,
    ) -> None:
        self.runtime = runtime
        self.precision = precision
        self.feature_size = document.feature_size
        self.buffer: NDArray[np.uint8] = np.zeros(
            (max_batch_frames, document.frame_height, document.frame_width, 3), np.uint8
        )
        self._session = session
        self._binding = session.io_binding()
        if runtime in GPU_RUNTIMES:
            page_lock(self.buffer)

    def run(self, num_frames: int, at: int = 0) -> NDArray[np.float32]:
        """Features (num_frames, D) float32 of the buffer's frames from `at` on.

        Raises DeviceLost; else what is worth a retry.

        num_frames: from 1 to what the buffer has there; ValueError beyond.
        """
        frames = self.buffer[at : at + num_frames]
        if not 0 < num_frames == len(frames):
            raise ValueError(f"num_frames {num_frames} is not from 1 to {len(self.buffer) - at}")
        features = np.empty((num_frames, self.feature_size), np.float32)
        self._binding.bind_input("frames", "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
        self._binding.bind_output("features", "cpu", 0, np.float32, features.shape, features.ctypes.data)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            if is_sticky(error):
                raise DeviceLost(f"{self.runtime}: {error}") from error
            raise
        return features


def open_onnx_encoders(
    path: Path,
    document: EncoderDocument,
    runtime: Runtime,
    precision: Precision,
    *,
    count: int,
    max_batch_frames: int,
    gpu_memory_bytes: int | None = None,
) -> list[OnnxEncoder]:
    """Encoders for `count` threads on one session: the weights are there once, and a run takes the caller's thread."""
    session = open_session(path, runtime, precision=precision, gpu_memory_bytes=gpu_memory_bytes)
    return [OnnxEncoder(session, document, runtime, precision, max_batch_frames) for _ in range(count)]


def _providers(
    runtime: Runtime, precision: Precision = "fp32", gpu_memory_bytes: int | None = None
) -> list[tuple[str, dict[str, str]]]:
    cuda = {"use_tf32": "0"}  # TF32 would keep 11 bits of float32's 24
    if gpu_memory_bytes is not None:
        # Without the second the arena doubles each time, up to the limit, whatever is asked for (onnxruntime#9509).
        cuda |= {"gpu_mem_limit": str(gpu_memory_bytes), "arena_extend_strategy": "kSameAsRequested"}
    options = {
        "CUDAExecutionProvider": cuda,
        "TensorrtExecutionProvider": {"trt_fp16_enable": "1"} if precision == "fp16" else {},
    }
    return [(name, options.get(name, {})) for name in _PROVIDERS[runtime]]
