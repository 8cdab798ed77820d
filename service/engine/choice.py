"""Which runtime an encoder is served on: the first that is preferred, here, and proven."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from service.bundle import GPU_RUNTIMES, ModelDocument, Precision, Runtime
from service.certificate import CertificateDocument
from service.engine import onnx_runtime, openvino_runtime
from service.engine.preferences import AUTO
from service.errors import NotReady

log = logging.getLogger(__name__)


def choose_runtime(
    preferences: Sequence[Runtime],
    precision: Precision,
    certificate: CertificateDocument,
    model: ModelDocument,
    *,
    require_gpu: bool = False,
) -> Runtime:
    """The first runtime of `preferences` that is present on this machine and proven at this precision.

    A later one than the first is logged with the reasons. Raises NotReady, with them, when none is left: what is asked
    for alone, by name, is never replaced.
    """
    reasons: list[str] = []
    for runtime in preferences:
        reason = _why_not(runtime, precision, certificate, model, require_gpu=require_gpu)
        if not reason:
            if reasons:
                # `auto` asks for a GPU only if there is one.
                expected = tuple(preferences) == AUTO and absent(AUTO[0])
                log.log(logging.INFO if expected else logging.WARNING, "%s: serving on %s", "; ".join(reasons), runtime)
            return runtime
        reasons.append(reason)
    raise NotReady("; ".join(reasons))


def absent(runtime: Runtime) -> str:
    """Why a runtime is not present on this machine; empty where it is."""
    return openvino_runtime.absent() if runtime == "openvino-cpu" else onnx_runtime.absent(runtime)


def _why_not(
    runtime: Runtime,
    precision: Precision,
    certificate: CertificateDocument,
    model: ModelDocument,
    *,
    require_gpu: bool,
) -> str:
    if require_gpu and runtime not in GPU_RUNTIMES:
        return f"require_gpu is set, and {runtime} is on no GPU"
    if reason := absent(runtime):
        return f"runtime {runtime} is not here: {reason}"
    if missing := certificate.missing(runtime, precision, model):
        return f"the certificate does not prove {runtime} {precision} ({missing}); export on a machine that has it"
    return ""
