"""Heads that can't be exported, or not as they are: each has one fault of those that users make."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.export.models import FEATURES, LABELS

K = len(LABELS)
HIDDEN = 6


class Head(nn.Module):
    """What most of them share: one LSTM, the last state classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.classifier = nn.Linear(HIDDEN, K)

    def last(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden: Tensor = self.lstm(packed)[1][0][-1]
        return hidden

    def outputs(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[1])
        return outputs

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.last(features, lengths))
        return logits


class CellInALoop(nn.Module):
    """nn.LSTMCell, stepped by Python."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, K)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        hidden = cell = features.new_zeros(features.shape[0], HIDDEN)
        for step in range(features.shape[1]):
            after = self.cell(features[:, step], (hidden, cell))
            held = (step < lengths)[:, None]
            hidden, cell = torch.where(held, after[0], hidden), torch.where(held, after[1], cell)
        logits: Tensor = self.classifier(hidden)
        return logits


class Decay(nn.Module):
    """A recurrence of its own over range(T), without a cell."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        total = torch.zeros_like(features[:, 0])
        for step in range(features.shape[1]):
            total = torch.where((step < lengths)[:, None], 0.5 * total + features[:, step], total)
        return total


class LoopOverTime(nn.Module):
    """The loop is in a submodule: that one has to be named."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = Decay()
        self.classifier = nn.Linear(FEATURES, K)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.decay(features, lengths))
        return logits


class Gate(nn.Module):
    """An `if` on values."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * 2 if hidden.abs().sum() > 1e6 else hidden


class DataDependentIf(Head):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.gate(self.last(features, lengths)))
        return logits


class Item(Head):
    """`.item()`: pads up to the longest clip."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max().item())
        logits: Tensor = self.classifier(self.last(features[:, :longest], lengths))
        return logits


class Projected(Head):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 9, proj_size=HIDDEN, batch_first=True)


class ScaledLSTM(nn.LSTM):
    def forward(self, *inputs, **named):  # type: ignore[no-untyped-def]
        outputs, (hidden, cell) = super().forward(*inputs, **named)
        return outputs, (2 * hidden, cell)


class Subclassed(Head):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = ScaledLSTM(FEATURES, HIDDEN, batch_first=True)


class BatchStatistics(Head):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(HIDDEN, track_running_stats=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.norm(self.last(features, lengths)))
        return logits


class SoftmaxOverBatch(Head):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.Softmax(dim=0)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.attend(self.last(features, lengths)))
        return logits


class MeanOverPadding(Head):
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.classifier(self.lstm(features)[0].mean(dim=1))
        return logits


class FunctionalDropout(Head):
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        hidden = nn.functional.dropout(self.last(features, lengths), 0.5, training=True)
        logits: Tensor = self.classifier(hidden)
        return logits


class OneLabelTooMany(Head):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(HIDDEN, K + 1)


class EveryFrame(Head):
    """(B, T, K) for a model whose task is `clip`."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.outputs(features, lengths))
        return logits


class OnlyFloat32(Head):
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        bias = torch.zeros(HIDDEN, K)
        return self.last(features, lengths) @ bias + super().forward(features, lengths)


class TwoAnswers(Head):
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        hidden = self.last(features, lengths)
        return self.classifier(hidden), hidden


class ReadsBatchSizes(Head):
    """Builds a PackedSequence by hand, as some tutorials do."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        logits: Tensor = self.classifier(self.lstm(packed._replace(data=packed.data * 2))[1][0][-1])
        return logits


class IfOnTime(Head):
    """An `if` on the number of frames."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        scale = 2.0 if features.shape[1] > 40 else 1.0
        logits: Tensor = self.classifier(scale * self.last(features, lengths))
        return logits


class PositionTable(Head):
    """A table as long as one window, added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.rand(6, FEATURES))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(features + self.positions[: features.shape[1]], lengths)


class OnlySorted(Head):
    """pack_padded_sequence without enforce_sorted=False."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True)
        logits: Tensor = self.classifier(self.lstm(packed)[1][0][-1])
        return logits


class WithoutLengths(Head):
    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        logits: Tensor = self.classifier(self.lstm(features)[1][0][-1])
        return logits


class Unknown(Head):
    """An operation that ONNX lacks."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.special.bessel_j0(self.last(features, lengths)))
        return logits


class MeanOfTheBatch(Head):
    """Centres what it classifies, in its own forward."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.last(features, lengths)
        logits: Tensor = self.classifier(hidden - hidden.mean(dim=0))
        return logits
