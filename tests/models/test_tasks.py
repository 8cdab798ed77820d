"""Each task's loss and measure, held against PyTorch's own and against figures by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models.data.windowed import WindowSet, windowed
from models.errors import RecipeError
from models.fit import fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.served import served_scores
from models.tasks import IGNORED, TASKS, LossSettings, mean_average_precision
from service.engine.clip_scores import TickScores
from service.video.spec import ClipSpec
from service.video.windows import cover

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64, window_frames=8, stride_frames=4)
RNG = np.random.default_rng(0)
HEAD = HeadSettings(hidden_size=16, input_dropout=0.0, output_dropout=0.0)


def rows(*lengths: int) -> list[NDArray[np.float32]]:
    return [RNG.normal(size=(length, 4)).astype(np.float32) for length in lengths]


def test_a_tick_is_scored_as_the_service_does() -> None:
    """The mean over the windows that cover it, of the softmax."""
    clips = rows(30, 3, 8, 9)
    windows = windowed(clips, torch.zeros(50, dtype=torch.int64), SPEC)
    torch.manual_seed(0)
    model = HEAD.build(4, 3, every_tick=True).eval()
    found = served_scores(model, windows, TASKS["tick_label"]).numpy()
    at = 0
    for clip in clips:
        served, cut = TickScores(), cover(len(clip), SPEC)
        for window in cut:
            with torch.inference_mode():
                piece = torch.from_numpy(clip[window.start : window.stop])[None]
                scores = model(piece, torch.tensor([window.length])).softmax(dim=2)[0].numpy()
            served.add([window], scores)
        wanted = served.of_clip(len(clip), cut, SPEC).scores
        np.testing.assert_allclose(found[at : at + len(clip)], wanted, atol=1e-6)
        at += len(clip)


def test_the_loss_of_ticks_is_a_mean_over_those_that_are_known() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[0, 1, 2, IGNORED, IGNORED], [2, 2, IGNORED, 1, 0]])
    found = TASKS["tick_label"].window_loss(LossSettings(), None)(logits, targets)
    for row in range(2):
        known = targets[row] != IGNORED
        wanted = nn.functional.cross_entropy(logits[row][known], targets[row][known])
        assert float(found[row]) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize(
    ("task", "loss"), [(task.name, loss) for task in TASKS.values() for loss in task.losses if not task.every_tick]
)
def test_every_loss_is_pytorchs_own(task: str, loss: str) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([0, 2, 1, 1, 0, 2])
    if task != "label":
        targets = torch.randint(0, 2, (6, 3), generator=torch.Generator().manual_seed(3)).float()
    each = TASKS[task].window_loss(LossSettings(loss), None)(logits, targets)
    assert each.shape == (6,)
    assert float(each.mean()) == pytest.approx(float(getattr(nn, loss)()(logits, targets)), rel=1e-6)


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("label", LossSettings("MSELoss"), "'MSELoss' is none of the task 'label': CrossEntropyLoss, MultiMarginLoss"),
        ("labels", LossSettings("", 0.1), "label_smoothing is 0.1: only CrossEntropyLoss"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(task: str, settings: LossSettings, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        TASKS[task].window_loss(settings, None)


def test_several_labels_are_learned_and_measured() -> None:
    """Two labels that are there independently of each other: the signs of two features."""
    clips = [np.tile(np.array([a, b, 0, 0], np.float32), (8, 1)) for a in (-1, 1) for b in (-1, 1)] * 6
    truth = torch.tensor([[float(clip[0, 0] > 0), float(clip[0, 1] > 0)] for clip in clips])
    windows, task = windowed(clips, truth, SPEC), TASKS["labels"]
    torch.manual_seed(0)
    model = HEAD.build(4, 2)
    settings = FitSettings(epochs=30, learning_rate=2e-2, class_weights="balanced")
    fit(model, windows, windows, settings, seed=0, task=task, num_labels=2)
    scores = served_scores(model, windows, task)
    assert task.figure(scores, truth) == 1.0
    assert torch.equal((scores > 0.5).float(), truth)


def test_values_are_learned() -> None:
    clips = [np.full((8, 4), value, np.float32) for value in np.linspace(-1, 1, 24)]
    truth = torch.tensor([[3 * float(clip[0, 0]) + 1] for clip in clips])
    windows, task = windowed(clips, truth, SPEC), TASKS["value"]
    torch.manual_seed(0)
    model = HEAD.build(4, 1)
    result = fit(model, windows, windows, FitSettings(epochs=150, patience=150, learning_rate=2e-2), 0, task=task)
    assert result.best_figure < 0.1
    assert task.figure(served_scores(model, windows, task), truth) == pytest.approx(result.best_figure)


def test_a_label_a_tick_is_learned_where_only_the_past_tells() -> None:
    """Whether a pulse has come: after it nothing in the tick itself says so."""
    clips, labels = [], []
    for number in range(48):
        at = number % 7 + 1
        clip = np.zeros((8, 4), np.float32)
        clip[at, 0] = 1.0
        clips.append(clip)
        labels.append((np.arange(8) >= at).astype(np.int64))
    windows = windowed(clips, torch.from_numpy(np.concatenate(labels)), SPEC)
    torch.manual_seed(0)
    model = HEAD.build(4, 2, every_tick=True)
    result = fit(
        model, windows, windows, FitSettings(epochs=40, patience=40, learning_rate=2e-2), 0, task=TASKS["tick_label"]
    )
    assert result.best_figure == 1.0


def test_balanced_weights_and_a_loss_that_would_weigh_absence_too() -> None:
    with pytest.raises(RecipeError, match="weighs a label's absence as its presence: take BCEWithLogitsLoss"):
        TASKS["labels"].window_loss(LossSettings("MultiLabelSoftMarginLoss"), torch.ones(3))


def test_balanced_weights_are_inverse_to_how_often_a_label_is() -> None:
    targets = torch.tensor([0, 0, 0, 1, IGNORED])
    windows = WindowSet(torch.zeros(5, 1), torch.tensor([0]), torch.tensor([5]), torch.tensor([0]), targets)
    weights = TASKS["tick_label"].class_weights(windows, 2)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 4 / (2 * 1)])
    assert float(weights[targets[:4]].mean()) == pytest.approx(1.0)
    absent = TASKS["tick_label"].class_weights(windows, 3)
    np.testing.assert_allclose(absent, [*weights, 0], err_msg="a label that train has none of changes nothing")
    with pytest.raises(RecipeError, match="`value` has no classes"):
        TASKS["value"].class_weights(windows, 2)


def test_a_label_of_every_clip_still_weighs() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    windows = WindowSet(torch.zeros(3, 1), torch.arange(3), torch.ones(3, dtype=torch.int64), torch.arange(3), targets)
    np.testing.assert_allclose(TASKS["labels"].class_weights(windows, 3), [1 / 3, 3, 2])


def test_the_average_precision_by_hand() -> None:
    """Hits at ranks 1 and 3 of one label; a tie of the other, whose precision is that after it; a third has none."""
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.1, 0.3]])
    truth = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert mean_average_precision(scores, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert not math.isnan(mean_average_precision(scores, torch.zeros(3, 3)))
