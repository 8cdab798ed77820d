"""Batch norms folded into convolutions, where the network really runs one after the other."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

# Of the largest feature, in float32: folding rounds each weight once.
TOLERANCE = 1e-4


def folded(encoder: nn.Module, frame_height: int, frame_width: int) -> nn.Module:
    """A copy for inference: each batch norm folded into the convolution before it, channels-last weights.

    Equal to the original up to rounding, and several times faster on a CPU. It is held against the original once, on
    random frames of this size in pixels; where it is further off than `TOLERANCE`, nothing is folded.
    """
    encoder = copy.deepcopy(encoder).eval()
    random = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, frame_height, frame_width, 3), dtype=torch.uint8, generator=random)
    frames = frames.to(next((values.device for values in encoder.parameters()), "cpu"))
    with torch.inference_mode():
        wanted, pairs = _watched(encoder, frames)
    fast = copy.deepcopy(encoder)
    for conv_path, norm_path in pairs:
        conv, norm = fast.get_submodule(conv_path), fast.get_submodule(norm_path)
        fast.set_submodule(conv_path, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
        fast.set_submodule(norm_path, nn.Identity())
    fast = fast.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        off = (fast(frames) - wanted).abs().max() / wanted.abs().max()
    return fast if bool(off <= TOLERANCE) else encoder.to(memory_format=torch.channels_last)


def _watched(encoder: nn.Module, frames: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """The features, and the paths of each convolution and the batch norm that alone reads what it gives.

    Read from a run, not from the order of the modules: there, a norm before a convolution looks like one behind it.
    """
    made: dict[int, tuple[str, Tensor]] = {}
    read: dict[str, int] = {}
    runs: Counter[str] = Counter()

    def of_conv(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            runs[path] += 1
            made[id(output)] = (path, output)

        return hook

    def of_norm(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            runs[path] += 1
            read[path] = id(inputs[0])

        return hook

    handles = []
    for path, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(of_conv(path)))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(of_norm(path)))
    with _Uses() as uses:
        features: Tensor = encoder(frames)
    for handle in handles:
        handle.remove()
    pairs = [(made[tensor][0], norm, tensor) for norm, tensor in read.items() if tensor in made]
    return features, [
        (conv, norm) for conv, norm, tensor in pairs if runs[conv] == runs[norm] == 1 and uses.counts[tensor] == 1
    ]


class _Uses(TorchFunctionMode):
    """How many operations read each tensor, by its id; in-place ones among them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self._kept: list[Tensor] = []  # so that no id is given twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if _holds_tensors(result):  # sizes are read by anyone
            for value in (*args, *(kwargs or {}).values()):
                for part in value if isinstance(value, (list, tuple)) else (value,):
                    if isinstance(part, Tensor):
                        self.counts[id(part)] += 1
                        self._kept.append(part)
        return result


def _holds_tensors(result: Any) -> bool:
    return any(isinstance(part, Tensor) for part in (result if isinstance(result, (list, tuple)) else (result,)))
