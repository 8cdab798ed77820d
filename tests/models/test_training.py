from __future__ import annotations

import numpy as np
import pytest
import torch

from models.baselines import HeadSettings, Parts, paired_interval, train_method
from models.train import FitSettings
from models.windowed import WindowSet, accuracy, clip_scores, shuffled, windowed
from service.video.spec import ClipSpec
from service.video.windows import cover

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64, window_frames=8, stride_frames=4)
RNG = np.random.default_rng(0)


def ordered_clips(count: int, ticks: int = 8) -> WindowSet:
    """Label 1 when the bright half comes last: only order tells the two apart."""
    features, labels = [], []
    for index in range(count):
        ramp = np.linspace(-1, 1, ticks)[:, None] * np.ones((ticks, 4)) * (1 if index % 2 else -1)
        features.append((ramp + RNG.normal(0, 0.1, ramp.shape)).astype(np.float32))
        labels.append(index % 2)
    return windowed(features, labels, SPEC)


def parts() -> Parts:
    train, validation, test = ordered_clips(60), ordered_clips(20), ordered_clips(20)
    return Parts(train, validation, train, test, [])


def test_windows_are_those_of_serving() -> None:
    clip = np.arange(30, dtype=np.float32).reshape(15, 2)
    windows = windowed([clip, clip[:3]], [1, 0], SPEC)
    expected = [*cover(15, SPEC), *cover(3, SPEC)]
    assert windows.lengths.tolist() == [w.length for w in expected]
    assert windows.features[:, 0, 0].tolist() == [2.0 * w.start for w in expected]
    assert windows.clip_index.tolist() == [0] * len(cover(15, SPEC)) + [1]
    assert windows.window_labels.tolist() == [1] * len(cover(15, SPEC)) + [0]


def test_a_clip_scores_the_mean_of_its_windows() -> None:
    windows = ordered_clips(3, ticks=12)
    model = HeadSettings(hidden_size=4).build(4, 2).eval()
    with torch.inference_mode():
        each = model(windows.features, windows.lengths).softmax(dim=1).numpy()
    for clip, scores in enumerate(clip_scores(model, windows, batch_windows=2)):
        np.testing.assert_allclose(scores, each[windows.clip_index.numpy() == clip].mean(axis=0), rtol=1e-5)


def test_an_lstm_learns_order_and_a_mean_cannot() -> None:
    cut = parts()
    settings = FitSettings(epochs=15, learning_rate=1e-2)
    head = HeadSettings(hidden_size=8, input_dropout=0.0, output_dropout=0.0)
    assert cut.test is not None
    lstm, _ = train_method("lstm", cut, 2, head, settings, seed=0)
    assert accuracy(lstm, cut.test) == 1.0
    assert accuracy(lstm, shuffled(cut.test, 0)) < 0.9
    mean, _ = train_method("mean_of_features", cut, 2, head, settings, seed=0)
    assert accuracy(mean, cut.test) < 0.9


@pytest.mark.parametrize(
    "head",
    [
        HeadSettings(8, "last", "rnn", input_dropout=0.0, output_dropout=0.0),
        HeadSettings(8, "mean", "gru", num_layers=2, input_dropout=0.0, output_dropout=0.0),
        HeadSettings(8, "attention", "lstm", bidirectional=True, input_dropout=0.0, output_dropout=0.0),
        HeadSettings(8, "last", "peephole-lstm", input_dropout=0.0, output_dropout=0.0),
    ],
    ids=lambda head: f"{head.cell}-{head.pooling}",
)
def test_every_kind_of_recurrent_layer_learns_order(head: HeadSettings) -> None:
    cut = parts()
    assert cut.test is not None
    model, _ = train_method("lstm", cut, 2, head, FitSettings(epochs=15, learning_rate=1e-2), seed=0)
    assert accuracy(model, cut.test) == 1.0


def test_a_seed_gives_the_same_weights_twice() -> None:
    cut, settings = parts(), FitSettings(epochs=2)
    states = [
        train_method("lstm", cut, 2, HeadSettings(hidden_size=8), settings, seed)[0].state_dict() for seed in (3, 3, 4)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_early_stopping_keeps_the_best_epoch() -> None:
    cut = parts()
    settings = FitSettings(epochs=12, patience=2, learning_rate=0.5)
    _, result = train_method("lstm", cut, 2, HeadSettings(hidden_size=8), settings, seed=0, refit=False)
    losses = [line["validation_loss"] for line in result.curve]
    assert result.best_loss == min(losses)
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert len(losses) <= result.best_epoch + settings.patience


def test_shuffling_moves_frames_within_a_window_only() -> None:
    windows = ordered_clips(4)
    moved = shuffled(windows, seed=1)
    assert not torch.equal(moved.features, windows.features)
    for before, after in zip(windows.features, moved.features, strict=True):
        assert sorted(before[:, 0].tolist()) == sorted(after[:, 0].tolist())


@pytest.mark.parametrize(("effect", "zero_inside"), [(0.0, True), (0.3, False)])
def test_the_interval_finds_an_effect_and_no_effect(effect: float, zero_inside: bool) -> None:
    groups = [str(i // 5) for i in range(500)]
    noise = np.repeat(np.random.default_rng(2).normal(0, 0.2, 100), 5)
    mean, low, high = paired_interval(effect + noise - noise.mean(), groups, resamples=2000)
    assert mean == pytest.approx(effect, abs=1e-9)
    assert (low < 0 < high) is zero_inside
