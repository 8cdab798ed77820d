"""Temperature, calibration error and the threshold of `none of them`, against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.calibration import calibrate, cool, expected_calibration_error
from models.data.windowed import WindowSet
from models.served import clip_scores


class Logits(nn.Module):
    """Features are the logits; `classifier` multiplies them."""

    def __init__(self, num_labels: int, scale: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(num_labels, num_labels)
        with torch.no_grad():
            self.classifier.weight.copy_(scale * torch.eye(num_labels))
            self.classifier.bias.zero_()

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features[torch.arange(len(features)), lengths - 1])
        return logits


def drawn(num_clips: int, num_labels: int = 5, windows_each: int = 1, seed: int = 0) -> WindowSet:
    """Clips whose label is drawn from the softmax of their logits: at temperature 1 nothing is to be mended."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_clips, num_labels, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    clip_index = torch.arange(num_clips).repeat_interleave(windows_each)
    return of_one_tick(logits[clip_index], clip_index, labels)


def of_one_tick(rows: Tensor, clip_index: Tensor, labels: Tensor) -> WindowSet:
    """Each row is a window."""
    return WindowSet(rows, torch.arange(len(rows)), torch.ones(len(rows), dtype=torch.int64), clip_index, labels)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("windows_each", [1, 3])
def test_the_temperature_undoes_what_training_did(scale: float, windows_each: int) -> None:
    windows, model = drawn(4000, windows_each=windows_each), Logits(5, scale)
    found = calibrate(model, windows)
    assert found.temperature == pytest.approx(scale, rel=0.08)
    assert found.clips == 4000
    before = clip_scores(model, windows)
    cool(model.classifier, found.temperature)
    after = clip_scores(model, windows)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all(), "no label changes"
    labels = windows.targets.numpy()
    assert expected_calibration_error(before, labels) == pytest.approx(found.ece_before, abs=1e-6)
    assert expected_calibration_error(after, labels) == pytest.approx(found.ece_after, abs=1e-3)
    assert found.ece_after < 0.03
    if scale == 3.0:
        assert found.ece_before > 0.1


def test_the_threshold_keeps_95_percent_of_what_is_right() -> None:
    windows, model = drawn(4000, seed=1), Logits(5, 2.0)
    found = calibrate(model, windows)
    cool(model.classifier, found.temperature)
    scores = clip_scores(model, windows)
    best, right = scores.max(axis=1), scores.argmax(axis=1) == windows.targets.numpy()
    assert (best[right] >= found.threshold - 1e-6).mean() == pytest.approx(0.95, abs=0.002)
    kept = best >= found.threshold - 1e-6
    assert kept.mean() == pytest.approx(found.kept, abs=0.002)
    assert right[kept].mean() == pytest.approx(found.kept_accuracy, abs=0.002)
    assert found.kept_accuracy > right.mean() + 0.01


def test_a_model_that_is_always_right_is_not_made_certain() -> None:
    logits = 4 * torch.eye(3)
    windows = of_one_tick(logits, torch.arange(3), torch.arange(3))
    found = calibrate(Logits(3, 1.0), windows)
    assert found.temperature == 0.25
    assert found.kept == found.kept_accuracy == 1.0


def test_a_model_that_is_never_right_names_nothing() -> None:
    logits = 4 * torch.eye(3)
    wrong = of_one_tick(logits, torch.arange(3), torch.tensor([1, 2, 0]))
    found = calibrate(Logits(3, 1.0), wrong)
    assert (found.threshold, found.temperature) == (1.0, 10.0)
    assert (found.kept, found.kept_accuracy) == (0.0, 0.0)


def test_the_calibration_error_by_hand() -> None:
    """Two bins are met: 0.9 with half of them right, 0.55 with all of them right."""
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45]])
    labels = np.array([0, 1, 0])
    assert expected_calibration_error(scores, labels) == pytest.approx((2 * 0.4 + 0.45) / 3)
    assert expected_calibration_error(np.ones((4, 1)), np.zeros(4, np.int64)) == 0.0


@pytest.mark.parametrize(("clips", "said"), [(3, "; temperature and threshold rest on 3 clips only"), (20, "")])
def test_few_clips_are_said(clips: int, said: str) -> None:
    words = calibrate(Logits(5, 1.0), drawn(clips)).said
    assert words.endswith(f" of them rightly{said}")
    assert "\n" not in words
