"""head.onnx, written node by node: one plain LSTM node with `sequence_lens` and initial state.

PyTorch's exporter can't export packed sequences, re-packs the weights at every run and freezes the time
dimension; the graph of a head is small, so it is built here from the weights, and proven by the certificate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs import IR_VERSION, OPSET, checked_bytes
from models.heads import LSTMHead
from service.bundle import StateTensor

# PyTorch keeps the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
_GATE_ORDER = (0, 3, 1, 2)


def state_tensors(head: LSTMHead) -> tuple[StateTensor, ...]:
    """What the head carries from chunk to chunk of a stream."""
    size = head.dims.hidden_size
    recurrent = (StateTensor(name="hidden", size=size), StateTensor(name="cell", size=size))
    if head.dims.pooling == "last":
        return recurrent
    return (*recurrent, StateTensor(name="pooled_sum", size=size), StateTensor(name="pooled_count", size=1))


def export_head(head: LSTMHead) -> bytes:
    """Inputs features (B, T, D), lengths (B) int64, `<state>` (B, size); outputs `outputs` (B, K), `<state>_out`."""
    dims = head.dims
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in head.state_dict().items()}
    initializers = {
        "lstm.W": _gates(weights["lstm.weight_ih_l0"])[None],
        "lstm.R": _gates(weights["lstm.weight_hh_l0"])[None],
        "lstm.B": np.concatenate([_gates(weights["lstm.bias_ih_l0"]), _gates(weights["lstm.bias_hh_l0"])])[None],
        "classifier.weight": weights["classifier.weight"],
        "classifier.bias": weights["classifier.bias"],
        "direction_axis": np.array([0], np.int64),
        "time_and_direction_axes": np.array([0, 1], np.int64),
        "column_axis": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["features"], ["time_major"], name="time_major", perm=[1, 0, 2]),
        node("Cast", ["lengths"], ["sequence_lens"], name="sequence_lens", to=TensorProto.INT32),
        node("Unsqueeze", ["hidden", "direction_axis"], ["initial_h"], name="initial_h"),
        node("Unsqueeze", ["cell", "direction_axis"], ["initial_c"], name="initial_c"),
        node(
            "LSTM",
            ["time_major", "lstm.W", "lstm.R", "lstm.B", "sequence_lens", "initial_h", "initial_c"],
            ["lstm_outputs" if dims.pooling == "mean" else "", "final_h", "final_c"],
            name="lstm",
            hidden_size=dims.hidden_size,
        ),
        node("Squeeze", ["final_h", "direction_axis"], ["hidden_out"], name="hidden_out"),
        node("Squeeze", ["final_c", "direction_axis"], ["cell_out"], name="cell_out"),
    ]
    pooled = "hidden_out"
    if dims.pooling == "mean":
        pooled = "pooled"
        nodes += [  # the LSTM's outputs are zero past each length
            node("ReduceSum", ["lstm_outputs", "time_and_direction_axes"], ["sum"], name="sum", keepdims=0),
            node("Add", ["pooled_sum", "sum"], ["pooled_sum_out"], name="pooled_sum_out"),
            node("Cast", ["lengths"], ["float_lengths"], name="float_lengths", to=TensorProto.FLOAT),
            node("Unsqueeze", ["float_lengths", "column_axis"], ["count"], name="count"),
            node("Add", ["pooled_count", "count"], ["pooled_count_out"], name="pooled_count_out"),
            node("Div", ["pooled_sum_out", "pooled_count_out"], ["pooled"], name="pooled"),
        ]
    nodes.append(
        node("Gemm", [pooled, "classifier.weight", "classifier.bias"], ["outputs"], name="classifier", transB=1)
    )
    state = state_tensors(head)
    graph = helper.make_graph(
        nodes,
        "head",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "time", dims.feature_size]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
            *(helper.make_tensor_value_info(s.name, TensorProto.FLOAT, ["batch", s.size]) for s in state),
        ],
        [
            helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", dims.num_labels]),
            *(helper.make_tensor_value_info(f"{s.name}_out", TensorProto.FLOAT, ["batch", s.size]) for s in state),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in initializers.items()
         if any(name in n.input for n in nodes)],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="reelserve", ir_version=IR_VERSION
    )
    return checked_bytes(model)


def _gates(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder the four gates stacked on the first axis from PyTorch's order to ONNX's."""
    parts = np.split(stacked, 4, axis=0)
    return np.concatenate([parts[i] for i in _GATE_ORDER], axis=0)
