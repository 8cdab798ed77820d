"""Truncated back-propagation through time: gradients run back through a few ticks, the state through all of them.

Williams and Peng 1990; Sutskever 2013, chapter 2.8.6, with pieces as long as their distance. The gradients of all
pieces are added up before a step, so that one piece as long as the window gives those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.errors import RecipeError
from models.tasks import IGNORED


def backward_in_pieces(
    model: nn.Module,
    rows: Tensor,
    lengths: Tensor,
    targets: Tensor,
    weights: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    piece_ticks: int,
    *,
    every_tick: bool,
    scale: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add the gradients of a batch; returns its loss, the weighted mean over windows, detached.

    rows: (B, T, …); lengths: (B) on the CPU; targets: (B, …), or (B, T) where outputs are of every tick; weights: (B);
    loss_of: of `Task.window_loss`. What is kept for gradients is that of one piece, however long the windows are; of a
    many-to-one network only a window's last piece has a loss, and gradients reach back to its start.

    Raises RecipeError for a network whose state can't be carried.
    """
    state = model.initial_state(len(rows)) if hasattr(model, "initial_state") else {}  # type: ignore[operator]
    if not state or not hasattr(model, "step"):
        raise RecipeError(
            "truncate_ticks is set, and this network reads windows whole, with no state to carry from piece to piece: "
            "leave it out, or train one that reads one way"
        )
    alive = torch.arange(len(rows))  # windows that have not ended
    known = (targets != IGNORED).sum(dim=1).clamp_min(1) if every_tick else None
    total = torch.zeros(())
    for start in range(0, int(lengths.max()), piece_ticks):
        goes_on = (lengths[alive] > start).nonzero()[:, 0]
        alive = alive[goes_on]
        state = {name: values.detach()[goes_on.to(values.device)] for name, values in state.items()}
        left = (lengths[alive] - start).clamp_max(piece_ticks)
        stop = start + int(left.max())
        logits, state = model.step(rows[alive, start:stop], left.to(rows.device), state)  # type: ignore[operator]
        if known is not None:
            piece = targets[alive, start:stop]
            share = (piece != IGNORED).sum(dim=1) / known[alive]
            loss = (loss_of(logits, piece) * share * weights[alive]).sum() / len(rows)
        else:
            ends = lengths[alive] <= start + piece_ticks
            ended = alive[ends]
            loss = (loss_of(logits[ends], targets[ended]) * weights[ended]).sum() / len(rows)
        if loss.requires_grad and (every_tick or bool(ends.any())):
            scale(loss).backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach().cpu()
    return total
