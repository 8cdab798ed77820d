"""A cell that `models` lacks, in one file: an RNN with softsign (Bergstra et al. 2009), which ONNX's RNN can say."""

from __future__ import annotations

from torch import Tensor

from models.cells import CellKind
from models.recurrent import State, SteppedRecurrent


class SoftsignRNN(SteppedRecurrent):
    num_gates = 1

    def advance(self, projected: Tensor, recurrent: Tensor, state: State, peepholes: tuple[Tensor, ...]) -> State:
        del state, peepholes
        summed = projected + recurrent
        return (summed / (1 + summed.abs()),)


ROW = CellKind(
    "rnn-softsign", SoftsignRNN, "RNN", ("input",), "softsign RNN", attributes={"activations": ("Softsign",)}
)
