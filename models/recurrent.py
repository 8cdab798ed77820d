"""Recurrent layers that torch lacks, with the interface of `torch.nn.LSTM`: a class a cell, its equations alone."""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, ...]


class SteppedRecurrent(nn.Module, abc.ABC):
    """Layers, directions, packed sequences and dropout around a cell whose `advance` is written in Python.

    Parameters are named and stacked as those of `torch.nn.LSTM`: weight_ih_l0 (gates · hidden_size, input_size),
    weight_hh_l0, bias_ih_l0, bias_hh_l0, `_reverse` behind them for the second direction; and weight_peephole_l0
    (peepholes · hidden_size) where the cell has diagonal weights.

    forward(input, hx) → output, h_n, shapes as `torch.nn.RNN`; with two states (h_0, c_0) and (h_n, c_n), as
    `torch.nn.LSTM`. A PackedSequence gives one. dropout: on the outputs of each layer but the last, in training.
    A loop in Python: exact, and slower than torch's kernels.
    """

    num_gates: ClassVar[int]
    num_states: ClassVar[int] = 1
    num_peepholes: ClassVar[int] = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        bound = 1.0 / math.sqrt(hidden_size)
        stacked = self.num_gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self.num_directions
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (stacked, width),
                "weight_hh": (stacked, hidden_size),
                "bias_ih": (stacked,),
                "bias_hh": (stacked,),
            }
            if self.num_peepholes:
                shapes["weight_peephole"] = (self.num_peepholes * hidden_size,)
            for suffix in self._suffixes(layer):
                for name, shape in shapes.items():
                    values = torch.empty(shape).uniform_(-bound, bound)
                    self.register_parameter(f"{name}{suffix}", nn.Parameter(values))

    @abc.abstractmethod
    def advance(self, projected: Tensor, recurrent: Tensor, state: State, peepholes: tuple[Tensor, ...]) -> State:
        """One step of one layer: the state after it, each (B, H), the output first.

        projected: W x + b_ih (B, gates · H); recurrent: R h + b_hh (B, gates · H); state: before the step, each (B, H);
        peepholes: the diagonal weights, each (H).
        """

    @property
    def num_directions(self) -> int:
        """2 when bidirectional."""
        return 2 if self.bidirectional else 1

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002  (as torch.nn.LSTM)
        hx: Tensor | State | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor | State]:
        """Run all layers; without `hx` from the zero state."""
        packed = isinstance(input, PackedSequence)
        if isinstance(input, PackedSequence):
            rows, lengths = pad_packed_sequence(input, batch_first=True)
        else:
            rows = input if self.batch_first else input.transpose(0, 1)
            lengths = torch.full((len(rows),), rows.shape[1])
        if hx is None:
            zeros = rows.new_zeros(self.num_layers * self.num_directions, len(rows), self.hidden_size)
            hx = (zeros,) * self.num_states
        initial = (hx,) if isinstance(hx, Tensor) else hx
        finals: list[State] = []
        for layer in range(self.num_layers):
            directions = []
            for suffix in self._suffixes(layer):
                before = tuple(part[len(finals)] for part in initial)
                outputs, after = self._direction(rows, lengths, before, suffix)
                directions.append(outputs)
                finals.append(after)
            rows = torch.cat(directions, dim=2)
            if layer < self.num_layers - 1:
                rows = dropout(rows, self.dropout, self.training)
        state = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        final = state if self.num_states > 1 else state[0]
        if packed:
            return pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False), final
        return rows if self.batch_first else rows.transpose(0, 1), final

    def _direction(self, rows: Tensor, lengths: Tensor, state: State, suffix: str) -> tuple[Tensor, State]:
        """One layer in one direction: outputs (B, T, H), zero past each length, and the last state."""
        weight_hh, bias_hh = getattr(self, f"weight_hh{suffix}"), getattr(self, f"bias_hh{suffix}")
        peepholes = getattr(self, f"weight_peephole{suffix}").chunk(self.num_peepholes) if self.num_peepholes else ()
        projected = linear(rows, getattr(self, f"weight_ih{suffix}"), getattr(self, f"bias_ih{suffix}"))
        num_steps = rows.shape[1]
        outputs = [state[0]] * num_steps
        backwards = suffix.endswith("_reverse")
        for step in range(num_steps - 1, -1, -1) if backwards else range(num_steps):
            after = self.advance(projected[:, step], linear(state[0], weight_hh, bias_hh), state, peepholes)
            held = (step < lengths)[:, None]
            outputs[step] = torch.where(held, after[0], 0.0)
            state = tuple(torch.where(held, new, old) for new, old in zip(after, state, strict=True))
        return torch.stack(outputs, dim=1), state

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"_l{layer}", f"_l{layer}_reverse")[: self.num_directions]


class PeepholeLSTM(SteppedRecurrent):
    """LSTM whose gates also see the cell (Gers, Schraudolph, Schmidhuber 2002, JMLR 3).

    The input and forget gates see the cell before the step, the output gate the one after it; each peephole is
    diagonal. Gates are stacked as torch's (input, forget, cell, output), peepholes as input, forget, output.
    """

    num_gates = 4
    num_states = 2
    num_peepholes = 3

    def advance(self, projected: Tensor, recurrent: Tensor, state: State, peepholes: tuple[Tensor, ...]) -> State:
        """Hidden and cell."""
        _, cell = state
        peep_input, peep_forget, peep_output = peepholes
        gate_input, gate_forget, candidate, gate_output = (projected + recurrent).chunk(4, dim=1)
        written = torch.sigmoid(gate_input + peep_input * cell) * torch.tanh(candidate)
        new_cell = torch.sigmoid(gate_forget + peep_forget * cell) * cell + written
        return torch.sigmoid(gate_output + peep_output * new_cell) * torch.tanh(new_cell), new_cell
