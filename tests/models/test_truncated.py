"""Truncated back-propagation: the whole where a piece is the whole, carried state, and memory that stays flat."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from models.data.windowed import windowed
from models.errors import RecipeError
from models.fit import fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.tasks import IGNORED, TASKS, LossSettings
from models.truncated import backward_in_pieces
from service.video.spec import ClipSpec

CELLS = ("rnn", "lstm", "gru", "peephole-lstm")


def head(cell: str, *, every_tick: bool, pooling: str = "mean") -> nn.Module:
    torch.manual_seed(0)
    settings = HeadSettings(8, pooling, cell, 2, input_dropout=0.0, output_dropout=0.0)  # type: ignore[arg-type]
    return settings.build(4, 3, every_tick=every_tick).double()


def batch(every_tick: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    lengths = torch.tensor([23, 5, 12, 1])
    rows = torch.randn(4, 23, 4, generator=random, dtype=torch.float64)
    targets = torch.randint(0, 3, (4, 23) if every_tick else (4,), generator=random)
    if every_tick:
        targets[torch.arange(23) >= lengths[:, None]] = IGNORED
    return rows, lengths, targets, torch.tensor([1.0, 0.5, 2.0, 0.5], dtype=torch.float64)


def in_pieces(model: nn.Module, ticks: int, *, every_tick: bool) -> tuple[float, list[Tensor]]:
    rows, lengths, targets, weights = batch(every_tick)
    loss_of = TASKS["tick_label" if every_tick else "label"].window_loss(LossSettings(), None)
    model.zero_grad()
    loss = backward_in_pieces(
        model, rows, lengths, targets, weights, loss_of, ticks,
        every_tick=every_tick, scale=lambda value: value,
    )  # fmt: skip
    return float(loss), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def whole(model: nn.Module, *, every_tick: bool) -> tuple[float, list[Tensor]]:
    rows, lengths, targets, weights = batch(every_tick)
    loss_of = TASKS["tick_label" if every_tick else "label"].window_loss(LossSettings(), None)
    model.zero_grad()
    loss = (loss_of(model(rows, lengths), targets) * weights).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("every_tick", [True, False])
@pytest.mark.parametrize("ticks", [23, 100])
def test_a_piece_that_is_the_whole_has_its_gradients(cell: str, every_tick: bool, ticks: int) -> None:
    model = head(cell, every_tick=every_tick)
    loss, gradients = in_pieces(model, ticks, every_tick=every_tick)
    wanted_loss, wanted = whole(model, every_tick=every_tick)
    assert loss == pytest.approx(wanted_loss, rel=1e-7)
    assert len(gradients) == len(wanted)
    for found, known in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, known, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("every_tick", [True, False])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_the_state_is_carried_and_the_gradient_is_cut(every_tick: bool, pooling: str) -> None:
    """The loss is that of the whole window, for any piece; the gradients are others."""
    model = head("gru", every_tick=every_tick, pooling=pooling)
    wanted_loss, wanted = whole(model, every_tick=every_tick)
    for ticks in (1, 4, 12):
        loss, gradients = in_pieces(model, ticks, every_tick=every_tick)
        assert loss == pytest.approx(wanted_loss, rel=1e-6)
        assert any(not torch.allclose(a, b) for a, b in zip(gradients, wanted, strict=True))


def test_the_cut_gradient_is_that_of_a_state_that_is_given() -> None:
    """By hand: two pieces, the second from the first one's state, detached."""
    model = head("lstm", every_tick=True)
    rows, _, targets, _ = batch(every_tick=True)
    rows, targets = rows[:1, :8], targets[:1, :8]
    loss_of = TASKS["tick_label"].window_loss(LossSettings(), None)
    model.zero_grad()
    backward_in_pieces(
        model, rows, torch.tensor([8]), targets, torch.ones(1), loss_of, 5,
        every_tick=True, scale=lambda value: value,
    )  # fmt: skip
    found = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    first, state = model.step(rows[:, :5], torch.tensor([5]), model.initial_state(1))  # type: ignore[operator]
    second, _ = model.step(rows[:, 5:], torch.tensor([3]), {k: v.detach() for k, v in state.items()})  # type: ignore[operator]
    each = nn.functional.cross_entropy(torch.cat([first, second], dim=1)[0], targets[0], reduction="none")
    each.mean().backward()  # type: ignore[no-untyped-call]
    for gradient, weight in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-6, atol=1e-9)


def _peak_bytes(ticks: int, piece: int | None) -> int:
    """The most that is kept for gradients at once, of one window of `ticks`."""
    spec = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
    windows = windowed([torch.randn(ticks, 4).numpy()], torch.zeros(ticks, dtype=torch.int64), spec)
    model = HeadSettings(8, cell="rnn", input_dropout=0.0, output_dropout=0.0).build(4, 3, every_tick=True)
    held: dict[int, int] = {}
    peak = 0

    class Kept:
        """Stands for a tensor that autograd keeps; freed when the graph is."""

        def __init__(self, values: Tensor) -> None:
            nonlocal peak
            self.values = values
            held[id(self)] = values.nbytes
            peak = max(peak, sum(held.values()))

        def __del__(self) -> None:
            held.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.values):
        settings = FitSettings(truncate_ticks=piece)
        fit(model, windows, None, settings, 0, task=TASKS["tick_label"], stop_after=1)
    return peak


def test_memory_is_that_of_a_piece_however_long_the_clip_is() -> None:
    short, long = _peak_bytes(200, 50), _peak_bytes(10_000, 50)
    assert long <= 1.1 * short
    assert _peak_bytes(2_000, None) > 5 * long, "the whole graph would be kept without pieces"


def test_a_network_without_a_state_to_carry_is_refused() -> None:
    model = HeadSettings(4, bidirectional=True).build(4, 3, every_tick=True)
    spec = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
    windows = windowed([torch.randn(9, 4).numpy()], torch.zeros(9, dtype=torch.int64), spec)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RecipeError, match="truncate_ticks is set, and this network reads windows whole"):
        fit(model, windows, None, FitSettings(truncate_ticks=4), 0, task=TASKS["tick_label"], stop_after=1)
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
