"""How a head's weights begin, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.cells import CellError, CellKind, kind_of

Weights = Literal["torch", "xavier", "he"]
Recurrent = Literal["torch", "orthogonal"]


@dataclass(frozen=True)
class Initialisation:
    """The defaults leave all as torch draws it: uniform within ± 1 / √fan.

    input_weights: of inputs to each gate, and of the linear layers. `xavier`: uniform, variance 2 / (fan_in + fan_out)
        (Glorot and Bengio 2010); `he`: normal, variance 2 / fan_in, for rectifiers (He et al. 2015).
    recurrent_weights: `orthogonal`, each gate's by itself, so that no direction grows or fades in one step (Saxe,
        McClelland, Ganguli 2013).
    forget_bias: what b_ih + b_hh of the forget gate begins as; 1 lets an LSTM remember from the start (Gers,
        Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015). Only for cells with a forget gate.
    """

    input_weights: Weights = "torch"
    recurrent_weights: Recurrent = "torch"
    forget_bias: float | None = None


def initialise(head: nn.Module, initialisation: Initialisation) -> None:
    """Draw the weights of all recurrent and linear layers of `head` anew, in place; seed torch before.

    Raises CellError where a forget bias is asked for, and no layer has a forget gate.
    """
    layers = [(module, kind) for module in head.modules() if (kind := kind_of(module))]
    refuse_forget_bias(initialisation.forget_bias, [kind for _, kind in layers])
    with torch.no_grad():
        for module, kind in layers:
            for name, values in module.named_parameters(recurse=False):
                _draw(name, values, kind, initialisation)
        for linear in (module for module in head.modules() if isinstance(module, nn.Linear)):
            _draw_input(linear.weight, initialisation.input_weights)


def refuse_forget_bias(forget_bias: float | None, kinds: Sequence[CellKind]) -> None:
    """Raises CellError where a forget bias is asked for, and none of the layers' kinds has a forget gate."""
    if forget_bias is not None and not any("forget" in kind.gates for kind in kinds):
        names = ", ".join(kind.name for kind in kinds) or "no recurrent layer"
        raise CellError(
            f"forget_bias is {forget_bias:g}, and the head has no forget gate ({names}): leave it out, or take the "
            "cell lstm or peephole-lstm"
        )


def _draw(name: str, values: Tensor, kind: CellKind, initialisation: Initialisation) -> None:
    """One parameter of a recurrent layer; a gate's part of the stack is a matrix of its own."""
    if name.startswith("weight_peephole"):
        return
    parts = dict(zip(kind.gates, values.chunk(len(kind.gates)), strict=True))
    if name.startswith("weight_ih"):
        for part in parts.values():
            _draw_input(part, initialisation.input_weights)
    elif name.startswith("weight_hh") and initialisation.recurrent_weights == "orthogonal":
        for part in parts.values():
            nn.init.orthogonal_(part)
    elif name.startswith("bias_") and initialisation.forget_bias is not None and "forget" in parts:
        # Cells have both biases or none.
        parts["forget"].fill_(initialisation.forget_bias if name.startswith("bias_ih") else 0.0)


def _draw_input(weight: Tensor, weights: Weights) -> None:
    if weights == "xavier":
        nn.init.xavier_uniform_(weight)
    elif weights == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
