"""Optimizers, schedules and clipping of PyTorch, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models import optimisation
from models.errors import RecipeError
from models.fit_settings import FitSettings, Options
from models.recipe import read


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam", "Adagrad", "Adadelta", "ASGD"])
def test_an_optimizer_steps_as_pytorchs_own(name: str) -> None:
    settings = FitSettings(optimizer=name, learning_rate=0.05, weight_decay=0.01)
    ours, theirs = linear(), linear()
    other = getattr(torch.optim, name)(theirs.parameters(), lr=0.05, weight_decay=0.01)
    optimizer = optimisation.build_optimizer(ours, settings)
    for model, each in ((ours, optimizer), (theirs, other)):
        for _ in range(3):
            each.zero_grad()
            model(torch.ones(4, 3)).pow(2).mean().backward()
            each.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (FitSettings(optimizer="Adamw"), "the optimizer 'Adamw' is none of PyTorch's: .*AdamW"),
        (FitSettings(optimizer="LBFGS"), "LBFGS can't be taken by name: it computes the loss several times"),
        (FitSettings(optimizer="Rprop", weight_decay=0.5), "Rprop knows no weight_decay; leave it out"),
        (
            FitSettings(optimizer_options={"momentun": 0.9}, optimizer="SGD"),
            "optimizer_options.momentun is unknown to SGD; it takes lr, momentum",
        ),
        (FitSettings(optimizer_options={"betas": 1.0}), "the optimizer AdamW can't be made with"),
        (
            FitSettings(optimizer_options={"lr": 0.5}),
            "optimizer_options.lr would be passed over: name it as learning_rate",
        ),
        (FitSettings(schedule="Cosine"), "the schedule 'Cosine' is none of PyTorch's: .*StepLR.*none"),
        (FitSettings(schedule="StepLR"), "the schedule StepLR can't be made with {}: .*step_size"),
        (FitSettings(schedule="OneCycleLR"), "OneCycleLR can't be taken by name: it steps with every batch"),
    ],
)
def test_what_pytorch_has_not_is_refused(settings: FitSettings, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        optimisation.build_schedule(optimisation.build_optimizer(linear(), settings), settings)


def test_schedules_change_the_rate_by_epoch() -> None:
    rates: dict[str, list[float]] = {}
    halved: Options = {"gamma": 0.5}
    for name, options in (("none", None), ("ExponentialLR", halved), ("CosineAnnealingLR", None)):
        settings = FitSettings(epochs=4, learning_rate=0.8, schedule=name, schedule_options=options)
        optimizer = optimisation.build_optimizer(linear(), settings)
        schedule = optimisation.build_schedule(optimizer, settings)
        rates[name] = []
        for _ in range(5):
            rates[name].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            optimisation.advance(schedule, 1.0)
    assert rates["none"] == [0.8] * 5
    assert rates["ExponentialLR"] == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.05])
    assert rates["CosineAnnealingLR"][0] == 0.8
    assert rates["CosineAnnealingLR"][4] == pytest.approx(0.0, abs=1e-12), "it lasts as long as training"


def test_a_plateau_is_one_of_the_loss() -> None:
    settings = FitSettings(schedule="ReduceLROnPlateau", schedule_options={"patience": 0, "factor": 0.5})
    optimizer = optimisation.build_optimizer(linear(), settings)
    schedule = optimisation.build_schedule(optimizer, settings)
    for loss in (1.0, 0.5, 0.6):
        optimisation.advance(schedule, loss)
    assert optimizer.param_groups[0]["lr"] == settings.learning_rate / 2


def test_options_may_be_lists_of_numbers(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(
        '[fit]\nschedule = "MultiStepLR"\noptimizer_options = {betas = [0.8, 0.99]}\n'
        "schedule_options = {milestones = [1, 2], gamma = 0.5}\n"
    )
    settings = read(file).fit
    optimizer = optimisation.build_optimizer(linear(), settings)
    schedule = optimisation.build_schedule(optimizer, settings)
    assert list(optimizer.param_groups[0]["betas"]) == [0.8, 0.99]
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"] / settings.learning_rate)
        optimizer.step()
        optimisation.advance(schedule, 1.0)
    assert rates == pytest.approx([1.0, 0.5, 0.25, 0.25])
    file.write_text(read(file).to_toml())
    assert read(file).fit == settings


class TwoParts(nn.Module):
    """A part that learns at a rate of its own, and one that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2)
        self.head.bias.requires_grad = False

    def learning_rates(self) -> dict[str, float]:
        return {"stages": 1e-5}


def test_a_part_learns_at_its_own_rate() -> None:
    model = TwoParts()
    groups = optimisation.parameter_groups(model, FitSettings(learning_rate=1e-2))
    assert [(group["lr"], group["params"]) for group in groups] == [
        (1e-5, list(model.stages.parameters())), (1e-2, [model.head.weight]),
    ]  # fmt: skip


def test_gradients_are_cut_by_value_and_then_by_norm() -> None:
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = torch.tensor([3.0, -4.0, 0.1])
    norm = optimisation.clip_gradients([weight], FitSettings(gradient_value=2.0, gradient_norm=1.0))
    cut = torch.tensor([2.0, -2.0, 0.1])
    assert float(norm) == pytest.approx(float(cut.norm()))
    torch.testing.assert_close(weight.grad, cut / cut.norm(), rtol=1e-4, atol=1e-6)
