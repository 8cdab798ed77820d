"""Training that is killed goes on bit for bit; what is not of the same training is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.parts import Parts
from models.data.windowed import WindowSet, windowed
from models.fit import Machine
from models.fit_result import FitResult
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.resume import Keeper, ResumeError, chance_of, restore_chance
from models.twice import train_twice
from service.video.spec import ClipSpec
from tests.server import ROOT

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64, window_frames=8, stride_frames=4)
HEAD = HeadSettings(hidden_size=8, num_layers=2, dropout=0.2)
SETTINGS = {
    "adamw": FitSettings(epochs=4, patience=4, batch_windows=8),
    "sgd": FitSettings(
        epochs=4, patience=4, batch_windows=8, optimizer="SGD", optimizer_options={"momentum": 0.9},
        schedule="StepLR", schedule_options={"step_size": 2}, learning_rate=0.1, gradient_value=0.5,
    ),
    "steps": FitSettings(
        epochs=4, patience=4, batch_windows=8, optimizer_options={"betas": [0.8, 0.99]},
        schedule="MultiStepLR", schedule_options={"milestones": [1, 3], "gamma": 0.5},
    ),
    "plateau": FitSettings(
        epochs=4, patience=4, batch_windows=8, optimizer="Adagrad", schedule="ReduceLROnPlateau",
        schedule_options={"patience": 0}, truncate_ticks=3,
    ),
}  # fmt: skip


def drawn(count: int) -> WindowSet:
    random = np.random.default_rng(count)
    rows = [random.normal(size=(random.integers(4, 20), 4)).astype(np.float32) for _ in range(count)]
    return windowed(rows, torch.tensor([index % 2 for index in range(count)]), SPEC)


def trained(settings: FitSettings, machine: Machine) -> tuple[dict[str, torch.Tensor], FitResult]:
    def fresh() -> torch.nn.Module:
        torch.manual_seed(5)
        return HEAD.build(4, 2)

    parts = Parts(drawn(20), drawn(10), drawn(30), None, [])
    model, result = train_twice(fresh, parts, settings, 5, machine=machine)
    return model.state_dict(), result


def main() -> None:
    """Of a process that kills itself after so many epochs: name of settings, file of the state, epochs."""
    name, state, epochs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    keeper = Keeper(state, "key", resume=True)
    left = epochs

    class Killing(Keeper):
        def save(self, phase: str, content: dict[str, object]) -> None:
            nonlocal left
            super().save(phase, content)
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    keeper.__class__ = Killing
    trained(SETTINGS[name], Machine(keeper=keeper))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_is_killed_twice_is_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    """Once in early stopping, once in the last training."""
    wanted, result = trained(SETTINGS[name], Machine())
    state = tmp_path / "state"
    for epochs in (2, len(result.curve) - 2 + 1):
        if epochs > 0:
            program = "from tests.models.test_resume import main; main()"
            command = [sys.executable, "-c", program, name, str(state), str(epochs)]
            assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    keeper = Keeper(state, "key", resume=True)
    assert keeper.found == {"early stopping": len(result.curve), "the last training, on all clips": 1}
    found, again = trained(SETTINGS[name], Machine(keeper=keeper))
    assert again.curve == result.curve
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert not list(tmp_path.glob("*.part"))


class CutOff(Exception):
    """Where a process would have been killed."""


def test_a_gpu_s_generator_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws from it there. Another CPU generator stands for it."""
    of_gpu = torch.Generator().manual_seed(3)

    class Module:
        get_rng_state = staticmethod(of_gpu.get_state)
        set_rng_state = staticmethod(of_gpu.set_state)

    monkeypatch.setattr(torch, "get_device_module", lambda _device: Module)
    state = tmp_path / "state"
    Keeper(state, "key", resume=False).save(
        "phase", {"result": {"curve": []}, "chance": chance_of(torch.device("cuda"))}
    )
    wanted = [torch.rand(3), torch.rand(3, generator=of_gpu)]
    found = Keeper(state, "key", resume=True).load("phase")
    assert found is not None
    restore_chance(torch.device("cuda"), found["chance"])
    assert torch.equal(wanted[0], torch.rand(3))
    assert torch.equal(wanted[1], torch.rand(3, generator=of_gpu))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA")
def test_a_training_on_a_gpu_that_is_cut_off_is_the_same_to_the_bit(tmp_path: Path) -> None:
    device = torch.device("cuda")
    wanted, result = trained(SETTINGS["adamw"], Machine(device))

    class Cut(Keeper):
        def save(self, phase: str, content: dict[str, object]) -> None:
            super().save(phase, content)
            raise CutOff

    for _ in range(3):
        with pytest.raises(CutOff):
            trained(SETTINGS["adamw"], Machine(device, Cut(tmp_path / "state", "key", resume=True)))
    found, again = trained(SETTINGS["adamw"], Machine(device, Keeper(tmp_path / "state", "key", resume=True)))
    assert again.curve == result.curve
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_what_is_there_is_kept_only_where_it_is_asked_for(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Keeper(state, "key", resume=False).save("phase", {"result": {"curve": [{}]}})
    assert Keeper(state, "key", resume=False).found == {}
    assert Keeper(state, "key", resume=True).found == {"phase": 1}
    with pytest.raises(ResumeError, match=r"another recipe, other clips, another encoder or device; remove .*state"):
        Keeper(state, "other", resume=True)


@pytest.mark.parametrize("content", [b"", b"no torch file", b"PK\x03\x04 half a file"])
def test_a_file_that_is_no_state_is_refused(content: bytes, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_bytes(content)
    with pytest.raises(ResumeError, match="is no state of a training"):
        Keeper(state, "key", resume=True)
