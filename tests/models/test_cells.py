"""Every cell against its equations, forward and backward; initialisation; a cell that a file adds."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models import cells
from models.cells import CELLS, CellError, CellKind, kind_of
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.heads import HeadDims, SequenceHead
from models.initialisation import Initialisation, initialise
from models.recurrent import PeepholeLSTM
from models.served import accuracy
from models.study.methods import train_method
from tests.models import equations
from tests.models.test_fit import parts
from tests.models.toy_cell import ROW

WIDTH, HIDDEN = 3, 4
LENGTHS = (5, 1, 3)
NAMES = {"ih": "weight_ih", "hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "peephole": "weight_peephole"}
# Sums of a few dozen products in float64, in another order.
EXACT = 1e-12


def close(found: NDArray[np.float64], wanted: NDArray[np.float64], said: str = "") -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=EXACT, err_msg=said)


def layer_of(name: str, num_layers: int, bidirectional: bool, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    module = CELLS[name].build(WIDTH, HIDDEN, num_layers, bidirectional=bidirectional, dropout=dropout).double()
    with torch.no_grad():
        for values in module.parameters():
            values.mul_(1.5)  # gates are neither shut nor open
    return module


def weights_of(module: nn.Module, num_layers: int, num_directions: int, *, grad: bool) -> list[list[equations.Weights]]:
    held = dict(module.named_parameters())
    return [
        [
            {
                short: (held[name].grad if grad else held[name].detach()).numpy()  # type: ignore[union-attr]
                for short, stem in NAMES.items()
                if (name := f"{stem}_l{layer}{suffix}") in held
            }
            for suffix in ("", "_reverse")[:num_directions]
        ]
        for layer in range(num_layers)
    ]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_its_equations_forward_and_backward(name: str, num_layers: int, bidirectional: bool) -> None:
    module = layer_of(name, num_layers, bidirectional)
    directions, batch, longest = 2 if bidirectional else 1, len(LENGTHS), max(LENGTHS)
    random = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    rows = drawn(batch, longest, WIDTH).requires_grad_()
    num_states = len(CELLS[name].states)
    initial = [drawn(num_layers * directions, batch, HIDDEN).requires_grad_() for _ in range(num_states)]
    packed = pack_padded_sequence(rows, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    packed, finals = module(packed, initial[0] if num_states == 1 else tuple(initial))
    outputs, _ = pad_packed_sequence(packed, batch_first=True)
    finals = (finals,) if num_states == 1 else finals
    of_outputs, of_finals = drawn(*outputs.shape), [drawn(*part.shape) for part in finals]
    ((outputs * of_outputs).sum() + sum((a * b).sum() for a, b in zip(finals, of_finals, strict=True))).backward()

    layers = weights_of(module, num_layers, directions, grad=False)
    grads = [[{key: np.zeros_like(value) for key, value in w.items()} for w in layer] for layer in layers]
    for clip, length in enumerate(LENGTHS):
        start = [part.detach().numpy()[:, clip] for part in initial]
        run = equations.forward(equations.STEPS[name], layers, rows.detach().numpy()[clip, :length], start)
        close(outputs.detach().numpy()[clip, :length], run.outputs)
        for got, wanted in zip(finals, run.finals, strict=True):
            close(got.detach().numpy()[:, clip], wanted)
        of_rows, of_initial = equations.backward(
            run, layers, of_outputs.numpy()[clip, :length], [part.numpy()[:, clip] for part in of_finals], grads
        )
        assert rows.grad is not None
        close(rows.grad.numpy()[clip, :length], of_rows)
        assert not rows.grad.numpy()[clip, length:].any()
        for part, wanted in zip(initial, of_initial, strict=True):
            assert part.grad is not None
            close(part.grad.numpy()[:, clip], wanted)
    found = weights_of(module, num_layers, directions, grad=True)
    for got_layer, wanted_layer in zip(found, grads, strict=True):
        for got_weights, wanted_weights in zip(got_layer, wanted_layer, strict=True):
            assert got_weights.keys() == wanted_weights.keys() >= {"ih", "hh", "b_ih", "b_hh"}
            for key, values in wanted_weights.items():
                assert np.abs(values).max() > 1e-3
                close(got_weights[key], values, key)


def test_the_equations_are_there_for_every_row() -> None:
    assert set(equations.STEPS) == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_dropout_falls_between_layers_and_only_in_training(name: str) -> None:
    wet, dry = (layer_of(name, 2, bidirectional=True, dropout=dropout) for dropout in (1.0, 0.0))
    above = CELLS[name].build(2 * HIDDEN, HIDDEN, 1, bidirectional=True).double()
    above.load_state_dict({n.replace("_l1", "_l0"): v for n, v in dry.state_dict().items() if "_l1" in n})
    rows = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    # All that the first layer says is dropped, and nothing of the last one's.
    torch.testing.assert_close(wet(rows)[0], above(torch.zeros(2, 5, 2 * HIDDEN, dtype=torch.float64))[0])
    torch.testing.assert_close(wet.eval()(rows)[0], dry(rows)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cell": "qrnn"}, "cell 'qrnn' is unknown; there are rnn, rnn-relu, lstm, peephole-lstm, gru"),
        ({"dropout": 0.5}, "dropout between layers is 0.5, and there is 1 layer"),
        ({"dropout": 1.0, "num_layers": 2}, "dropout between layers is 1; it is a share"),
    ],
)
def test_dims_that_no_head_has_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(CellError, match=said):
        HeadDims(**{"feature_size": 3, "hidden_size": 4, "num_labels": 2} | change)  # type: ignore[arg-type]


def test_a_row_that_onnx_cannot_say_is_refused() -> None:
    with pytest.raises(CellError, match=r"cell 'x' has the gates .*'forget'.* and ONNX's GRU"):
        CellKind("x", nn.GRU, "GRU", ("reset", "update", "forget"), "X")
    with pytest.raises(CellError, match="cell 'x' has the peepholes"):
        CellKind("x", nn.LSTM, "LSTM", CELLS["lstm"].gates, "X", peepholes=("input",))


def test_a_layer_finds_its_row_by_class_and_arguments() -> None:
    class Mine(nn.GRU):
        pass

    assert kind_of(nn.RNN(2, 3, nonlinearity="relu")) is CELLS["rnn-relu"]
    assert kind_of(nn.RNN(2, 3)) is CELLS["rnn"]
    assert kind_of(Mine(2, 3)) is CELLS["gru"]
    assert kind_of(PeepholeLSTM(2, 3)) is CELLS["peephole-lstm"]
    assert kind_of(nn.Linear(2, 3)) is None


def big_head(cell: str) -> SequenceHead:
    torch.manual_seed(0)
    return SequenceHead(HeadDims(100, 150, 60, "attention", cell, num_layers=2, bidirectional=True))


@pytest.mark.parametrize("cell", CELLS)
def test_torchs_own_weights_stay_unless_another_beginning_is_asked_for(cell: str) -> None:
    head = big_head(cell)
    before = copy.deepcopy(head.state_dict())
    initialise(head, Initialisation())
    assert all(torch.equal(values, before[name]) for name, values in head.state_dict().items())


@pytest.mark.parametrize("weights", ["xavier", "he"])
@pytest.mark.parametrize("cell", CELLS)
def test_input_weights_have_the_variance_of_their_paper(cell: str, weights: str) -> None:
    head, kind = big_head(cell), CELLS[cell]
    before = copy.deepcopy(head.state_dict())
    initialise(head, Initialisation(input_weights=weights))  # type: ignore[arg-type]
    for name, values in head.named_parameters():
        linear = name in ("attention.0.weight", "attention.2.weight", "classifier.weight")
        if not linear and "weight_ih" not in name:
            assert torch.equal(values, before[name]), name
            continue
        for matrix in values.chunk(1 if linear else len(kind.gates)):
            fan_out, fan_in = matrix.shape
            variance = 2 / fan_in if weights == "he" else 2 / (fan_in + fan_out)
            # The variance of n draws is off by √(2/n) of itself for a normal, less for a uniform: five of them.
            assert float(matrix.detach().var()) == pytest.approx(variance, rel=5 * (2 / matrix.numel()) ** 0.5), name
            if weights == "xavier":
                assert float(matrix.detach().abs().max()) <= (3 * variance) ** 0.5


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell: str) -> None:
    head = big_head(cell)
    initialise(head, Initialisation(recurrent_weights="orthogonal"))
    found = [values for name, values in head.named_parameters() if "weight_hh" in name]
    assert len(found) == 4
    for stacked in found:
        for matrix in stacked.detach().chunk(len(CELLS[cell].gates)):
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(150), atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "peephole-lstm"])
def test_the_forget_gate_begins_open(cell: str) -> None:
    head = big_head(cell)
    before = copy.deepcopy(head.state_dict())
    initialise(head, Initialisation(forget_bias=1.5))
    held = dict(head.named_parameters())
    for layer, suffix in itertools.product((0, 1), ("", "_reverse")):
        names = [f"rnn.bias_{kind}_l{layer}{suffix}" for kind in ("ih", "hh")]
        summed = held[names[0]] + held[names[1]]
        assert summed[150:300].tolist() == [1.5] * 150  # input, forget, cell, output
        for name in names:
            for gate in (slice(0, 150), slice(300, 600)):
                assert torch.equal(held[name][gate], before[name][gate])


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu", "gru"])
def test_a_forget_bias_without_a_forget_gate_is_refused(cell: str) -> None:
    with pytest.raises(CellError, match=rf"forget_bias is 1, and the head has no forget gate \({cell}, |\({cell}\)"):
        initialise(big_head(cell), Initialisation(forget_bias=1))


def test_settings_reach_the_weights() -> None:
    settings = HeadSettings(
        5, "last", "lstm", 2, dropout=0.25, input_weights="xavier", recurrent_weights="orthogonal", forget_bias=2.0
    )
    head = settings.build(6, 3)
    held = dict(head.named_parameters())
    assert (held["rnn.bias_ih_l1"] + held["rnn.bias_hh_l1"])[5:10].tolist() == [2.0] * 5
    assert (head.dims.dropout, vars(head.rnn)["dropout"]) == (0.25, 0.25)
    assert HeadDims(**head.dims.to_dict()) == head.dims  # type: ignore[arg-type]


def test_a_cell_of_one_file_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cells.CELLS, ROW.name, ROW)
    cut = parts()
    assert cut.test is not None
    settings = HeadSettings(8, "last", ROW.name, input_dropout=0.0, output_dropout=0.0, recurrent_weights="orthogonal")
    model, _ = train_method("recurrent", cut, 2, settings, FitSettings(epochs=15, learning_rate=1e-2), seed=0)
    assert accuracy(model, cut.test) == 1.0
