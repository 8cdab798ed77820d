"""Heads over sequences of frame features. Only the head sees time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class LSTMDims:
    """All that is needed to build an `LSTMHead` before its weights are loaded."""

    feature_size: int
    hidden_size: int
    num_labels: int
    pooling: Pooling = "last"

    def to_dict(self) -> dict[str, int | str]:
        """For a checkpoint: plain types only."""
        return asdict(self)


@dataclass(frozen=True)
class LSTMState:
    """What a unidirectional many-to-one LSTM carries from one chunk of a stream to the next, all float32.

    hidden, cell: (B, H); pooled_sum: (B, H), the sum of outputs so far, and pooled_count: (B, 1), their
    number; both stay zero where `pooling` is `last`.
    """

    hidden: Tensor
    cell: Tensor
    pooled_sum: Tensor
    pooled_count: Tensor

    @staticmethod
    def zeros(batch: int, hidden_size: int, dtype: torch.dtype = torch.float32) -> LSTMState:
        """The state before the first frame."""
        h = torch.zeros(batch, hidden_size, dtype=dtype)
        return LSTMState(h, h.clone(), h.clone(), torch.zeros(batch, 1, dtype=dtype))


class LSTMHead(nn.Module):
    """Many-to-one LSTM (Hochreiter and Schmidhuber 1997): the pooled output of all frames → one logit a label.

    Dropout (training only) falls on the input features and on the pooled output.
    """

    def __init__(self, dims: LSTMDims, input_dropout: float = 0.0, output_dropout: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.input_dropout = nn.Dropout(input_dropout)
        self.output_dropout = nn.Dropout(output_dropout)
        self.lstm = nn.LSTM(dims.feature_size, dims.hidden_size, batch_first=True)
        self.classifier = nn.Linear(dims.hidden_size, dims.num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) int64 in [1, T] → logits (B, K), from the zero state."""
        return self.step(features, lengths, None)[0]

    def step(self, features: Tensor, lengths: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        """One chunk of a stream: logits (B, K) over all frames so far, and the state after the chunk."""
        if state is None:
            state = LSTMState.zeros(len(features), self.dims.hidden_size, features.dtype)
        packed = pack_padded_sequence(
            self.input_dropout(features), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed, (hidden, cell) = self.lstm(packed, (state.hidden[None], state.cell[None]))
        hidden, cell = hidden[0], cell[0]
        pooled_sum, pooled_count, pooled = state.pooled_sum, state.pooled_count, hidden
        if self.dims.pooling == "mean":
            outputs, _ = pad_packed_sequence(packed, batch_first=True)  # zeros past each length
            pooled_sum = pooled_sum + outputs.sum(dim=1)
            pooled_count = pooled_count + lengths[:, None].to(features.dtype)
            pooled = pooled_sum / pooled_count
        logits: Tensor = self.classifier(self.output_dropout(pooled))
        return logits, LSTMState(hidden, cell, pooled_sum, pooled_count)


class MeanOfFeatures(nn.Module):
    """Baseline without order: the mean of the features → linear."""

    def __init__(self, feature_size: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) → logits (B, K)."""
        held = torch.arange(features.shape[1])[None, :] < lengths[:, None]
        mean = (features * held[:, :, None]).sum(dim=1) / lengths[:, None]
        logits: Tensor = self.classifier(self.dropout(mean))
        return logits


class SingleFrame(nn.Module):
    """Baseline without time: the middle frame of the window → linear."""

    def __init__(self, feature_size: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) → logits (B, K)."""
        middle = features[torch.arange(len(features)), (lengths - 1) // 2]
        logits: Tensor = self.classifier(self.dropout(middle))
        return logits
