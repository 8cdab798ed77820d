"""Small real heads, written node by node: what `Head` runs in tests, and what its numbers are held against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.bundle import EncoderDocument, EncoderReference, ModelDocument, StateTensor, Task
from service.engine.heads import Array, Head
from service.engine.sessions import open_session
from service.video.spec import ClipSpec
from tests.zoo import DOCUMENT, TRAINED

SPEC = ClipSpec(sample_fps=4, frame_height=32, frame_width=32)
# Of a score of at most 1: a larger batch, or a piece, may sum in another order, which float32 feels at some 1e-7.
# (ONNX Runtime's kernels on x86-64 do not: 0 was measured. Others may.)
REORDERED = 1e-6
OUTPUT_AXES: dict[Task, tuple[str, ...]] = {"clip": ("batch",), "frame": ("batch", "time")}
TASKS: tuple[Task, ...] = ("clip", "frame")


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


ENCODER = EncoderDocument(
    name="small", sha256="0" * 64, frame_height=16, frame_width=24, feature_size=6, opset=18, exporter="none",
    source="tests", licence="Apache-2.0",
)  # fmt: skip


def encoder(document: EncoderDocument = ENCODER) -> bytes:
    """encoder.onnx of one convolution: uint8 (N, H, W, 3) → its means over the picture, float32 (N, D)."""
    random, node = np.random.default_rng(8), helper.make_node
    size = (document.frame_height, document.frame_width, 3)
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.array(1 / 255, np.float32),
        "weight": random.normal(size=(document.feature_size, 3, 3, 3)).astype(np.float32),
        "picture": np.array([2, 3], np.int64),
    }
    nodes = [
        node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "weight"], ["convolved"], pads=[1, 1, 1, 1]),
        node("Relu", ["convolved"], ["activated"]),
        node("ReduceMean", ["activated", "picture"], ["features"], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "encoder",
            [value("frames", TensorProto.UINT8, ["frames", *size])],
            [value("features", TensorProto.FLOAT, ["frames", document.feature_size])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


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


@cache
def lstm_head(task: Task, *, bidirectional: bool = False, spec: ClipSpec = SPEC) -> Head:
    """Softmax scores of `lstm`; one session for all that ask for the same."""
    state = () if bidirectional else LSTM_STATE
    model = document(task, LSTM_LABELS, spec, score="softmax", state=state)
    return Head(_lstm_session(task, bidirectional), model)


@cache
def _lstm_session(task: Task, bidirectional: bool) -> ort.InferenceSession:
    return session(lstm(task, bidirectional=bidirectional))


def lstm_features(num_ticks: int, seed: int) -> Array:
    """(num_ticks, LSTM_FEATURES)."""
    return np.random.default_rng(seed).normal(size=(num_ticks, LSTM_FEATURES)).astype(np.float32)


def alone(head: Head, window: Array) -> NDArray[np.float64]:
    """(K,) or (T, K): softmax, in float64, of what the graph says of one window without padding."""
    feeds = {"features": window[None], "lengths": np.array([len(window)])}
    feeds |= {state.name: np.zeros((1, state.size), np.float32) for state in head.model.state}
    [outputs] = head._session.run(["outputs"], feeds)
    powers = np.exp(outputs[0].astype(np.float64))
    scores: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return scores


def the_head_that_ships(spec: ClipSpec | None = None) -> Head:
    """The zoo's trained head, whose state has a pooled sum; spec: in place of its own."""
    model = DOCUMENT.model_copy(update={"spec": spec or DOCUMENT.spec})
    return Head(open_session(TRAINED / "head.onnx", "onnxruntime-cpu"), model)


class Counting(Head):
    """A head that keeps how many windows its largest batch had."""

    largest_batch = 0

    def scores(self, windows: Sequence[Array]) -> Array:
        self.largest_batch = max(self.largest_batch, len(windows))
        return super().scores(windows)
