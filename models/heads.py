"""Heads over sequences of frame features. Only the head sees time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.recurrent import PeepholeLSTM

Cell = Literal["rnn", "lstm", "gru", "peephole-lstm"]
# Many-to-one pools the outputs of all frames; `none` is many-to-many: every frame has its own answer.
ManyToOne = Literal["last", "mean", "attention"]
Pooling = ManyToOne | Literal["none"]
State = dict[str, Tensor]

_CELLS: dict[Cell, type[nn.Module]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU, "peephole-lstm": PeepholeLSTM}
_KEEP_A_CELL = ("lstm", "peephole-lstm")


@dataclass(frozen=True)
class HeadDims:
    """All that is needed to build a `SequenceHead` before its weights are loaded."""

    feature_size: int
    hidden_size: int
    num_labels: int
    pooling: Pooling = "last"
    cell: Cell = "lstm"
    num_layers: int = 1
    bidirectional: bool = False

    @property
    def output_size(self) -> int:
        """Width of the recurrent layers' output: both directions side by side."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    @property
    def state_sizes(self) -> dict[str, int]:
        """Width of each state tensor (batch, size) by name; none when bidirectional, as the end must be known."""
        if self.bidirectional:
            return {}
        kinds = ("hidden", "cell") if self.cell in _KEEP_A_CELL else ("hidden",)
        layers = [""] if self.num_layers == 1 else [f"_{layer}" for layer in range(self.num_layers)]
        sizes = {f"{kind}{layer}": self.hidden_size for kind in kinds for layer in layers}
        if self.pooling in ("mean", "attention"):
            sizes |= {"pooled_sum": self.output_size, "pooled_count": 1}
        if self.pooling == "attention":
            sizes["attention_max"] = 1
        return sizes

    def to_dict(self) -> dict[str, int | str | bool]:
        """For a checkpoint: plain types only."""
        return asdict(self)


class SequenceHead(nn.Module):
    """RNN (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014) or peephole LSTM → logits.

    Many-to-one: the outputs of all frames are pooled (last; mean; additive attention, Bahdanau et al. 2014) and
    classified, (B, K). Many-to-many (`pooling` none): each output is classified, (B, T, K); rows past a clip's
    length mean nothing. Dropout (training only) falls on the input features and on what is classified.
    """

    def __init__(self, dims: HeadDims, input_dropout: float = 0.0, output_dropout: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.input_dropout = nn.Dropout(input_dropout)
        self.output_dropout = nn.Dropout(output_dropout)
        self.rnn = _CELLS[dims.cell](
            dims.feature_size,
            dims.hidden_size,
            num_layers=dims.num_layers,
            batch_first=True,
            bidirectional=dims.bidirectional,
        )
        if dims.pooling == "attention":
            self.attention = nn.Sequential(
                nn.Linear(dims.output_size, dims.hidden_size), nn.Tanh(), nn.Linear(dims.hidden_size, 1, bias=False)
            )
        self.classifier = nn.Linear(dims.output_size, dims.num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) int64 in [1, T] → logits (B, K) or (B, T, K), from the zero state."""
        return self.step(features, lengths, self.initial_state(len(features)))[0]

    def initial_state(self, batch: int) -> State:
        """The state before the first frame: zeros (batch, size) by name; empty when bidirectional."""
        like = self.classifier.weight
        return {name: like.new_zeros(batch, size) for name, size in self.dims.state_sizes.items()}

    def step(self, features: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk of a stream: logits over all frames so far (many-to-many: of each frame), the state after it."""
        packed = pack_padded_sequence(
            self.input_dropout(features), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed, hidden, after = self._recur(packed, state)
        if self.dims.pooling == "last":
            pooled = hidden
        else:
            outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=features.shape[1])
            if self.dims.pooling == "none":
                pooled = outputs
            elif self.dims.pooling == "mean":
                pooled, kept = self._mean(outputs, lengths, state)
                after |= kept
            else:
                pooled, kept = self._attend(outputs, lengths, state)
                after |= kept
        logits: Tensor = self.classifier(self.output_dropout(pooled))
        return logits, after

    def _recur(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, Tensor, State]:
        """Outputs, the last hidden of the last layer (B, H; both directions side by side), and the state after."""
        layers = {
            kind: [name for name in self.dims.state_sizes if name.split("_")[0] == kind] for kind in ("hidden", "cell")
        }
        initial = [torch.stack([state[name] for name in names]) for names in layers.values() if names]
        hx = None if not initial else initial[0] if len(initial) == 1 else tuple(initial)
        packed, final = self.rnn(packed, hx)
        finals = final if isinstance(final, tuple) else (final,)
        after = {
            name: values[layer]
            for names, values in zip(layers.values(), finals, strict=False)
            for layer, name in enumerate(names)
        }
        hidden = torch.cat([finals[0][-2], finals[0][-1]], dim=1) if self.dims.bidirectional else finals[0][-1]
        return packed, hidden, after

    def _mean(self, outputs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """The mean of all outputs so far; its sum and count travel in the state."""
        total = outputs.sum(dim=1)  # zeros past each length
        count = lengths[:, None].to(outputs.dtype)
        if state:
            total, count = state["pooled_sum"] + total, state["pooled_count"] + count
        return total / count, {"pooled_sum": total, "pooled_count": count} if state else {}

    def _attend(self, outputs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs weighted by the softmax of their scores over all frames so far.

        The softmax is carried from chunk to chunk relative to the largest score yet (Milakov and Gimelshein 2018).
        """
        held = torch.arange(outputs.shape[1], device=outputs.device)[None, :] < lengths[:, None]
        scores = self.attention(outputs)[:, :, 0].masked_fill(~held, -torch.inf)
        largest = scores.max(dim=1, keepdim=True).values
        if state:
            before = torch.where(state["pooled_count"] > 0, state["attention_max"], largest)
            largest = torch.maximum(before, largest)
        weights = torch.exp(scores - largest)
        total, count = (weights[:, :, None] * outputs).sum(dim=1), weights.sum(dim=1, keepdim=True)
        if not state:
            return total / count, {}
        faded = torch.exp(before - largest)
        total, count = state["pooled_sum"] * faded + total, state["pooled_count"] * faded + count
        return total / count, {"pooled_sum": total, "pooled_count": count, "attention_max": largest}


class MeanOfFeatures(nn.Module):
    """Baseline without order: the mean of the features → linear."""

    def __init__(self, feature_size: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) → logits (B, K)."""
        held = torch.arange(features.shape[1], device=features.device)[None, :] < lengths[:, None]
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
