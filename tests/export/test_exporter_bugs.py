"""Bugs of PyTorch's exporters that we know, one head each: our graph is right; theirs is, or is caught by us."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from export.errors import CheckFailed, UnsupportedModule
from export.prove.structure import faults
from export.trace.head import HeadGraph, export_head
from service.bundle import Task
from tests.export import unsupported
from tests.export.models import FEATURES, LABELS
from tests.export.naive import answers_right, naive_export
from tests.export.test_matrix import SMALL, prove

K, HIDDEN = len(LABELS), 6


class EveryFrame(nn.Module):
    """Many-to-many, padded as it is. Dynamo wrote the outputs' time as a constant, and packed weights at every run."""

    cell: type[nn.RNN | nn.LSTM | nn.GRU] = nn.LSTM

    def __init__(self) -> None:
        super().__init__()
        self.rnn = self.cell(FEATURES, HIDDEN, batch_first=True)
        self.classifier = nn.Linear(HIDDEN, K)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.classifier(self.rnn(features)[0])
        return logits


class EveryFrameGRU(EveryFrame):
    cell = nn.GRU


class EveryFrameRNN(EveryFrame):
    cell = nn.RNN


class ManualBidirectional(nn.Module):
    """A second RNN over each clip reversed by its length: pytorch#191855 freezes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.backwards = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.classifier = nn.Linear(2 * HIDDEN, K)

    def initial_state(self, batch: int) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(features.shape[1], device=features.device)[None, :]
        mirrored = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        reversed_ = features.gather(1, mirrored[:, :, None].expand_as(features))
        rows = torch.arange(features.shape[0], device=features.device)
        last = [
            rnn(part)[0][rows, lengths - 1] for rnn, part in ((self.forwards, features), (self.backwards, reversed_))
        ]
        logits: Tensor = self.classifier(torch.cat(last, dim=1))
        return logits


class Packed(nn.Module):
    """pack_padded_sequence, which no exporter takes with symbolic lengths; bidirectional, all outputs pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * HIDDEN, K)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=features.shape[1])
        logits: Tensor = self.classifier(outputs.sum(dim=1) / lengths[:, None])
        return logits


class LengthOfATensor(EveryFrame):
    """`len(features)`: Python wants a number, and the batch is frozen to it."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        outputs = self.rnn(features)[0]
        logits: Tensor = self.classifier(outputs[torch.arange(len(outputs)), lengths - 1])
        return logits


class ZerosForOne(EveryFrame):
    """Initial zeros written out: the older exporter bakes in the batch that it was traced with."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        zeros = features.new_zeros(1, features.size(0), HIDDEN)
        logits: Tensor = self.classifier(self.rnn(features, (zeros, zeros))[0])
        return logits


HEADS: dict[str, tuple[type[nn.Module], Task]] = {
    "LSTM, every frame": (EveryFrame, "frame"),
    "GRU, every frame": (EveryFrameGRU, "frame"),
    "RNN, every frame": (EveryFrameRNN, "frame"),
    "manual bidirectional, pytorch#191855": (ManualBidirectional, "clip"),
    "packed, bidirectional": (Packed, "clip"),
    "len of a tensor": (LengthOfATensor, "clip"),
    "zeros as initial state": (ZerosForOne, "frame"),
}


def graph_of(name: str) -> HeadGraph:
    torch.manual_seed(0)
    head, task = HEADS[name]
    return HeadGraph(head().eval(), FEATURES, task)


@pytest.mark.parametrize("name", HEADS)
def test_our_graph_is_right_and_onnx_runtime_prints_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(name)
    content = export_head(graph)
    model = onnx.load_from_string(content)
    assert faults(model, graph.axes, len(graph.state)) == []
    sizes = {state.name: state.size for state in graph.state}
    assert answers_right(content, graph.module, sizes, log_severity=2)
    assert capfd.readouterr() == ("", "")  # not that a shape is another than the graph says
    [outputs] = [value for value in ort.InferenceSession(content).get_outputs() if value.name == "outputs"]
    assert outputs.shape == ["batch", *["time"] * (graph.task == "frame"), K]


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", HEADS)
def test_their_graph_is_right_or_refused_or_caught(name: str, dynamo: bool, tmp_path: Path) -> None:
    """A newer PyTorch may mend any of them: then its graph is right."""
    graph = graph_of(name)
    model = naive_export(graph.module, dynamo=dynamo)
    if model is None or _faults(model, graph) or answers_right(model.SerializeToString(), graph.module):
        return
    with pytest.raises(CheckFailed):
        prove(model.SerializeToString(), graph, tmp_path, SMALL)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize(
    "name", ["LSTM, every frame", "zeros as initial state", "manual bidirectional, pytorch#191855"]
)
def test_axes_that_no_one_named_are_frozen_and_caught(name: str, dynamo: bool) -> None:
    graph = graph_of(name)
    model = naive_export(graph.module, dynamo=dynamo, with_axes=False)
    assert model is not None
    found = _faults(model, graph)
    assert "features: dimension 0 is 3, not `batch`: frozen to what it was traced with" in found
    assert "features: dimension 1 is 5, not `time`: frozen to what it was traced with" in found
    assert not answers_right(model.SerializeToString(), graph.module)


@pytest.mark.parametrize("name", ["LSTM, every frame", "GRU, every frame"])
def test_weights_that_are_packed_at_every_run_are_caught(name: str) -> None:
    """What dynamo writes before its optimizer, and wrote after it before PyTorch 2.14."""
    graph = graph_of(name)
    model = naive_export(graph.module, dynamo=True, optimize=False)
    assert model is not None
    packs = {node.op_type for node in model.graph.node} & {"Slice", "Concat", "Unsqueeze", "Transpose"}
    at_run = [fault for fault in _faults(model, graph) if "packs its weights" in fault or "from constants" in fault]
    assert at_run or not packs
    ours = onnx.load_from_string(export_head(graph))
    weights = {tensor.name for tensor in ours.graph.initializer}
    for node in ours.graph.node:
        if node.op_type in ("LSTM", "GRU"):
            assert set(node.input[1:4]) <= weights


def test_paths_in_stack_traces_are_theirs_and_not_ours() -> None:
    """They change with the folder, and with them the hash."""
    graph = graph_of("LSTM, every frame")
    theirs = naive_export(graph.module, dynamo=True)
    traces = [entry for node in theirs.graph.node for entry in node.metadata_props] if theirs else []
    if any(".py" in entry.value for entry in traces):
        assert theirs is not None
        assert [fault for fault in _faults(theirs, graph) if "a trace of this machine is inside" in fault]
    ours = onnx.load_from_string(export_head(graph))
    assert not [entry for node in ours.graph.node for entry in node.metadata_props]
    assert not ours.metadata_props
    assert ours.producer_version == ""


def test_a_loop_over_time_is_refused_where_theirs_freezes_it() -> None:
    """An RNN by hand: tracing writes as many steps as the example had."""
    head = unsupported.LoopOverTime().eval()
    theirs = naive_export(head, dynamo=False)
    assert theirs is None or not answers_right(theirs.SerializeToString(), head)
    with pytest.raises(UnsupportedModule, match="fixes time to the size it was traced with"):
        export_head(HeadGraph(head, FEATURES, "clip"))


def test_an_export_leaves_pytorch_and_the_user_s_module_as_they_were() -> None:
    """What stands for `len` and `pack_padded_sequence` while a head is traced is gone, also for torch's compiler."""
    here = sys.modules[__name__]
    for name in ("len of a tensor", "packed, bidirectional"):
        export_head(graph_of(name))
    assert "len" not in vars(here)
    assert pack_padded_sequence is torch.nn.utils.rnn.pack_padded_sequence
    assert isinstance(pack_padded_sequence(torch.rand(2, 3, 1), torch.tensor([3, 1]), True), PackedSequence)
    compiled = torch.compile(lambda values: values * len(values), backend="eager", fullgraph=True)
    assert compiled(torch.ones(3)).tolist() == [3, 3, 3]


def test_the_opset_is_one_whose_recurrent_nodes_have_gpu_kernels() -> None:
    """onnxruntime#13781, #26065, #27728: newer ones fall to the CPU without a word."""
    ours = onnx.load_from_string(export_head(graph_of("GRU, every frame")))
    assert [(opset.domain, opset.version) for opset in ours.opset_import] == [("", 18)]
    ours.opset_import[0].version = 22
    assert faults(ours, graph_of("GRU, every frame").axes, 1) == [
        "opset 22 is not in 17–20: newer ones put the RNN on the CPU"
    ]


def _faults(model: onnx.ModelProto, graph: HeadGraph) -> list[str]:
    return faults(model, {name: graph.axes[name] for name in ("features", "lengths", "outputs")}, 0)
