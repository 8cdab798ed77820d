"""A runtime that is not ONNX Runtime reads the same files and says the same: OpenVINO, by its CPU plugin.

What it does not do is held here as well, so that a newer OpenVINO that does it fails these tests:
- with symbolic axes its recurrent layers ignore `sequence_lens`, without a word; with the shapes of the request set
  (`reshape`) they obey it, as then it unrolls them into a loop with a mask;
- it ignores peepholes, without a word. ONNX's own reference evaluator computes those, but not `sequence_lens`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from export.trace.encoder import export_encoder
from export.trace.head import HeadGraph, export_head
from models.heads import HeadDims
from tests.export.models import encoder as small_encoder
from tests.export.models import sequence_head
from tests.zoo import ROOT, TRAINED, TRAINED_ENCODER

ENCODER = TRAINED_ENCODER / "encoder.onnx"
SIZE = 24
HEADS = {
    "LSTM, mean": HeadDims(SIZE, 16, 5, "mean", "lstm"),
    "GRU, attention, 2 layers, bidirectional": HeadDims(SIZE, 16, 5, "attention", "gru", 2, True),
    "RNN, last": HeadDims(SIZE, 16, 5, "last", "rnn"),
}
PEEPHOLES = HeadDims(SIZE, 16, 5, "mean", "peephole-lstm")
LENGTHS = ((1,), (7,), (4, 4), (3, 7, 1), (9, 2), (5, 6, 7, 8))
TOLERANCE = 1e-4
OFF = 1e-2

Feeds = dict[str, NDArray[np.generic]]
Values = dict[str, NDArray[np.float32]]


def with_openvino(graph: Path | bytes, feeds: Feeds, *, as_sent: bool) -> Values:
    """Outputs by name; `as_sent` sets the shapes of the feeds before the graph is compiled."""
    core = ov.Core()
    model = core.read_model(graph) if isinstance(graph, Path) else core.read_model(graph, b"")
    if as_sent:
        model.reshape({name: list(values.shape) for name, values in feeds.items()})
    # Where the CPU has bfloat16 it would compute in that.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled(feeds)
    return {name: outputs[name] for port in compiled.outputs for name in port.names}


def with_onnx_runtime(graph: Path | bytes, feeds: Feeds) -> Values:
    session = ort.InferenceSession(graph if isinstance(graph, bytes) else str(graph))
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def head_graph(dims: HeadDims) -> tuple[HeadGraph, bytes]:
    graph = HeadGraph(sequence_head(dims), dims.feature_size, "clip")
    return graph, export_head(graph)


def feeds_of(graph: HeadGraph, lengths: tuple[int, ...], padding: int = 0) -> Feeds:
    """Random features, past the lengths too, and a state that is not zero."""
    random = np.random.default_rng(len(lengths))
    shape = (len(lengths), max(lengths) + padding, graph.feature_size)
    feeds: Feeds = {"features": random.normal(size=shape).astype(np.float32), "lengths": np.array(lengths, np.int64)}
    for state in graph.state:
        feeds[state.name] = random.uniform(0.1, 1.0, (len(lengths), state.size)).astype(np.float32)
    return feeds


def farthest(values: Values, wanted: Values) -> float:
    """The largest difference of all outputs, the state after included."""
    assert values.keys() == wanted.keys()
    for name, output in wanted.items():
        assert values[name].shape == output.shape
    return max(float(np.abs(values[name] - output).max()) for name, output in wanted.items())


@pytest.mark.parametrize("num_frames", [1, 3, 4])
def test_the_encoder_of_the_zoo(num_frames: int) -> None:
    frames = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 224, 224, 3), np.uint8)
    wanted = with_onnx_runtime(ENCODER, {"frames": frames})
    assert farthest(with_openvino(ENCODER, {"frames": frames}, as_sent=False), wanted) < TOLERANCE


def test_one_compiled_encoder_takes_any_number_of_frames() -> None:
    graph = export_encoder(small_encoder(), 32, 32)
    compiled = ov.Core().compile_model(ov.Core().read_model(graph, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for num_frames in (3, 1, 16):
        frames = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 32, 32, 3), np.uint8)
        wanted = with_onnx_runtime(graph, {"frames": frames})["features"]
        np.testing.assert_allclose(compiled({"frames": frames})["features"], wanted, atol=TOLERANCE)


def test_the_head_of_the_zoo() -> None:
    path = TRAINED / "head.onnx"
    random = np.random.default_rng(0)
    feeds: Feeds = {
        "features": random.random((3, 16, 1280), np.float32),
        "lengths": np.array([16, 9, 1]),
        **{name: np.zeros((3, 64), np.float32) for name in ("hidden", "cell", "pooled_sum")},
        "pooled_count": np.zeros((3, 1), np.float32),
    }
    assert farthest(with_openvino(path, feeds, as_sent=True), with_onnx_runtime(path, feeds)) < TOLERANCE


@pytest.mark.parametrize("dims", HEADS.values(), ids=HEADS)
def test_heads_of_mixed_lengths_with_the_shapes_set(dims: HeadDims) -> None:
    graph, content = head_graph(dims)
    for lengths in LENGTHS:
        for padding in (0, 3):
            feeds = feeds_of(graph, lengths, padding)
            wanted = with_onnx_runtime(content, feeds)
            assert farthest(with_openvino(content, feeds, as_sent=True), wanted) < TOLERANCE, (lengths, padding)


@pytest.mark.parametrize("dims", HEADS.values(), ids=HEADS)
def test_heads_of_equal_lengths_with_symbolic_axes(dims: HeadDims) -> None:
    graph, content = head_graph(dims)
    for lengths in ((1,), (7,), (4, 4), (9, 9, 9)):
        feeds = feeds_of(graph, lengths)
        wanted = with_onnx_runtime(content, feeds)
        assert farthest(with_openvino(content, feeds, as_sent=False), wanted) < TOLERANCE, lengths


@pytest.mark.parametrize("dims", HEADS.values(), ids=HEADS)
def test_with_symbolic_axes_openvino_ignores_the_lengths(dims: HeadDims) -> None:
    graph, content = head_graph(dims)
    feeds = feeds_of(graph, (3, 7, 1))
    assert farthest(with_openvino(content, feeds, as_sent=False), with_onnx_runtime(content, feeds)) > OFF


def test_openvino_ignores_peepholes_and_the_reference_of_onnx_does_not() -> None:
    graph, content = head_graph(PEEPHOLES)
    feeds = feeds_of(graph, (7, 7))
    wanted = with_onnx_runtime(content, feeds)
    assert farthest(with_openvino(content, feeds, as_sent=True), wanted) > OFF
    without = sequence_head(PEEPHOLES)
    with torch.no_grad():
        without.rnn.weight_peephole_l0.zero_()  # type: ignore[operator]
    unpeeped = with_onnx_runtime(export_head(HeadGraph(without, SIZE, "clip")), feeds)
    assert farthest(with_openvino(content, feeds, as_sent=True), unpeeped) < TOLERANCE
    names = list(wanted)
    reference = dict(zip(names, ReferenceEvaluator(content).run(names, feeds), strict=True))
    assert farthest(reference, wanted) < TOLERANCE


def test_openvino_comes_without_its_telemetry() -> None:
    assert "\nopenvino-telemetry" not in (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    program = "import openvino, importlib.util; print(importlib.util.find_spec('openvino_telemetry'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
