"""Errors of a device that nothing in this process mends: it has to be started again."""

from __future__ import annotations

import re

# Codes of which the CUDA Runtime API says that they leave "the process in an inconsistent state and any further CUDA
# work will return the same error. To continue using CUDA, the process must be terminated and relaunched", or that the
# context is gone: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html (cudaError).
_STICKY_CODES = {
    "214": "ECCUncorrectable",
    "220": "NvlinkUncorrectable",
    "700": "IllegalAddress",
    "702": "LaunchTimeout",
    "709": "ContextIsDestroyed",
    "710": "Assert",
    "714": "HardwareStackError",
    "715": "IllegalInstruction",
    "716": "MisalignedAddress",
    "717": "InvalidAddressSpace",
    "718": "InvalidPc",
    "719": "LaunchFailure",
    "721": "Contained",
    "999": "Unknown",  # not said to be sticky; a GPU that fell off the bus answers it to everything
}
# What cudaGetErrorString says of the same; TensorRT and cuDNN pass on the words without the number.
_STICKY_WORDS = (
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "context is destroyed",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "invalid/unsupported memory (contained)",
    "gpu is lost",
    "device removed",
    "device_removed",
)
_CODE = re.compile(r"\b(?:CUDA|Cuda) (?:failure|error):? (\d+)\b|\bcudaError(\w+)")


class DeviceLost(Exception):
    """The device answers every call with an error until the process is started again."""


def is_sticky(error: BaseException) -> bool:
    """Whether a runtime's error means that the process has lost its device.

    Read from its text, as ONNX Runtime has no class for it. Want of memory is not sticky, nor is a bare failure of
    cuDNN, cuBLAS or TensorRT: where the device is lost, the retry fails in its first copy, with CUDA's own words.
    """
    text = str(error)
    names = set(_STICKY_CODES.values())
    if any(code in _STICKY_CODES or name in names for code, name in _CODE.findall(text)):
        return True
    lowered = text.lower()
    return any(words in lowered for words in _STICKY_WORDS)
