"""Where nodes run: what may leave the GPU by design, what fails, and what ONNX Runtime's profile tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.prove.placement import by_design, misplaced, placement, runtimes_here
from export.trace.encoder import export_encoder
from export.trace.head import HeadGraph, export_head
from models.heads import Cell, HeadDims
from service.bundle import Runtime
from service.certificate import Placement
from tests.export.models import FEATURES, FramewiseLSTM, encoder, sequence_head

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def node(op_type: str, *, peepholes: bool = False, **attributes: object) -> onnx.NodeProto:
    """A recurrent node by hand, with sequence_lens and initial state."""
    inputs = ["x", "w", "r", "b", "lengths", "hidden", *["cell", "p"][: 2 if peepholes else op_type == "LSTM"]]
    return helper.make_node(op_type, inputs, ["y"], hidden_size=4, **attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recurrent", "reason"),
    [
        (node("LSTM"), ""),
        (node("RNN"), ""),
        (node("GRU", linear_before_reset=1), ""),
        (node("LSTM", direction="bidirectional"), ""),
        (node("LSTM", peepholes=True), "cuDNN's LSTM has no peepholes"),
        (node("GRU"), "cuDNN's GRU resets after the product"),
        (node("GRU", linear_before_reset=0), "cuDNN's GRU resets after the product"),
        (node("LSTM", clip=3.0), "cuDNN's recurrent layers neither clip nor couple gates"),
        (node("LSTM", input_forget=1), "cuDNN's recurrent layers neither clip nor couple gates"),
        (helper.make_node("Conv", ["x", "w"], ["y"]), ""),
    ],
)
def test_only_what_cudnn_lacks_leaves_the_gpu_by_design(recurrent: onnx.NodeProto, reason: str) -> None:
    assert by_design(recurrent, "onnxruntime-cuda") == reason
    assert by_design(recurrent, "onnxruntime-cpu") == ""
    leaves_tensorrt = (
        "TensorRT leaves recurrent layers with sequence_lens to CUDA" if recurrent.op_type != "Conv" else ""
    )
    assert by_design(recurrent, "onnxruntime-tensorrt") == (reason or leaves_tensorrt)


@pytest.mark.parametrize(
    ("runtime", "provider", "expected", "wrong"),
    [
        ("onnxruntime-cpu", CPU, "", False),
        ("onnxruntime-cuda", CUDA, "", False),
        ("onnxruntime-cuda", CPU, "", True),
        ("onnxruntime-cuda", CPU, "cuDNN's LSTM has no peepholes", False),
        ("onnxruntime-tensorrt", TENSORRT, "", False),
        ("onnxruntime-tensorrt", CUDA, "TensorRT leaves recurrent layers with sequence_lens to CUDA", False),
        ("onnxruntime-tensorrt", CUDA, "", True),
        ("onnxruntime-tensorrt", CPU, "", True),
    ],
)
def test_a_node_elsewhere_without_a_reason_is_misplaced(
    runtime: Runtime, provider: str, expected: str, wrong: bool
) -> None:
    line = Placement(graph="head", op_type="LSTM", nodes=2, runtime=runtime, provider=provider, expected=expected)
    assert misplaced([line]) == ([line] if wrong else [])


def test_every_convolution_of_an_encoder_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(export_encoder(encoder(), 32, 32))
    [line] = placement(path, "encoder", "onnxruntime-cpu", {"frames": np.zeros((2, 32, 32, 3), np.uint8)})
    # Two, and where 8 channels are a block of the CPU's layout (AVX2; AVX-512 has 16) the batch norm becomes a third.
    assert line.nodes in (2, 3)
    assert line == Placement(graph="encoder", op_type="Conv", nodes=line.nodes, runtime="onnxruntime-cpu", provider=CPU)


@pytest.mark.parametrize(
    ("cell", "op_type"),
    [("rnn", "RNN"), ("rnn-relu", "RNN"), ("lstm", "LSTM"), ("gru", "GRU"), ("peephole-lstm", "LSTM")],
)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_recurrent_node_of_a_head_is_counted(cell: Cell, op_type: str, num_layers: int, tmp_path: Path) -> None:
    head = sequence_head(HeadDims(FEATURES, 6, 3, "last", cell, num_layers, bidirectional=True))
    lines = _placed(HeadGraph(head, FEATURES, "clip"), tmp_path)
    assert [(line.op_type, line.nodes, line.provider) for line in lines] == [(op_type, num_layers, CPU)]
    assert misplaced(lines) == []


def test_a_user_s_two_layers_are_counted(tmp_path: Path) -> None:
    [line] = _placed(HeadGraph(FramewiseLSTM().eval(), FEATURES, "frame"), tmp_path)
    assert (line.graph, line.op_type, line.nodes) == ("head", "LSTM", 2)


def test_the_cpu_is_always_here_and_no_profile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "encoder.onnx"
    path.write_bytes(export_encoder(encoder(), 32, 32))
    assert runtimes_here(path)[0] == "onnxruntime-cpu"
    placement(path, "encoder", "onnxruntime-cpu", {"frames": np.zeros((1, 32, 32, 3), np.uint8)})
    assert list(tmp_path.iterdir()) == [path]


def _placed(graph: HeadGraph, folder: Path) -> list[Placement]:
    path = folder / "head.onnx"
    path.write_bytes(export_head(graph))
    feeds = {"features": np.zeros((2, 3, FEATURES), np.float32), "lengths": np.array([3, 2])}
    feeds |= {state.name: np.zeros((2, state.size), np.float32) for state in graph.state}
    return placement(path, "head", "onnxruntime-cpu", feeds)
