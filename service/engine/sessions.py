"""ONNX Runtime sessions: providers and threads in one place."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from service.bundle import CertificateDocument, Runtime
from service.errors import NotReady

log = logging.getLogger(__name__)

# In order of preference; what the first does not take goes to the next. TF32 would keep 11 bits of float32's 24.
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
_PROVIDERS: dict[Runtime, list[tuple[str, dict[str, str]]]] = {
    "onnxruntime-cpu": [("CPUExecutionProvider", {})],
    "onnxruntime-cuda": [_CUDA, ("CPUExecutionProvider", {})],
    "onnxruntime-tensorrt": [("TensorrtExecutionProvider", {}), _CUDA, ("CPUExecutionProvider", {})],
}


def choose_runtime(wanted: Literal["auto", "cpu", "cuda"], certificate: CertificateDocument) -> Runtime:
    """The runtime to serve a bundle on: present on this machine and proven by the certificate.

    Raises NotReady when the one asked for by name is absent or unproven: no silent fallback.
    """
    if wanted == "cpu":
        return _proven("onnxruntime-cpu", certificate)
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN of their own wheels; without it a silent fall to the CPU
    present = "CUDAExecutionProvider" in ort.get_available_providers()
    if wanted == "cuda":
        if not present:
            raise NotReady(
                "runtime is cuda, but ONNX Runtime has no CUDA provider here; install requirements/serve-gpu.txt"
            )
        return _proven("onnxruntime-cuda", certificate)
    if present and certificate.covers("onnxruntime-cuda", "fp32"):
        return "onnxruntime-cuda"
    if present:
        log.warning("a CUDA provider is here, but the certificate proves nothing for it: serving on the CPU")
    return _proven("onnxruntime-cpu", certificate)


def provider_of(runtime: Runtime) -> str:
    """ONNX Runtime's name of the provider that a runtime is named after."""
    return _PROVIDERS[runtime][0][0]


def open_session(
    path: Path, runtime: Runtime, num_threads: int = 1, profile_prefix: Path | None = None
) -> ort.InferenceSession:
    """A session on one provider, without spinning threads; with `profile_prefix` it writes which node ran where.

    Small batches, one thread each, a thread a core, beat large batches on many threads on a CPU. `run` may be
    called from many threads at once.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    session = ort.InferenceSession(str(path), options, providers=_PROVIDERS[runtime])
    if session.get_providers()[0] != provider_of(runtime):
        raise NotReady(f"{path.name} runs on {session.get_providers()[0]}, not on {provider_of(runtime)}")
    return session


def _proven(runtime: Runtime, certificate: CertificateDocument) -> Runtime:
    if not certificate.covers(runtime, "fp32"):
        raise NotReady(f"the certificate proves nothing for {runtime} fp32; export on a machine that has it")
    return runtime
