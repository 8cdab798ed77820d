from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.data.parts import Parts
from models.data.windowed import WindowSet, shuffle_frames, shuffled, windowed
from models.errors import NotFiniteError
from models.fit import Machine, fit
from models.fit_result import FitResult
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.served import PERMUTATIONS, accuracy, clip_scores, outputs, right
from models.study.methods import correct, train_method
from models.twice import train_twice
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
    return windowed(features, torch.tensor(labels), SPEC)


def every(windows: WindowSet) -> tuple[torch.Tensor, torch.Tensor]:
    """All windows as one batch, and their lengths."""
    return windows.batch(torch.arange(len(windows)))


def parts() -> Parts:
    train, validation, test = ordered_clips(60), ordered_clips(20), ordered_clips(20)
    return Parts(train, validation, train, test, [])


def test_windows_are_those_of_serving() -> None:
    clip = np.arange(30, dtype=np.float32).reshape(15, 2)
    windows = windowed([clip, clip[:3]], torch.tensor([1, 0]), SPEC)
    expected = [*cover(15, SPEC), *cover(3, SPEC)]
    assert windows.lengths.tolist() == [w.length for w in expected]
    assert every(windows)[0][:, 0, 0].tolist() == [2.0 * w.start for w in expected]
    assert windows.clip_index.tolist() == [0] * len(cover(15, SPEC)) + [1]
    assert len(windows.rows) == 18, "rows that windows share are held once"
    assert windows.clip_of_row.tolist() == [0] * 15 + [1] * 3


def test_a_clip_scores_the_mean_of_its_windows() -> None:
    windows = ordered_clips(3, ticks=12)
    model = HeadSettings(hidden_size=4).build(4, 2).eval()
    with torch.inference_mode():
        each = model(*every(windows)).softmax(dim=1).numpy()
    for clip, scores in enumerate(clip_scores(model, windows)):
        np.testing.assert_allclose(scores, each[windows.clip_index.numpy() == clip].mean(axis=0), rtol=1e-5)


def test_an_lstm_learns_order_and_a_mean_cannot() -> None:
    cut = parts()
    settings = FitSettings(epochs=15, learning_rate=1e-2)
    head = HeadSettings(hidden_size=8, input_dropout=0.0, output_dropout=0.0)
    assert cut.test is not None
    lstm, _ = train_method("recurrent", cut, 2, head, settings, seed=0)
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
    model, _ = train_method("recurrent", cut, 2, head, FitSettings(epochs=15, learning_rate=1e-2), seed=0)
    assert accuracy(model, cut.test) == 1.0


def test_a_seed_gives_the_same_weights_twice() -> None:
    cut, settings = parts(), FitSettings(epochs=2)
    states = [
        train_method("recurrent", cut, 2, HeadSettings(hidden_size=8), settings, seed)[0].state_dict()
        for seed in (3, 3, 4)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_early_stopping_keeps_the_best_epoch() -> None:
    cut = parts()
    settings = FitSettings(epochs=12, patience=2, learning_rate=0.5)
    _, result = train_method("recurrent", cut, 2, HeadSettings(hidden_size=8), settings, seed=0, refit=False)
    losses = [line["validation_loss"] for line in result.curve]
    assert result.best_loss == min(losses)
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert len(losses) <= result.best_epoch + settings.patience


def test_the_last_training_is_given_the_losses_of_early_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def noted(*arguments: Any, **named: Any) -> FitResult:
        given.append(named.get("watched"))
        return fit(*arguments, **named)

    monkeypatch.setattr("models.twice.fit", noted)
    _, result = train_twice(lambda: HeadSettings(hidden_size=4).build(4, 2), parts(), FitSettings(epochs=2), 0)
    assert given == [None, [line["validation_loss"] for line in result.curve]]


def test_the_loss_that_a_schedule_looks_at_is_the_one_given() -> None:
    seen: list[float] = []
    settings = FitSettings(schedule="ReduceLROnPlateau", schedule_options={"patience": 0, "factor": 0.5})
    machine = Machine(track=lambda _phase, line: seen.append(line["learning_rate"] / settings.learning_rate))
    fit(Recorder(), ordered_clips(4), None, settings, 0, stop_after=4, watched=[1.0, 2.0, 0.5, 3.0], machine=machine)
    assert seen == [1.0, 1.0, 0.5, 0.5]


def test_an_epoch_that_is_best_and_last_is_said() -> None:
    cut = parts()
    _, capped = train_method("recurrent", cut, 2, HeadSettings(8), FitSettings(epochs=2, learning_rate=1e-2), seed=0)
    assert capped.cap_reached
    assert capped.early_stopping == "did not stop: the best epoch is the last that was allowed, 2; raise --epochs"
    assert capped.patience == FitSettings.patience
    stopped = FitResult(best_epoch=3, epoch_cap=12, patience=6, curve=[{}] * 9)
    assert not stopped.cap_reached
    assert stopped.early_stopping == "best epoch 3 of 9, at most 12"


@pytest.mark.parametrize(("best", "capped"), [(24, False), (25, True), (29, True), (30, True)])
def test_a_cap_that_comes_before_early_stopping_is_said(best: int, capped: bool) -> None:
    """Of 30 epochs with a patience of 6 the last one may be that in which early stopping stops."""
    result = FitResult(best_epoch=best, epoch_cap=30, patience=6, curve=[{}] * 30)
    assert result.cap_reached is capped
    assert ("raise --epochs" in result.early_stopping) is capped
    if capped and best < 30:
        assert result.early_stopping == (
            f"did not stop: the best epoch is {best} of the 30 that were allowed, and it waits for 6 without a better "
            "one; raise --epochs"
        )


def test_shuffling_moves_frames_within_a_window_only() -> None:
    windows = ordered_clips(4)
    moved = shuffled(windows, seed=1)
    before_all, after_all = every(windows)[0], every(moved)[0]
    assert not torch.equal(after_all, before_all)
    for before, after in zip(before_all, after_all, strict=True):
        assert sorted(before[:, 0].tolist()) == sorted(after[:, 0].tolist())


def test_every_order_of_the_frames_is_as_likely_and_padding_stays() -> None:
    ticks = torch.arange(1.0, 6.0).repeat(12_000, 1)[:, :, None]
    lengths = torch.full((12_000,), 3)
    moved = shuffle_frames(ticks, lengths, torch.Generator().manual_seed(0))[:, :, 0]
    assert torch.equal(moved[:, 3:], ticks[:, 3:, 0])
    orders, counts = np.unique(moved[:, :3].numpy(), axis=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 1800  # of 2000, 5 standard deviations below


class Recorder(torch.nn.Module):
    """Keeps what it is trained on; learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))
        self.seen: list[torch.Tensor] = []

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(features.clone())
        return self.bias.expand(len(lengths), 2)


def test_frames_come_in_another_order_in_every_epoch() -> None:
    windows = ordered_clips(3)
    one = replace(windows, starts=windows.starts[:1], lengths=windows.lengths[:1], clip_index=windows.clip_index[:1])
    model = Recorder()
    fit(model, one, None, FitSettings(), seed=0, stop_after=6, shuffle=True)
    assert len({tuple(batch[0, :, 0].tolist()) for batch in model.seen}) == 6
    again = Recorder()
    fit(again, one, None, FitSettings(), seed=0, stop_after=6, shuffle=True)
    assert all(torch.equal(a, b) for a, b in zip(model.seen, again.seen, strict=True))


def test_a_test_without_order_is_a_mean_over_orders() -> None:
    """A model that knows order alone is right in about half of them."""
    cut = parts()
    assert cut.test is not None
    head = HeadSettings(hidden_size=8, input_dropout=0.0, output_dropout=0.0)
    model, _ = train_method("recurrent", cut, 2, head, FitSettings(epochs=15, learning_rate=1e-2), seed=0)
    shares = correct("shuffled", model, cut, seed=3)
    each = [right(model, shuffled(cut.test, 3 * PERMUTATIONS + order)) for order in range(PERMUTATIONS)]
    np.testing.assert_allclose(shares, np.mean(each, axis=0))
    assert set(shares.tolist()) - {0.0, 1.0}
    assert correct("recurrent", model, cut, seed=3).tolist() == [1.0] * len(cut.test.targets)


class Linear(torch.nn.Module):
    """The mean of a window's frames, weighted: one weight a label."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 2))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return (features.sum(dim=1) / lengths[:, None]) @ self.weight


def test_a_long_clip_weighs_no_more_than_a_short_one() -> None:
    """One clip of 599 windows of one label, two of a window each of the other, all alike: the prior is 1 : 2."""
    long = np.ones((4 * 598 + 8, 4), np.float32)
    windows = windowed([long, long[:8], long[:8]], torch.tensor([0, 1, 1]), SPEC)
    assert len(windows) == 601
    weights = windows.weights_of(torch.arange(len(windows)))
    assert float(weights.mean()) == pytest.approx(1)
    per_clip = torch.zeros(3).index_add_(0, windows.clip_index, weights)
    np.testing.assert_allclose(per_clip, per_clip[0].item(), rtol=1e-4)
    model = Linear()
    settings = FitSettings(batch_windows=1000, learning_rate=0.05, weight_decay=0.0, epochs=300)
    result = fit(model, windows, None, settings, seed=0, stop_after=300)
    scores = clip_scores(model, windows)
    np.testing.assert_allclose(scores, [[1 / 3, 2 / 3]] * 3, atol=0.01)
    losses = -np.log(scores[np.arange(3), windows.targets])
    assert result.curve[-1]["train_loss"] == pytest.approx(losses.mean(), abs=1e-3)


class Heard(Linear):
    """Remembers the first number of each window that it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.heard += features[:, 0, 0].tolist()
        return super().forward(features, lengths)


def test_an_epoch_draws_so_many_windows_of_each_clip_and_others_in_the_next() -> None:
    """A clip of 29 windows, whose ticks are numbered from 0, and one of a window, from 1000."""
    long = np.arange(4 * 28 + 8, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    windows = windowed([long, 1000 + long[:8]], torch.tensor([0, 1]), SPEC)
    assert len(windows) == 30
    model = Heard()
    settings = FitSettings(batch_windows=2, windows_per_clip=2, epochs=3)
    fit(model, windows, None, settings, seed=0, stop_after=3)
    epochs = [model.heard[at : at + 3] for at in range(0, 9, 3)]
    assert len(model.heard) == 9
    for epoch in epochs:
        assert epoch.count(1000.0) == 1, "it has no more"
        assert len(set(epoch)) == 3
    assert len({frozenset(epoch) for epoch in epochs}) == 3
    drawn = torch.tensor([0, 29, 5])
    assert windows.weights_of(drawn).tolist() == [0.75, 1.5, 0.75], "both clips weigh alike, of mean 1"


def test_the_loss_that_is_reported_is_that_of_clips() -> None:
    long = RNG.normal(size=(4 * 62 + 8, 4)).astype(np.float32)
    windows = windowed([long, -long[:8]], torch.tensor([0, 1]), SPEC)
    assert len(windows) == 64
    model = Linear()
    with torch.no_grad():
        model.weight[0, 0] = 1.0
    with torch.inference_mode():
        each = torch.nn.functional.cross_entropy(
            model(*every(windows)), windows.targets[windows.clip_index], reduction="none"
        )
    wanted = (each[:63].mean() + each[63]) / 2
    still = FitSettings(batch_windows=8, learning_rate=0.0, weight_decay=0.0)
    result = fit(model, windows, None, still, seed=0, stop_after=1)
    assert result.curve[0]["train_loss"] == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(("where", "phase"), [("train", "early stopping, epoch 1"), ("refit", "the last training")])
def test_what_is_not_finite_ends_training_and_says_where(where: str, phase: str) -> None:
    cut = parts()
    rows = cut.train.rows.clone()
    rows[0] = torch.inf
    poisoned = replace(cut.train, rows=rows)
    train, all_train = (poisoned, cut.train) if where == "train" else (cut.train, poisoned)
    spoiled = Parts(train, cut.validation, all_train, cut.test, [])
    with pytest.raises(
        NotFiniteError, match=rf"{phase}.*not finite; nothing is saved.*--learning-rate.*--gradient-norm"
    ):
        train_method("mean_of_features", spoiled, 2, HeadSettings(input_dropout=0.0), FitSettings(epochs=2), seed=0)


class Explodes(torch.nn.Module):
    """A finite loss whose gradient is infinite: the root of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Parameter(torch.zeros(2))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return (self.root.abs() + 0 * features.mean()).sqrt().expand(len(lengths), 2)


def test_a_gradient_that_is_not_finite_names_its_parameter() -> None:
    with pytest.raises(NotFiniteError, match="epoch 1: the gradient of root is not finite"):
        fit(Explodes(), ordered_clips(4), None, FitSettings(), seed=0, stop_after=1)


class Infinite(Explodes):
    """Its gradient is infinite, and no NaN."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.root.sqrt().expand(len(lengths), 2) * torch.tensor([1.0, 2.0])


def test_a_gradient_that_is_not_finite_is_not_cut_to_one_that_is() -> None:
    """Infinity, cut by value, would be a step as any other."""
    with pytest.raises(NotFiniteError, match="epoch 1: the gradient of root is not finite"):
        fit(Infinite(), ordered_clips(3), None, FitSettings(gradient_value=1.0), seed=0, stop_after=1)


class Placed(torch.nn.Module):
    """Notes where the rows and the lengths lie that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))
        self.seen: list[tuple[str, str]] = []

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        self.seen.append((features.device.type, lengths.device.type))
        return self.bias.expand(len(lengths), 2)

    def initial_state(self, batch: int) -> dict[str, torch.Tensor]:
        return {"hidden": self.bias.new_zeros(batch, 1)}

    def step(
        self, features: torch.Tensor, lengths: torch.Tensor, state: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self(features, lengths), state


@pytest.mark.parametrize("truncate_ticks", [None, 4])
def test_lengths_lie_where_the_rows_do(truncate_ticks: int | None) -> None:
    """Heads that pool divide by them. `meta` stands for a GPU: it, too, computes with nothing that lies elsewhere."""
    device, model = torch.device("meta"), Placed()
    windows, settings = ordered_clips(4), FitSettings(truncate_ticks=truncate_ticks)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        fit(model, windows, None, settings, seed=0, stop_after=1, machine=Machine(device))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        outputs(model, windows, device=device)
    assert set(model.seen) == {("meta", "meta")}
    assert len(model.seen) > 1


class RunsAway(torch.nn.Module):
    """Loss and gradient stand still whatever the weight, until that overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.root = torch.nn.Parameter(torch.zeros(2))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return (self.root - self.root.detach()).expand(len(lengths), 2)


def test_a_weight_that_is_not_finite_is_named() -> None:
    clips = ordered_clips(20)
    of_one_label = replace(clips, targets=torch.zeros(20, dtype=torch.int64))
    settings = FitSettings(batch_windows=1, learning_rate=3e37, weight_decay=0.0)
    with pytest.raises(NotFiniteError, match=r"epoch 1: the weight root is not finite.*now 3e\+37"):
        fit(RunsAway(), of_one_label, None, settings, seed=0, stop_after=1)
