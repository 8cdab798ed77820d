"""Training that goes on where it was cut off: its state after each epoch, in one file beside the checkpoint."""

from __future__ import annotations

import os
import pickle  # only for the name of its error: weights_only loads no code
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import ModelsError

_FORMAT = 2  # 1 had no generator of a GPU


class ResumeError(ModelsError):
    """The state that is there can't be gone on from; the message says why, and what to do."""


def chance_of(device: torch.device) -> dict[str, Tensor]:
    """The generators that dropout draws from: torch's own, and that of the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_chance(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """As `chance_of` gave them."""
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])


class Keeper:
    """One file with the state of each phase of a training (early stopping, the last one).

    path: of the file. key: what the training is of, as JSON: recipe, data, code's format. resume: go on from what is
    there, if it is of the same key; otherwise what is there is overwritten by the first epoch.
    """

    def __init__(self, path: Path, key: str, *, resume: bool) -> None:
        self.path = path
        self._key = key
        self._phases: dict[str, Any] = self._read() if resume and path.exists() else {}

    @property
    def found(self) -> dict[str, int]:
        """Epochs that are done, by phase."""
        return {phase: len(state["result"]["curve"]) for phase, state in self._phases.items()}

    def load(self, phase: str) -> dict[str, Any] | None:
        """What was kept of the phase."""
        state: dict[str, Any] | None = self._phases.get(phase)
        return state

    def save(self, phase: str, state: dict[str, Any]) -> None:
        """Written aside, flushed to the disk, then renamed: whatever ends the process, one whole state is there."""
        self._phases[phase] = state
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        with aside.open("wb") as file:
            torch.save({"format": _FORMAT, "key": self._key, "phases": self._phases}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def remove(self) -> None:
        """When the checkpoint is written."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        remedy = f"remove {self.path}, or train without --resume"
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (KeyError, EOFError, RuntimeError, ValueError, struct.error, pickle.UnpicklingError) as error:
            raise ResumeError(f"{self.path} is no state of a training ({type(error).__name__}); {remedy}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ResumeError(f"{self.path} is no state of a training of format {_FORMAT}; {remedy}")
        if content["key"] != self._key:
            raise ResumeError(
                f"{self.path} is of a training with another recipe, other clips, another encoder or device; {remedy}"
            )
        phases: dict[str, Any] = content["phases"]
        return phases
