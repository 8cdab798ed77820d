"""Heads over sequences of frame features. Only the head sees time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models import cells
from models.cells import CellError

Cell = str  # a name of `models.cells.CELLS`
# Many-to-one pools the outputs of all frames; `none` is many-to-many: every frame has its own answer.
ManyToOne = Literal["last", "mean", "attention"]
Pooling = ManyToOne | Literal["none"]
State = dict[str, Tensor]


@dataclass(frozen=True)
class HeadDims:
    """All that is needed to build a `SequenceHead` before its weights are loaded.

    dropout: in training, of the outputs of each recurrent layer but the last. projection_size: features are first
    mapped to so many, with layer norm (Ba, Kiros, Hinton 2016); 0: they go in as they are. differences: beside each row
    its distance to the row before, value by value, as what changes is what tells of a cut. Raises CellError for a cell
    that is unknown, and for dropout without a layer above.
    """

    feature_size: int
    hidden_size: int
    num_labels: int
    pooling: Pooling = "last"
    cell: Cell = "lstm"
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    projection_size: int = 0
    differences: bool = False

    def __post_init__(self) -> None:
        cells.named(self.cell)
        if not 0 <= self.dropout < 1:
            raise CellError(f"dropout between layers is {self.dropout:g}; it is a share, from 0 to below 1")
        if self.dropout and self.num_layers == 1:
            raise CellError(
                f"dropout between layers is {self.dropout:g}, and there is 1 layer; give it 2, or no dropout"
            )

    @property
    def row_size(self) -> int:
        """Width of a row once it is projected."""
        return self.projection_size or self.feature_size

    @property
    def output_size(self) -> int:
        """Width of the recurrent layers' output: both directions side by side."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    @property
    def state_sizes(self) -> dict[str, int]:
        """Width of each state tensor (batch, size) by name; none when bidirectional, as the end must be known."""
        if self.bidirectional:
            return {}
        kinds = cells.named(self.cell).states
        layers = [""] if self.num_layers == 1 else [f"_{layer}" for layer in range(self.num_layers)]
        sizes = {f"{kind}{layer}": self.hidden_size for kind in kinds for layer in layers}
        if self.pooling in ("mean", "attention"):
            sizes |= {"pooled_sum": self.output_size, "pooled_count": 1}
        if self.pooling == "attention":
            sizes["attention_max"] = 1
        if self.differences:
            sizes |= {"row_before": self.row_size, "rows_before": 1}
        return sizes

    def to_dict(self) -> dict[str, int | float | str | bool]:
        """For a checkpoint: plain types only."""
        return asdict(self)


class SequenceHead(nn.Module):
    """RNN (Elman 1990), with ReLU (Le, Jaitly, Hinton 2015), LSTM (Hochreiter and Schmidhuber 1997), with peepholes
    (Gers et al. 2002), or GRU (Cho et al. 2014) → logits.

    Many-to-one: the outputs of all frames are pooled (last; mean; additive attention, Bahdanau et al. 2014) and
    classified, (B, K). Many-to-many (`pooling` none): each output is classified, (B, T, K); rows past a clip's
    length mean nothing. Before the layers features may be projected, and put beside their differences from tick to
    tick. Dropout (training only) falls on the input features, between layers (`HeadDims.dropout`), and on what is
    classified.
    """

    def __init__(self, dims: HeadDims, input_dropout: float = 0.0, output_dropout: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.input_dropout = nn.Dropout(input_dropout)
        self.output_dropout = nn.Dropout(output_dropout)
        if dims.projection_size:
            self.projection = nn.Sequential(
                nn.Linear(dims.feature_size, dims.projection_size), nn.LayerNorm(dims.projection_size)
            )
        self.rnn = cells.named(dims.cell).build(
            dims.row_size * (2 if dims.differences else 1),
            dims.hidden_size,
            dims.num_layers,
            bidirectional=dims.bidirectional,
            dropout=dims.dropout,
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
        rows = self.input_dropout(features)
        if self.dims.projection_size:
            rows = self.projection(rows)
        before: State = {}
        if self.dims.differences:
            rows, before = self._with_differences(rows, lengths, state)
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, hidden, after = self._recur(packed, state)
        after |= before
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
            kind: [name for name in self.dims.state_sizes if name.split("_")[0] == kind]
            for kind in cells.named(self.dims.cell).states
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

    def _with_differences(self, rows: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """Rows (B, T, P) beside |row − row before|: (B, T, 2P); before the first there is none, and the distance is 0.

        In a stream the row before a chunk is the last one of the chunk before.
        """
        ticks = torch.arange(rows.shape[1], device=rows.device)
        before = rows[:, (ticks - 1).clamp_min(0)]  # no slice: its length would be another one than the rows'
        if state:
            is_behind = (ticks == 0)[None, :, None] & (state["rows_before"][:, :, None] > 0)
            before = torch.where(is_behind, state["row_before"][:, None], before)
        both = torch.cat([rows, (rows - before).abs()], dim=2)
        if not state:
            return both, {}
        last = rows.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, rows.shape[2]))[:, 0]
        count = state["rows_before"] + lengths[:, None].to(rows.dtype)
        return both, {"row_before": last, "rows_before": count}

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


class EachFrame(nn.Module):
    """Baseline without time, many-to-many: each frame by itself → linear."""

    def __init__(self, feature_size: int, num_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002  (as every head is called)
        """features (B, T, D), lengths (B) → logits (B, T, K)."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


class FramesAround(nn.Module):
    """Baseline with a fixed span of time, many-to-many: each frame and as many before as after it → a hidden layer →
    linear, the same at every tick: a time-delay network (Waibel et al. 1989, doi 10.1109/29.21701).

    num_frames: of the span, odd.
    """

    def __init__(self, feature_size: int, num_labels: int, num_frames: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Conv1d(feature_size, hidden_size, num_frames, padding=num_frames // 2)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (B, T, D), lengths (B) → logits (B, T, K). What is past a length counts as zeros."""
        held = torch.arange(features.shape[1], device=features.device) < lengths.to(features.device)[:, None]
        rows = self.dropout(features * held[..., None])
        found: Tensor = self.classifier(torch.relu(self.hidden(rows.transpose(1, 2))).transpose(1, 2))
        return found
