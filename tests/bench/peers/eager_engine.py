"""PyTorch eager, in inference mode, with its default threads: the encoder of `models`, the head's weights from ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.encoders import build
from service.video.spec import ClipSpec

Array = NDArray[np.float32]


class MeanLstm(nn.Module):
    """The head of actions-lstm: an LSTM, the mean of its outputs over a clip's own ticks, a linear layer."""

    def __init__(self, input_size: int, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), (B) → logits (B, K)."""
        outputs, _ = self.rnn(features)  # what is past a length never reaches back: the LSTM runs forward
        kept = torch.arange(features.shape[1]) < lengths[:, None]
        logits: Tensor = self.classifier((outputs * kept[:, :, None]).sum(dim=1) / lengths[:, None])
        return logits


class EagerEngine:
    """The encoder as `models` builds it, with the ImageNet weights that the zoo's was exported with."""

    def __init__(self, head: Path, spec: ClipSpec) -> None:
        self._encoder = build("efficientnet-lite0", spec.frame_height, spec.frame_width)
        self._head = head_of(head)

    def encode(self, frames: NDArray[np.uint8]) -> Array:
        with torch.inference_mode():
            features: Array = self._encoder(torch.from_numpy(frames)).numpy()
        return features

    def logits(self, features: Array, lengths: NDArray[np.int64]) -> Array:
        with torch.inference_mode():
            logits: Array = self._head(torch.from_numpy(features), torch.from_numpy(lengths)).numpy()
        return logits


def head_of(path: Path) -> MeanLstm:
    """head.onnx's weights in a PyTorch module. ONNX orders the gates i o f c, PyTorch i f g o (g is ONNX's c)."""
    weights = {tensor.name: _tensor(tensor) for tensor in onnx.load(path).graph.initializer}
    hidden_size = weights["rnn.layer0_R"].shape[2]
    input_bias, hidden_bias = weights["rnn.layer0_B"][0].chunk(2)
    num_labels = len(weights["classifier.bias"])
    head = MeanLstm(weights["rnn.layer0_W"].shape[2], hidden_size, num_labels)
    head.load_state_dict(
        {
            "rnn.weight_ih_l0": _gates(weights["rnn.layer0_W"][0]),
            "rnn.weight_hh_l0": _gates(weights["rnn.layer0_R"][0]),
            "rnn.bias_ih_l0": _gates(input_bias),
            "rnn.bias_hh_l0": _gates(hidden_bias),
            "classifier.weight": weights["classifier.weight"],
            "classifier.bias": weights["classifier.bias"],
        }
    )
    return head.eval()


def _gates(rows: Tensor) -> Tensor:
    into, out, forget, cell = rows.chunk(4)
    return torch.cat([into, forget, cell, out])


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())
