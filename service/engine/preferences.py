"""The setting `runtime`: an ordered list of runtimes."""

from __future__ import annotations

from typing import get_args

from service.bundle import Runtime

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
# TensorRT and OpenVINO only when they are named: the one builds engines at start for minutes, and both are further
# from the arithmetic that every certificate has.
AUTO: tuple[Runtime, ...] = ("onnxruntime-cuda", "onnxruntime-cpu")
_ALIASES: dict[str, tuple[Runtime, ...]] = {
    "auto": AUTO,
    "cpu": ("onnxruntime-cpu",),
    "cuda": ("onnxruntime-cuda",),
    **{runtime: (runtime,) for runtime in RUNTIMES},
}


def preferences(text: str) -> tuple[Runtime, ...]:
    """`a,b,…` as runtimes, best first, each once. Raises ValueError for a name that is none."""
    found: dict[Runtime, None] = {}
    for name in (part.strip() for part in text.split(",")):
        if name not in _ALIASES:
            raise ValueError(f"{name!r} is no runtime; there are: {', '.join(_ALIASES)}")
        found |= dict.fromkeys(_ALIASES[name])
    return tuple(found)
