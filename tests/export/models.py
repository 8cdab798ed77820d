"""Models of the tests' own: no network of `models`, small enough to export in a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from export.prove.clips import ProofClip
from export.prove.proof import Report
from export.scores import score_clips
from export.source import VideoModel
from export.write.bundle import Options, write_bundle
from models.encoders import ImageEncoder
from models.heads import HeadDims, SequenceHead
from service.bundle import Source
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=5, frame_height=32, frame_width=32, window_frames=4, stride_frames=2)
LABELS = ("blue", "green", "red")
FEATURES = 12
SOURCES = (Source(name="encoder weights", origin="drawn by the tests", licence="Apache-2.0"),)


class SmallNet(nn.Module):
    """A user's own image CNN: a VGG block and a residual one, with batch norms; (N, 3, H, W) → (N, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.norm = nn.BatchNorm2d(8)
        self.residual = nn.Conv2d(8, 8, 3, padding=1)
        self.project = nn.Linear(8 * 4, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        maps = maps + self.residual(self.norm(maps).relu())
        features: Tensor = self.project(nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))
        return features


class PackedGRU(nn.Module):
    """A user's own head as tutorials write it: packed, bidirectional GRU, last states, two layers on top."""

    def __init__(self, num_labels: int = len(LABELS)) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, num_labels))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed)
        logits: Tensor = self.classifier(self.dropout(torch.cat([last[-2], last[-1]], dim=1)))
        return logits


class FramewiseLSTM(nn.Module):
    """A user's own many-to-many head: two LSTMs one after the other, time first, padded outputs classified."""

    def __init__(self, num_labels: int = len(LABELS)) -> None:
        super().__init__()
        self.below = nn.LSTM(FEATURES, 7)
        self.above = nn.LSTM(7, 5, bias=False)
        self.classifier = nn.Linear(5, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features.transpose(0, 1), lengths.cpu(), enforce_sorted=False)
        packed, _ = self.below(packed)
        packed, _ = self.above(packed)
        outputs, _ = pad_packed_sequence(packed, total_length=features.shape[1])
        logits: Tensor = self.classifier(outputs.transpose(0, 1))
        return logits


class UnpackedLast(nn.Module):
    """A user's own head without packing: the output at the last frame, gathered by length."""

    def __init__(self, num_labels: int = len(LABELS)) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 6, nonlinearity="relu", batch_first=True)
        self.classifier = nn.Linear(6, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.rnn(features)
        logits: Tensor = self.classifier(outputs[torch.arange(len(outputs)), lengths - 1])
        return logits


def encoder() -> ImageEncoder:
    """`SmallNet` with norms as after training."""
    torch.manual_seed(1)
    net = SmallNet()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return ImageEncoder(net, "small-net", FEATURES, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)).eval()


def video_model(head: nn.Module, *, task: str = "clip", name: str = "mine") -> VideoModel:
    return VideoModel(
        name=name,
        labels=LABELS,
        spec=SPEC,
        encoder_name="small-net",
        encoder=encoder(),
        head=head.eval(),
        task=task,  # type: ignore[arg-type]
        sources=SOURCES,
        created="2026-01-01T00:00:00+00:00",
    )


def scored(model: VideoModel, clips: Sequence[ProofClip]) -> VideoModel:
    """The model as its training left it, with its scores of the clips; without them where its modules are broken."""
    try:
        return dataclasses.replace(model, clips_scored=score_clips(model, clips))
    except Exception:  # noqa: BLE001  (whatever a broken network raises: the export is to say it)
        return model


def write_scored(
    model: VideoModel,
    out: Path,
    clips: Sequence[ProofClip],
    options: Options | None = None,
    report: Report = lambda row: None,
) -> Path:
    """`write_bundle` of a model that was trained as it is."""
    return write_bundle(scored(model, clips), out, clips, options, report)


def build() -> VideoModel:
    """What `python -m export tests.export.models:build` exports."""
    torch.manual_seed(0)
    return video_model(PackedGRU())


def sequence_head(dims: HeadDims) -> SequenceHead:
    torch.manual_seed(0)
    return SequenceHead(dims).eval()
