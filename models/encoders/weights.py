"""Weights of encoders: those that are published, those of a file, or none."""

from __future__ import annotations

import hashlib
import pickle  # only for the name of its error: weights_only loads no code
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.kind import EncoderError, EncoderKind, Network, Origin

# Of a checkpoint of ours (`models.checkpoint`) what its encoder's weights are called.
_ENCODER = "encoder_state"
_OF_CHECKPOINT = {_ENCODER, "encoder_name", "name", "training"}
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
        path, content = Path(weights), _content(Path(weights))
        if content.keys() >= _OF_CHECKPOINT:
            return _load_trained(kind, network, path, content)
        state, said = _state(path, content), str(path)
        origin = Origin(f"{path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}", "not stated")
    kept = {f"{network.prefix}{key}": values for key, values in state.items() if not key.startswith(network.dropped)}
    load_exactly(network.cnn, kept, f"{said} for {kind.name}")
    return origin


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, without running code. Raises EncoderError."""
    return _state(path, _content(path))


def _load_trained(kind: EncoderKind, network: Network, path: Path, content: Mapping[str, Any]) -> Origin:
    """The encoder of a checkpoint of ours, as it was trained with its head: another head may share it."""
    name, state = content["encoder_name"], dict(content[_ENCODER])
    if name != kind.name:
        raise EncoderError(f"weights {path} are a checkpoint with the encoder {name}, not {kind.name}: name that one")
    for buffer, values in (("mean", kind.mean), ("std", kind.std)):
        if not torch.equal(state.pop(buffer, torch.tensor(values)).flatten(), torch.tensor(values)):
            raise EncoderError(f"weights {path}: its {buffer} of pixels is not that of {name}, {values}")
    load_exactly(network.cnn, {key.removeprefix("cnn."): values for key, values in state.items()}, str(path))
    return replace(origin_after(content["training"], content["name"]), seen=frozenset(content.get("encoder_saw", ())))


def origin_after(training: Mapping[str, Any], name: str, before: Mapping[str, str] | None = None) -> Origin:
    """Of the encoder's weights after a training, whose record a checkpoint of the model `name` has.

    before: where it does not say which weights it began with.
    """
    began = training.get("encoder_weights") or before or {"source": "not stated", "licence": "not stated"}
    if training.get("encoder", "frozen") == "frozen":
        return Origin(began["source"], began["licence"], began.get("model", ""))
    on = training.get("data", "data that is not named")
    return Origin(f"{began['source']}, {training['encoder']} on {on}", began["licence"], name)


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise EncoderError(f"weights {path}: there is no such file; `pretrained` and `random` are the other choices")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (KeyError, EOFError, RuntimeError, ValueError, struct.error, pickle.UnpicklingError) as error:
        raise EncoderError(
            f"weights {path} are not a state dict ({type(error).__name__}): save `model.state_dict()` with torch.save"
        ) from error
    if not isinstance(content, dict):
        raise EncoderError(f"weights {path} are not tensors by name: save `model.state_dict()` with torch.save")
    return content


def _state(path: Path, content: Mapping[str, Any]) -> Mapping[str, Tensor]:
    if not all(isinstance(values, Tensor) for values in content.values()):
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
