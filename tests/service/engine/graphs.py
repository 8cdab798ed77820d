"""Small real heads, written node by node: what `Head` runs in tests, and what its numbers are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.bundle import EncoderReference, ModelDocument, StateTensor, Task
from service.engine.heads import Array, Head
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=4, frame_height=32, frame_width=32)
OUTPUT_AXES: dict[Task, tuple[str, ...]] = {"clip": ("batch",), "frame": ("batch", "time")}


def document(task: Task, labels: int, spec: ClipSpec = SPEC, **fields: object) -> ModelDocument:
    """model.json of a head of `labels` labels, without state unless `fields` says so."""
    known: dict[str, object] = {
        "name": "small", "version": "1", "task": task, "labels": tuple(f"label-{index}" for index in range(labels)),
        "encoder": EncoderReference(name="none", sha256="0" * 64), "head_sha256": "0" * 64, "spec": spec, "state": (),
        "score": "none", "training": {}, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return ModelDocument.model_validate(known | fields)


def session(graph: bytes) -> ort.InferenceSession:
    """On the CPU, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    feature_size: int,
    output_axes: Sequence[int | str],
    state: Sequence[StateTensor] = (),
    *,
    lengths: str = "lengths",
    lengths_type: int = TensorProto.INT64,
) -> bytes:
    """A head's graph around `nodes`, checked by ONNX."""
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "head",
            [
                value("features", TensorProto.FLOAT, ["batch", "time", feature_size]),
                value(lengths, lengths_type, ["batch"]),
                *(value(tensor.name, TensorProto.FLOAT, ["batch", tensor.size]) for tensor in state),
            ],
            [
                value("outputs", TensorProto.FLOAT, list(output_axes)),
                *(value(f"{tensor.name}_out", TensorProto.FLOAT, ["batch", tensor.size]) for tensor in state),
            ],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def what_it_saw() -> bytes:
    """Clip, D = 1, K = 4: a window's first row, its largest, the sum of all and their number."""
    node = helper.make_node
    nodes = [
        node("Gather", ["features", "zero"], ["first"], axis=1),
        node("ReduceMax", ["features", "one"], ["largest"], keepdims=0),
        node("ReduceSum", ["features", "one"], ["sum"], keepdims=0),
        node("Cast", ["lengths"], ["float_lengths"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["float_lengths", "one"], ["count"]),
        node("Concat", ["first", "largest", "sum", "count"], ["outputs"], axis=1),
    ]
    return graph(nodes, {"zero": np.array(0, np.int64), "one": np.array([1], np.int64)}, 1, ["batch", 4])


def linear(weight: Array, bias: Array, *, poison: float | None = None) -> bytes:
    """Frame: features @ weight (D, K) + bias (K). poison: what stands in the rows past a clip's length."""
    node = helper.make_node
    constants: dict[str, NDArray[np.generic]] = {"weight": weight, "bias": bias}
    nodes = [
        node("MatMul", ["features", "weight"], ["product"]),
        node("Add", ["product", "bias"], ["outputs" if poison is None else "rows"]),
    ]
    if poison is not None:
        constants |= {
            "zero": np.array(0, np.int64), "one": np.array(1, np.int64), "last": np.array([-1], np.int64),
            "last_two": np.array([1, 2], np.int64), "poison": np.array(poison, np.float32),
        }  # fmt: skip
        nodes += [
            node("Shape", ["features"], ["time"], start=1, end=2),
            node("Squeeze", ["time"], ["stop"]),
            node("Range", ["zero", "stop", "one"], ["ticks"]),
            node("Unsqueeze", ["ticks", "last"], ["tick_column"]),
            node("Unsqueeze", ["lengths", "last_two"], ["length_column"]),
            node("Less", ["tick_column", "length_column"], ["inside"]),
            node("Where", ["inside", "rows", "poison"], ["outputs"]),
        ]
    return graph(nodes, constants, weight.shape[0], ["batch", "time", weight.shape[1]])


LSTM_FEATURES, LSTM_HIDDEN, LSTM_LABELS = 5, 4, 3
LSTM_STATE = (StateTensor(name="hidden", size=LSTM_HIDDEN), StateTensor(name="cell", size=LSTM_HIDDEN))


def lstm(task: Task, *, bidirectional: bool = False) -> bytes:
    """A real LSTM node with `sequence_lens` and a linear layer; carries its state unless it is bidirectional."""
    random, node = np.random.default_rng(7), helper.make_node
    directions = 2 if bidirectional else 1
    width = directions * LSTM_HIDDEN

    def weights(*shape: int) -> Array:
        return random.normal(size=shape).astype(np.float32)

    constants: dict[str, NDArray[np.generic]] = {
        "W": weights(directions, 4 * LSTM_HIDDEN, LSTM_FEATURES),
        "R": weights(directions, 4 * LSTM_HIDDEN, LSTM_HIDDEN),
        "B": weights(directions, 8 * LSTM_HIDDEN),
        "weight": weights(width, LSTM_LABELS),
        "bias": weights(LSTM_LABELS),
        "direction_axis": np.array([0], np.int64),
        "rows": np.array([0, 0, width] if task == "frame" else [0, width], np.int64),
    }
    initial = [] if bidirectional else ["initial_h", "initial_c"]
    nodes = [
        node("Transpose", ["features"], ["time_major"], perm=[1, 0, 2]),
        node("Cast", ["lengths"], ["sequence_lens"], to=TensorProto.INT32),
        *(
            node("Unsqueeze", [tensor.name, "direction_axis"], [name])
            for tensor, name in zip(LSTM_STATE, initial, strict=False)
        ),
        node(
            "LSTM", ["time_major", "W", "R", "B", "sequence_lens", *initial], ["every", "final_h", "final_c"],
            hidden_size=LSTM_HIDDEN, direction="bidirectional" if bidirectional else "forward",
        ),
        *(
            node("Squeeze", [name, "direction_axis"], [f"{tensor.name}_out"])
            for tensor, name in zip(LSTM_STATE, [] if bidirectional else ["final_h", "final_c"], strict=False)
        ),
        node("Transpose", ["every"], ["batch_major"], perm=[2, 0, 1, 3])
        if task == "frame"
        else node("Transpose", ["final_h"], ["batch_major"], perm=[1, 0, 2]),
        node("Reshape", ["batch_major", "rows"], ["hiddens"]),
        node("MatMul", ["hiddens", "weight"], ["product"]),
        node("Add", ["product", "bias"], ["outputs"]),
    ]  # fmt: skip
    state = () if bidirectional else LSTM_STATE
    return graph(nodes, constants, LSTM_FEATURES, [*OUTPUT_AXES[task], LSTM_LABELS], state)


class Counting(Head):
    """A head that keeps how many windows its largest batch had."""

    largest_batch = 0

    def scores(self, windows: list[Array]) -> Array:
        self.largest_batch = max(self.largest_batch, len(windows))
        return super().scores(windows)
