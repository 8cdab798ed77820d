"""What a second look found: right models that were refused, wrong ones that would have passed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportError, UnsupportedModule
from export.prove.clips import ProofClip
from export.prove.proof import Worst
from export.source import VideoModel
from export.trace.head import HeadGraph, export_head
from export.write.bundle import Options
from models.heads import HeadDims, SequenceHead
from service.differences import relative_difference
from service.registry import verify
from tests.export.models import FEATURES, LABELS, sequence_head, video_model, write_scored

DIMS = HeadDims(FEATURES, 6, len(LABELS))


class StepsOtherwise(SequenceHead):
    def step(self, features: Tensor, lengths: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        logits, after = super().step(features, lengths, state)
        return -logits, after

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return super().step(features, lengths, self.initial_state(len(features)))[0]


class LastOf(nn.Module):
    """An LSTM's last hidden state, classified; `scale` multiplies the outputs."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 6, batch_first=True)
        self.classifier = nn.Linear(6, len(LABELS))
        self.scale = scale

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.rnn(features)
        last: Tensor = outputs[torch.arange(len(outputs)), lengths - 1]
        logits: Tensor = self.classifier(last)
        return self.scale * logits


class NamesOfTheGraph(LastOf):
    """Parameters that are called as the graph's inputs and outputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.rand(1, 6))
        self.outputs = nn.Parameter(torch.rand(3))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.rnn(features)
        last: Tensor = outputs[torch.arange(len(outputs)), lengths - 1] * self.hidden
        logits: Tensor = self.classifier(last) + self.outputs
        return logits


class Pyramid(LastOf):
    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.ModuleDict({"pyramid": nn.Linear(6, 6)})

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.rnn(features)
        logits: Tensor = self.classifier(self.neck["pyramid"](outputs[torch.arange(len(outputs)), lengths - 1]))
        return logits


class TwoNames(LastOf):
    def __init__(self) -> None:
        super().__init__()
        self.again = self.rnn

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.again(features)
        logits: Tensor = self.classifier(outputs[torch.arange(len(outputs)), lengths - 1])
        return logits


class Normed(LastOf):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.utils.parametrizations.weight_norm(nn.Linear(6, 512))
        self.classifier = nn.Linear(512, len(LABELS))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.rnn(features)
        logits: Tensor = self.classifier(self.wide(outputs[torch.arange(len(outputs)), lengths - 1]))
        return logits


class LearnedStart(LastOf):
    def __init__(self) -> None:
        super().__init__()
        self.initial_state = nn.Parameter(torch.zeros(1, 1, 6))


def exported(head: nn.Module, clips: list[ProofClip], out: Path, **changes: object) -> Path:
    model = VideoModel(**{**vars(video_model(head)), **changes})
    folder = write_scored(model, out, clips)
    verify(folder, out / "encoders")
    return folder


@pytest.mark.parametrize("kind", [NamesOfTheGraph, Pyramid, TwoNames, Normed])
def test_a_right_head_passes(kind: type[nn.Module], clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported(kind(), clips, tmp_path)


def test_large_outputs_are_held_against_their_size(clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported(LastOf(scale=1e4), clips, tmp_path, score="none")


def test_two_certain_labels_are_no_changed_label(clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = LastOf()
    with torch.no_grad():
        head.classifier.bias.copy_(torch.tensor([40.0, 45.0, -3.0]))  # float32's sigmoid of both is 1.0
    exported(head, clips, tmp_path, score="sigmoid")


def test_a_step_that_answers_otherwise_is_refused(clips: list[ProofClip], tmp_path: Path) -> None:
    """`forward` was trained and `step` is exported."""
    torch.manual_seed(0)
    head = StepsOtherwise(DIMS)
    with pytest.raises(UnsupportedModule, match=r"`step` .* another answer than its `forward`"):
        exported(head, clips, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_an_initial_state_that_is_no_method_is_refused() -> None:
    with pytest.raises(UnsupportedModule, match="not a method that gives tensors by name"):
        export_head(HeadGraph(LearnedStart(), FEATURES, "clip"))


def test_old_weight_norm_is_refused_with_the_remedy() -> None:
    head = LastOf()
    with pytest.warns(FutureWarning, match="deprecated"):
        head.wide = nn.utils.weight_norm(nn.Linear(6, 6))
    head.wide(torch.rand(1, 6))
    with pytest.raises(UnsupportedModule, match=r"can't be copied.*remove_weight_norm"):
        export_head(HeadGraph(head, FEATURES, "clip"))


@pytest.mark.parametrize(
    ("changes", "version", "said"),
    [
        ({"name": "My Model"}, "1", "name 'My Model' will not do"),
        ({"encoder_name": "A b"}, "1", "encoder_name 'A b-32x32' will not do"),
        ({"labels": ("one",)}, "1", "the only label is 'one', and the softmax of one is always 1: name 2 at least"),
        ({}, "v1/2", "version 'v1/2' will not do"),
        ({"training": {"loss": object()}}, "1", "training is not plain JSON"),
    ],
)
def test_what_the_documents_can_t_hold_is_said_first(
    changes: dict[str, object], version: str, said: str, clips: list[ProofClip], tmp_path: Path
) -> None:
    model = VideoModel(**{**vars(video_model(sequence_head(DIMS))), **changes})
    with pytest.raises(ExportError, match=said):
        write_scored(model, tmp_path / "a" / "b", clips, Options(version))
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_none_is_no_agreement() -> None:
    wanted, got = np.array([np.inf, 1.0, 2.0]), np.array([np.inf, 9.0, 9.0])
    assert relative_difference(got, wanted) == math.inf
    worst = Worst()
    worst.see(math.nan, "here")
    assert not worst.value <= 1e9
