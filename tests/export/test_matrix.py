"""Every head that `models.heads.SequenceHead` can be: its graph's structure, and its answers against PyTorch."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import onnx
import pytest

from export.prove.grid import GRID, RunHead, prove_head
from export.prove.proof import Proof
from export.prove.reference import Reference
from export.prove.structure import faults
from export.trace.head import HeadGraph, export_head
from models.cells import CELLS
from models.heads import Cell, HeadDims, ManyToOne, Pooling
from service.bundle import EncoderReference, ModelDocument
from service.certificate import CertificateRow, Grid
from service.engine.sessions import open_session
from tests.export.models import FEATURES, LABELS, SPEC, sequence_head, video_model
from tests.models import toy_cell

# One frame, one clip, several of both, and more frames than the graph was traced with.
SMALL = Grid(batches=(1, 3), times=(1, 9))
LINES = (
    "head outputs, grid", "head top-1, grid", "head state, grid", "head batch invariance",
    "head permutation invariance", "head padding invariance", "head streaming invariance",
)  # fmt: skip
HIDDEN = 6

POOLINGS: tuple[Pooling, ...] = (*get_args(ManyToOne), "none")
EVERY = [
    HeadDims(FEATURES, HIDDEN, len(LABELS), pooling, cell, num_layers, bidirectional)
    for cell, num_layers, bidirectional, pooling in itertools.product(CELLS, (1, 2), (False, True), POOLINGS)
]


def said(dims: HeadDims) -> str:
    return f"{dims.cell}-{dims.num_layers}-{'bi' if dims.bidirectional else 'uni'}-{dims.pooling}"


def graph_of(dims: HeadDims) -> HeadGraph:
    return HeadGraph(sequence_head(dims), FEATURES, "frame" if dims.pooling == "none" else "clip")


def prove(content: bytes, graph: HeadGraph, folder: Path, grid: Grid) -> list[CertificateRow]:
    """Every line of the head's proof; raises CheckFailed."""
    path = folder / "head.onnx"
    path.write_bytes(content)
    document = ModelDocument(
        name="m", version="1", task=graph.task, labels=LABELS, spec=SPEC, state=graph.state, score="softmax",
        encoder=EncoderReference(name="e", sha256="0" * 64), head_sha256="0" * 64, training={}, created="",
    )  # fmt: skip
    proof = Proof(report=lambda row: None)
    reference = Reference(video_model(graph.module, task=graph.task), graph)
    prove_head(RunHead(open_session(path, "onnxruntime-cpu"), document), reference, graph.feature_size, proof, grid)
    return proof.rows


def test_the_matrix_is_whole() -> None:
    assert len(set(EVERY)) == 5 * 2 * 2 * 4


@pytest.mark.parametrize("dims", EVERY, ids=said)
def test_a_head_is_plain_onnx_and_equals_pytorch(dims: HeadDims, tmp_path: Path) -> None:
    graph = graph_of(dims)
    content = export_head(graph)
    model = onnx.load_from_string(content)
    assert faults(model, graph.axes, len(graph.state)) == []
    _is_plain(model, dims)
    _has_symbolic_shapes(model, dims)
    _has_readable_names(model)
    rows = prove(content, graph, tmp_path, SMALL)
    assert [row.check for row in rows] == [
        line for line in LINES if not dims.bidirectional or line.split()[1] not in ("state,", "streaming")
    ]


@pytest.mark.parametrize(
    ("pooling", "bidirectional"), [("none", False), ("none", True), ("mean", False), ("attention", True)]
)
def test_a_head_of_projected_rows_and_their_differences(
    pooling: Pooling,
    bidirectional: bool,
    tmp_path: Path,
) -> None:
    dims = HeadDims(
        FEATURES, HIDDEN, len(LABELS), pooling, "gru", 1, bidirectional, projection_size=5, differences=True
    )
    graph = graph_of(dims)
    content = export_head(graph)
    assert faults(onnx.load_from_string(content), graph.axes, len(graph.state)) == []
    rows = prove(content, graph, tmp_path, SMALL)
    streamed = not bidirectional
    assert ("head streaming invariance" in [row.check for row in rows]) is streamed


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_head_of_each_cell_on_the_grid_of_certificates(cell: Cell, tmp_path: Path) -> None:
    graph = graph_of(HeadDims(FEATURES, 16, len(LABELS), "attention", cell, 2))
    rows = prove(export_head(graph), graph, tmp_path, GRID)
    assert [row.check for row in rows] == list(LINES)
    assert rows[0].cases == 16


def _is_plain(model: onnx.ModelProto, dims: HeadDims) -> None:
    """One recurrent node a layer with all it needs, in opset 18 of ONNX's own operators; no control flow."""
    op_type = {"rnn": "RNN", "rnn-relu": "RNN", "gru": "GRU"}.get(dims.cell, "LSTM")
    counts = Counter(node.op_type for node in model.graph.node)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert {"Loop", "Scan", "If", "Dropout", "Slice"}.isdisjoint(counts)
    assert {kind: counts[kind] for kind in ("RNN", "LSTM", "GRU") if counts[kind]} == {op_type: dims.num_layers}
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != op_type:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes.pop("direction") == (b"bidirectional" if dims.bidirectional else b"forward")
        assert attributes.pop("hidden_size") == HIDDEN
        assert attributes.pop("linear_before_reset", 0) == (op_type == "GRU")
        activation = [b"Relu" if dims.cell == "rnn-relu" else b"Tanh"] if op_type == "RNN" else []
        assert attributes.pop("activations", []) == activation * (2 if dims.bidirectional else 1)
        assert attributes == {}
        given = [*node.input, *[""] * (8 - len(node.input))]
        assert set(given[1:4]) <= weights
        assert given[4] != ""  # sequence_lens
        num_states = 2 if op_type == "LSTM" else 1
        assert [bool(name) for name in given[5:7]] == [i < num_states and not dims.bidirectional for i in (0, 1)]
        assert (given[7] in weights) == (dims.cell == "peephole-lstm")
        assert bool(given[7]) == (dims.cell == "peephole-lstm")


def _has_symbolic_shapes(model: onnx.ModelProto, dims: HeadDims) -> None:
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    wanted: dict[str, list[str | int]] = {
        "features": ["batch", "time", FEATURES],
        "lengths": ["batch"],
        "outputs": ["batch", *["time"] * (dims.pooling == "none"), len(LABELS)],
    }
    for name, size in dims.state_sizes.items():
        wanted[name] = wanted[f"{name}_out"] = ["batch", size]
    assert shapes == wanted
    assert bool(dims.state_sizes) == (not dims.bidirectional)


def _has_readable_names(model: onnx.ModelProto) -> None:
    """A node is named after its module and what it does, a weight as in PyTorch; no counter of the exporter's."""
    names = [node.name for node in model.graph.node] + [tensor.name for tensor in model.graph.initializer]
    names += [output for node in model.graph.node for output in node.output]
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert [name for name in names if re.search(r"val_\d|::|^/|node_|getitem|_constant", name)] == []
    assert {"classifier.bias", "rnn.layer0_W", "rnn.layer0_R", "rnn.layer0_B"} <= set(names)
    assert names.count("classifier.weight") + names.count("classifier.mat_mul.constant") == 1  # folded: transposed
    assert any(re.fullmatch(r"rnn\.(rnn|lstm|gru)", name) for name in names)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_cell_of_one_file_is_exported_and_proven(
    bidirectional: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CELLS, toy_cell.ROW.name, toy_cell.ROW)
    graph = graph_of(HeadDims(FEATURES, HIDDEN, len(LABELS), "mean", toy_cell.ROW.name, 2, bidirectional))
    content = export_head(graph)
    model = onnx.load_from_string(content)
    assert faults(model, graph.axes, len(graph.state)) == []
    assert [node.op_type for node in model.graph.node].count("RNN") == 2
    assert prove(content, graph, tmp_path, SMALL)


def test_dropout_between_layers_stays_out_of_the_graph() -> None:
    graph = graph_of(HeadDims(FEATURES, HIDDEN, len(LABELS), "mean", "peephole-lstm", 2, dropout=0.5))
    graph.module.train()
    assert export_head(graph) == export_head(
        graph_of(HeadDims(FEATURES, HIDDEN, len(LABELS), "mean", "peephole-lstm", 2))
    )
