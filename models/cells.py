"""Kinds of recurrent layers, a row each: what training builds, what ONNX calls it, how its weights are stacked.

A new cell is a class with the interface of `torch.nn.RNN` or `torch.nn.LSTM` (`models.recurrent.SteppedRecurrent` has
all but the equations) and a row here, if ONNX's RNN, LSTM or GRU can say it by its attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from models.errors import ModelsError
from models.recurrent import PeepholeLSTM

Operator = Literal["RNN", "LSTM", "GRU"]
# In the order in which ONNX stacks them (onnx.ai/onnx/operators).
ONNX_GATES: dict[Operator, tuple[str, ...]] = {
    "RNN": ("input",),
    "LSTM": ("input", "output", "forget", "cell"),
    "GRU": ("update", "reset", "hidden"),
}
ONNX_STATES: dict[Operator, tuple[str, ...]] = {"RNN": ("hidden",), "LSTM": ("hidden", "cell"), "GRU": ("hidden",)}
ONNX_PEEPHOLES = ("input", "output", "forget")


class CellError(ModelsError):
    """A cell is unknown or can't be what is asked of it; the message says what can."""


@dataclass(frozen=True)
class CellKind:
    """One kind of recurrent layer.

    module: built as `torch.nn.LSTM` is, with `arguments` besides; a module of that class whose attributes equal them
        is of this kind.
    title: for people. operator: ONNX's. gates: by ONNX's names, in the order in which the module stacks them.
    peepholes: likewise.
    attributes: of the ONNX node; a tuple has what one direction takes, and is given once a direction.
    """

    name: str
    module: type[nn.Module]
    operator: Operator
    gates: tuple[str, ...]
    title: str
    peepholes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(self.gates) != sorted(ONNX_GATES[self.operator]):
            raise CellError(
                f"cell {self.name!r} has the gates {self.gates}, and ONNX's {self.operator} {ONNX_GATES[self.operator]}"
            )
        if self.peepholes and sorted(self.peepholes) != sorted(ONNX_PEEPHOLES):
            raise CellError(f"cell {self.name!r} has the peepholes {self.peepholes}, and ONNX's LSTM {ONNX_PEEPHOLES}")

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what it carries from step to step; the output is the first."""
        return ONNX_STATES[self.operator]

    @property
    def gate_order(self) -> tuple[int, ...]:
        """For each of ONNX's gates, its place in the module's stack."""
        return tuple(self.gates.index(gate) for gate in ONNX_GATES[self.operator])

    @property
    def peephole_order(self) -> tuple[int, ...]:
        """For each of ONNX's peepholes, its place in the module's stack; empty where it has none."""
        return tuple(self.peepholes.index(gate) for gate in ONNX_PEEPHOLES) if self.peepholes else ()

    def build(
        self, input_size: int, hidden_size: int, num_layers: int, *, bidirectional: bool, dropout: float = 0.0
    ) -> nn.Module:
        """A fresh layer that takes (B, T, input_size); seed torch before."""
        return self.module(
            input_size,
            hidden_size,
            num_layers=num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout,
            **self.arguments,
        )


_LSTM = ("input", "forget", "cell", "output")
CELLS: dict[str, CellKind] = {
    row.name: row
    for row in (
        CellKind(
            "rnn", nn.RNN, "RNN", ("input",), "RNN",
            arguments={"nonlinearity": "tanh"}, attributes={"activations": ("Tanh",)},
        ),
        CellKind(
            "rnn-relu", nn.RNN, "RNN", ("input",), "ReLU RNN",
            arguments={"nonlinearity": "relu"}, attributes={"activations": ("Relu",)},
        ),
        CellKind("lstm", nn.LSTM, "LSTM", _LSTM, "LSTM"),
        CellKind(
            "peephole-lstm", PeepholeLSTM, "LSTM", _LSTM, "peephole LSTM", peepholes=("input", "forget", "output")
        ),
        # As PyTorch: the reset gate falls on the product.
        CellKind("gru", nn.GRU, "GRU", ("reset", "update", "hidden"), "GRU", attributes={"linear_before_reset": 1}),
    )
}  # fmt: skip


def named(name: str) -> CellKind:
    """Raises CellError."""
    if name not in CELLS:
        raise CellError(f"cell {name!r} is unknown; there are {', '.join(CELLS)}")
    return CELLS[name]


def kind_of(module: nn.Module) -> CellKind | None:
    """The row of a layer, by its class or the nearest class above it; None where there is none."""
    for base in type(module).__mro__:
        for row in CELLS.values():
            if row.module is base and all(getattr(module, name, None) == v for name, v in row.arguments.items()):
                return row
    return None
