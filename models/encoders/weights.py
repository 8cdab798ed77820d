"""Weights of encoders: those that are published, those of a file, or none."""

from __future__ import annotations

import hashlib
import pickle  # only for the name of its error: weights_only loads no code
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.encoders.kind import EncoderError, EncoderKind, Network, Origin

# How many keys of each kind an error names.
_NAMED = 3


def load_weights(kind: EncoderKind, network: Network, weights: str | Path) -> Origin:
    """Fill `network.cnn` as `models.encoders.build` says, and tell where the weights come from."""
    if str(weights) == "random":
        return Origin("random numbers, not trained", "none")
    if str(weights) == "pretrained":
        if kind.pretrained is None or kind.published is None:
            raise EncoderError(
                f"nobody publishes weights of {kind.name}: give a file (--weights PATH), or begin with random numbers "
                "(--weights random)"
            )
        state, said, origin = kind.pretrained(), f"what is published of {kind.name}", kind.published
    else:
        path = Path(weights)
        state, said = read_state(path), str(path)
        origin = Origin(f"{path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}", "not stated")
    kept = {f"{network.prefix}{key}": values for key, values in state.items() if not key.startswith(network.dropped)}
    load_exactly(network.cnn, kept, f"{said} for {kind.name}")
    return origin


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, without running code. Raises EncoderError."""
    if not path.is_file():
        raise EncoderError(f"weights {path}: there is no such file; `pretrained` and `random` are the other choices")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (KeyError, EOFError, RuntimeError, ValueError, struct.error, pickle.UnpicklingError) as error:
        raise EncoderError(
            f"weights {path} are not a state dict ({type(error).__name__}): save `model.state_dict()` with torch.save"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(values, Tensor) for values in content.values()):
        raise EncoderError(f"weights {path} are not tensors by name: save `model.state_dict()` with torch.save")
    return content


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], said: str) -> None:
    """Copy a state dict, called `said` in errors, into `module`: the same keys and shapes. Raises EncoderError.

    Counters of batch norms may be missing: files of before PyTorch 0.4 have none, and nothing reads them in eval mode.
    """
    wanted = module.state_dict()
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    faults = [
        _listed("missing", [key for key in needed if key not in state]),
        _listed("unexpected", [key for key in state if key not in wanted]),
        _listed("of another shape", shapes),
    ]
    if any(faults):
        raise EncoderError(f"the weights do not fit, {said}: {'; '.join(filter(None, faults))}")
    with torch.no_grad():
        for key, values in state.items():
            wanted[key].copy_(values)


def _listed(what: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{what}: {', '.join(keys[:_NAMED])}{more}" if keys else ""
