"""Recurrent layers that torch lacks, with the interface of `torch.nn.LSTM`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

State = tuple[Tensor, Tensor]


class PeepholeLSTM(nn.Module):
    """LSTM whose gates also see the cell (Gers, Schraudolph, Schmidhuber 2002, JMLR 3).

    The input and forget gates see the cell before the step, the output gate the one after it; each peephole is
    diagonal. Parameters are named and stacked as those of `torch.nn.LSTM` (input, forget, cell, output), and
    `weight_peephole_*` (3·hidden_size) as input, forget, output.

    forward(input, (h_0, c_0)) → output, (h_n, c_n), shapes as `torch.nn.LSTM`; a PackedSequence gives one.
    A loop in Python: exact, and slower than torch's kernels.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        bound = 1.0 / math.sqrt(hidden_size)
        for layer, suffix in self._layers():
            width = input_size if layer == 0 else hidden_size * self.num_directions
            for name, shape in (
                ("weight_ih", (4 * hidden_size, width)),
                ("weight_hh", (4 * hidden_size, hidden_size)),
                ("bias_ih", (4 * hidden_size,)),
                ("bias_hh", (4 * hidden_size,)),
                ("weight_peephole", (3 * hidden_size,)),
            ):
                values = torch.empty(shape).uniform_(-bound, bound)
                self.register_parameter(f"{name}_l{layer}{suffix}", nn.Parameter(values))

    @property
    def num_directions(self) -> int:
        """2 when bidirectional."""
        return 2 if self.bidirectional else 1

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Tensor | PackedSequence, State]:  # noqa: A002  (as torch.nn.LSTM)
        """Run all layers; without `hx` from the zero state."""
        packed = isinstance(input, PackedSequence)
        if isinstance(input, PackedSequence):
            rows, lengths = pad_packed_sequence(input, batch_first=True)
        else:
            rows = input if self.batch_first else input.transpose(0, 1)
            lengths = torch.full((len(rows),), rows.shape[1])
        if hx is None:
            zeros = rows.new_zeros(self.num_layers * self.num_directions, len(rows), self.hidden_size)
            hx = (zeros, zeros)
        hidden, cell, at = [], [], 0
        for layer in range(self.num_layers):
            directions = []
            for suffix in self._suffixes():
                outputs, h, c = self._direction(rows, lengths, hx[0][at], hx[1][at], f"_l{layer}{suffix}")
                directions.append(outputs)
                hidden.append(h)
                cell.append(c)
                at += 1
            rows = torch.cat(directions, dim=2)
        state = (torch.stack(hidden), torch.stack(cell))
        if packed:
            return pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False), state
        return rows if self.batch_first else rows.transpose(0, 1), state

    def _direction(
        self, rows: Tensor, lengths: Tensor, hidden: Tensor, cell: Tensor, suffix: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer in one direction: outputs (B, T, H), zero past each length, and the last hidden and cell."""
        weight_hh, bias_hh = getattr(self, f"weight_hh{suffix}"), getattr(self, f"bias_hh{suffix}")
        peep_input, peep_forget, peep_output = getattr(self, f"weight_peephole{suffix}").chunk(3)
        projected = nn.functional.linear(rows, getattr(self, f"weight_ih{suffix}"), getattr(self, f"bias_ih{suffix}"))
        num_steps = rows.shape[1]
        outputs: list[Tensor] = [hidden] * num_steps
        backwards = suffix.endswith("_reverse")
        for step in range(num_steps - 1, -1, -1) if backwards else range(num_steps):
            gates = projected[:, step] + nn.functional.linear(hidden, weight_hh, bias_hh)
            gate_input, gate_forget, candidate, gate_output = gates.chunk(4, dim=1)
            written = torch.sigmoid(gate_input + peep_input * cell) * torch.tanh(candidate)
            new_cell = torch.sigmoid(gate_forget + peep_forget * cell) * cell + written
            new_hidden = torch.sigmoid(gate_output + peep_output * new_cell) * torch.tanh(new_cell)
            held = (step < lengths)[:, None]
            outputs[step] = torch.where(held, new_hidden, 0.0)
            hidden, cell = torch.where(held, new_hidden, hidden), torch.where(held, new_cell, cell)
        return torch.stack(outputs, dim=1), hidden, cell

    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _layers(self) -> list[tuple[int, str]]:
        return [(layer, suffix) for layer in range(self.num_layers) for suffix in self._suffixes()]
