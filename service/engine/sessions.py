"""ONNX Runtime sessions: providers and threads in one place."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from service.bundle import CertificateDocument, Runtime
from service.errors import NotReady

log = logging.getLogger(__name__)

_PROVIDERS: dict[str, str] = {"onnxruntime-cpu": "CPUExecutionProvider", "onnxruntime-cuda": "CUDAExecutionProvider"}


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


def open_session(path: Path, runtime: Runtime, num_threads: int = 1) -> ort.InferenceSession:
    """A session that runs wholly on one provider, without spinning threads.

    Small batches, one thread each, a thread a core, beat large batches on many threads on a CPU. `run` may be
    called from many threads at once.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = _PROVIDERS[runtime]
    providers = [provider] if provider == "CPUExecutionProvider" else [provider, "CPUExecutionProvider"]
    session = ort.InferenceSession(str(path), options, providers=providers)
    if session.get_providers()[0] != provider:
        raise NotReady(f"{path.name} runs on {session.get_providers()[0]}, not on {provider}")
    return session


def _proven(runtime: Runtime, certificate: CertificateDocument) -> Runtime:
    if not certificate.covers(runtime, "fp32"):
        raise NotReady(f"the certificate proves nothing for {runtime} fp32; export on a machine that has it")
    return runtime
