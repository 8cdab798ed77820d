"""Page-locked host memory: a GPU copies from it by itself, several times as fast as from memory that may be moved."""

from __future__ import annotations

import ctypes
import logging
import weakref

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

# ONNX Runtime has loaded one of these by then, and the loader gives back the same.
_CUDA_RUNTIMES = ("libcudart.so.13", "libcudart.so.12")
_PORTABLE = 1  # cudaHostRegisterPortable: for every context


def page_lock(buffer: NDArray[np.uint8]) -> bool:
    """Lock a buffer in memory with cudaHostRegister until it goes; says whether that was done, and in the log if not.

    ONNX Runtime's Python interface has no allocator for such memory in its CUDA provider. Where it can't be locked,
    copies are slower and as correct. Never run on a GPU.
    https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html
    """
    cudart = _cuda_runtime()
    address = ctypes.c_void_p(buffer.ctypes.data)
    code = cudart.cudaHostRegister(address, ctypes.c_size_t(buffer.nbytes), _PORTABLE) if cudart else -1
    if cudart is None or code:
        log.warning("frames are copied to the GPU from memory that is not page-locked (cudaHostRegister: %d)", code)
        return False
    weakref.finalize(buffer, cudart.cudaHostUnregister, address).atexit = False  # the driver may be gone before us
    return True


def _cuda_runtime() -> ctypes.CDLL | None:
    for name in _CUDA_RUNTIMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
