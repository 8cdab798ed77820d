"""Heads whose state the export can't carry by itself, and what they have to say so that it can."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.export.unsupported import HIDDEN, Head


class RunsTwice(Head):
    """The same LSTM on the features and on their halves."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.last(features, lengths) + self.last(features / 2, lengths))
        return logits


class MeanWithoutStep(Head):
    """Right on whole clips; what it carries over time is more than the LSTM's state."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        mean = self.outputs(features, lengths).sum(dim=1) / lengths[:, None]
        logits: Tensor = self.classifier(mean)
        return logits


class MeanNotStreamed(MeanWithoutStep):
    """The remedy: it says that it can't be streamed."""

    def initial_state(self, batch: int) -> dict[str, Tensor]:  # noqa: ARG002
        return {}


class LearnedStart(Head):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.rand(2, 1, 1, HIDDEN))

    def last(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, cell = self.start.expand(2, 1, features.shape[0], HIDDEN).contiguous()
        last: Tensor = self.lstm(packed, (hidden, cell))[1][0][-1]
        return last


class ZeroStart(Head):
    """As tutorials write it; works."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        zeros = features.new_zeros(1, features.size(0), HIDDEN)
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        logits: Tensor = self.classifier(self.lstm(packed, (zeros, zeros))[1][0][-1])
        return logits


class NoStep(MeanWithoutStep):
    def initial_state(self, batch: int) -> dict[str, Tensor]:
        return {"total": torch.zeros(batch, HIDDEN)}


class MeanInStep(Head):
    """The other remedy: the sum and the count are carried."""

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        sizes = {"hidden": HIDDEN, "cell": HIDDEN, "total": HIDDEN, "count": 1}
        return {name: self.classifier.weight.new_zeros(batch, size) for name, size in sizes.items()}

    def step(self, features: Tensor, lengths: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, (hidden, cell) = self.lstm(packed, (state["hidden"][None], state["cell"][None]))
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=features.shape[1])
        total, count = state["total"] + outputs.sum(dim=1), state["count"] + lengths[:, None]
        after = {"hidden": hidden[0], "cell": cell[0], "total": total, "count": count}
        return self.classifier(total / count), after

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.step(features, lengths, self.initial_state(features.shape[0]))[0]
        return logits


class StartsFromOnes(MeanInStep):
    def initial_state(self, batch: int) -> dict[str, Tensor]:
        return {name: torch.ones_like(values) for name, values in super().initial_state(batch).items()}
