"""Curves in TensorBoard's own files, and devices that are there or not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.data.windowed import windowed
from models.errors import ModelsError
from models.fit import Machine, fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.options import device_of
from models.tracking import tracked
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)


def test_what_tensorboard_reads_is_the_curve(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [random.normal(size=(6, 4)).astype(np.float32) for _ in range(8)]
    windows = windowed(rows, torch.tensor([0, 1] * 4), SPEC)
    torch.manual_seed(0)
    with tracked(tmp_path / "board") as track:
        model = HeadSettings(hidden_size=4).build(4, 2)
        result = fit(model, windows, windows, FitSettings(epochs=3), seed=0, machine=Machine(track=track))
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    for name in ("train_loss", "validation_loss", "validation_figure", "gradient_norm", "learning_rate"):
        events = board.Scalars(f"early stopping/{name}")
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx([line[name] for line in result.curve], rel=1e-5)


def test_without_tensorboard_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModelsError, match="not installed: pip install tensorboard"), tracked(tmp_path):
        pass


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(ModelsError, match=r"--device cuda: PyTorch .* has none here; it has cpu"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == torch.device("cuda")
