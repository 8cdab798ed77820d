from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.cells import CELLS
from models.heads import FramesAround, HeadDims, MeanOfFeatures, Pooling, SequenceHead, SingleFrame
from models.recurrent import PeepholeLSTM

POOLINGS: tuple[Pooling, ...] = ("last", "mean", "attention", "none")
KINDS = [
    HeadDims(6, 5, 3, pooling, cell, num_layers, bidirectional)
    for cell, pooling, num_layers, bidirectional in itertools.product(CELLS, POOLINGS, (1, 2), (False, True))
] + [
    HeadDims(6, 5, 3, pooling, "gru", 1, bidirectional, projection_size=projection_size, differences=differences)
    for pooling, bidirectional, (projection_size, differences) in itertools.product(
        POOLINGS, (False, True), ((4, False), (0, True), (4, True))
    )
]


def head_of(dims: HeadDims) -> SequenceHead:
    torch.manual_seed(0)
    return SequenceHead(dims, 0.5, 0.5).double().eval()


@pytest.mark.parametrize("dims", KINDS, ids=str)
def test_what_is_past_a_length_is_not_read(dims: HeadDims) -> None:
    head = head_of(dims)
    features, lengths = torch.rand(4, 9, 6, dtype=torch.float64), torch.tensor([9, 1, 4, 7])
    dirty = features.clone()
    for row, length in enumerate(lengths.tolist()):
        dirty[row, length:] = 1e6
    clean, spoiled = head(features, lengths), head(dirty, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = head(features[row : row + 1, :length], lengths[row : row + 1])[0]
        held = slice(length) if dims.pooling == "none" else slice(None)
        torch.testing.assert_close(clean[row][held], alone)
        torch.testing.assert_close(spoiled[row][held], alone)


@pytest.mark.parametrize("dims", [dims for dims in KINDS if not dims.bidirectional], ids=str)
def test_chunks_with_carried_state_equal_the_whole(dims: HeadDims) -> None:
    head = head_of(dims)
    features = torch.rand(2, 10, 6, dtype=torch.float64)
    state, answers = head.initial_state(2), []
    for start, stop in ((0, 1), (1, 4), (4, 10)):
        logits, state = head.step(features[:, start:stop], torch.full((2,), stop - start), state)
        answers.append(logits)
    assert {name: values.shape[1] for name, values in state.items()} == dims.state_sizes
    got = torch.cat(answers, dim=1) if dims.pooling == "none" else answers[-1]
    torch.testing.assert_close(got, head(features, torch.tensor([10, 10])))


def test_differences_are_those_from_tick_to_tick() -> None:
    head = head_of(HeadDims(6, 5, 3, "none", differences=True))
    seen: list[torch.Tensor] = []
    head.rnn.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].data))
    features = torch.rand(1, 4, 6, dtype=torch.float64)
    head(features, torch.tensor([4]))
    torch.testing.assert_close(seen[0][:, :6], features[0])
    torch.testing.assert_close(seen[0][:, 6:], features[0].diff(dim=0, prepend=features[0, :1]).abs())


def test_attention_holds_where_scores_are_extreme() -> None:
    head = head_of(HeadDims(6, 5, 3, "attention"))
    with torch.no_grad():
        dict(head.named_parameters())["attention.2.weight"].mul_(1e4)  # scores of thousands: powers leave float64
    features = torch.rand(2, 8, 6, dtype=torch.float64) * 10 - 5
    state, logits = head.initial_state(2), torch.empty(0)
    for step in range(8):
        logits, state = head.step(features[:, step : step + 1], torch.ones(2, dtype=torch.int64), state)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits, head(features, torch.tensor([8, 8])))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_peephole_lstm_without_peepholes_is_torchs_lstm(bidirectional: bool) -> None:
    ours = PeepholeLSTM(4, 3, 2, batch_first=True, bidirectional=bidirectional)
    torchs = torch.nn.LSTM(4, 3, 2, batch_first=True, bidirectional=bidirectional)
    with torch.no_grad():
        for name, values in ours.named_parameters():
            if "peephole" in name:
                values.zero_()
    torchs.load_state_dict({n: v for n, v in ours.state_dict().items() if "peephole" not in n})
    features, lengths = torch.rand(3, 7, 4), torch.tensor([2, 7, 5])
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    for given in (features, packed):
        outputs, state = ours(given)
        wanted, wanted_state = torchs(given)
        if not isinstance(given, torch.Tensor):
            outputs, wanted = (pad_packed_sequence(rows, batch_first=True)[0] for rows in (outputs, wanted))
        torch.testing.assert_close(outputs, wanted)
        torch.testing.assert_close(state, wanted_state)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_peepholes_are_those_of_the_paper() -> None:
    """One step, one unit, written out: i and f see the cell before, o the cell after."""
    lstm = PeepholeLSTM(1, 1)
    with torch.no_grad():
        for values in lstm.parameters():
            values.copy_(torch.linspace(-1, 1, values.numel()).view_as(values))
    x, h, c = 0.5, 0.25, -0.75
    w = {name.removesuffix("_l0"): v.detach().flatten().tolist() for name, v in lstm.named_parameters()}
    gates = [
        wi * x + wh * h + bi + bh
        for wi, wh, bi, bh in zip(w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"], strict=True)
    ]
    p_input, p_forget, p_output = w["weight_peephole"]
    cell = sigmoid(gates[1] + p_forget * c) * c + sigmoid(gates[0] + p_input * c) * math.tanh(gates[2])
    hidden = sigmoid(gates[3] + p_output * cell) * math.tanh(cell)
    _, (got_hidden, got_cell) = lstm(torch.tensor([[[x]]]), (torch.tensor([[[h]]]), torch.tensor([[[c]]])))
    assert (got_hidden.item(), got_cell.item()) == pytest.approx((hidden, cell), abs=1e-6)


def test_the_mean_ignores_order_and_padding_and_the_single_frame_is_the_middle_one() -> None:
    features = torch.rand(1, 6, 4)
    mean, single = MeanOfFeatures(4, 3).eval(), SingleFrame(4, 3).eval()
    five = torch.tensor([5])
    shuffled = features[:, [4, 2, 0, 1, 3, 5]]
    torch.testing.assert_close(mean(features, five), mean(shuffled, five))
    torch.testing.assert_close(mean(features, five), mean.classifier(features[:, :5].mean(dim=1)))
    torch.testing.assert_close(single(features, five), single.classifier(features[:, 2]))


def test_frames_around_each_are_a_span_of_them_and_no_padding() -> None:
    """By its definition, tick by tick; an answer does not depend on what is past the length."""
    torch.manual_seed(0)
    head = FramesAround(3, 2, num_frames=5, hidden_size=4, dropout=0.5).eval()
    features, lengths = torch.randn(2, 9, 3), torch.tensor([9, 6])
    found = head(features, lengths)
    for clip, length in enumerate(lengths.tolist()):
        for tick in range(length):
            span = torch.zeros(3, 5)
            for place, other in enumerate(range(tick - 2, tick + 3)):
                if 0 <= other < length:
                    span[:, place] = features[clip, other]
            hidden = torch.relu((head.hidden.weight * span).sum(dim=(1, 2)) + head.hidden.bias)  # type: ignore[operator]
            torch.testing.assert_close(found[clip, tick], head.classifier(hidden))
    features[1, 6:] = 1e6
    torch.testing.assert_close(head(features, lengths)[1, :6], found[1, :6])
