"""What every exported graph needs: no trace of the machine, names that a human reads, a checked result."""

from __future__ import annotations

import ast
import re
from collections import Counter

import numpy as np
import onnx
import onnx.shape_inference
from onnx import numpy_helper

from export.errors import ExportError

# ONNX Runtime's CUDA kernels for LSTM and GRU end below opset 22; the encoder's exporter speaks 18 natively.
OPSET = 18
OPSETS = range(17, 21)
IR_VERSION = 10
RECURRENT = frozenset({"RNN", "LSTM", "GRU"})

# What a graph's output of each recurrent node is called.
_PARTS = ("outputs", "hidden", "cell")
_NAME_SCOPES = "pkg.torch.onnx.name_scopes"


def finish(model: onnx.ModelProto, name: str, axes: dict[str, tuple[str, ...]]) -> bytes:
    """Readable names, symbolic axes on inputs and outputs, nothing of the machine: deterministic bytes.

    axes: for each input and output, the names of its leading dimensions. Raises onnx.checker.ValidationError.
    """
    _rename(model.graph)
    _name_axes(model.graph, axes)
    strip(model)
    model.ir_version = IR_VERSION
    model.producer_name = "reelserve"
    model.graph.name = name
    return checked_bytes(model)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove doc strings, metadata and value infos: they carry paths and traces, and change the hash."""
    for field in ("doc_string", "metadata_props", "producer_version"):
        model.ClearField(field)
    graph = model.graph
    for field in ("doc_string", "metadata_props", "value_info"):
        graph.ClearField(field)
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    used = {node.domain for node in graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    del model.functions[:]
    return model


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise in a fixed order, after ONNX's own full check with shape inference."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph is not valid ONNX: {str(error).strip().splitlines()[0]}") from error
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _name_axes(graph: onnx.GraphProto, axes: dict[str, tuple[str, ...]]) -> None:
    for value in (*graph.input, *graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, axes.get(value.name, ()), strict=False):
            dim.Clear()
            dim.dim_param = name


def _rename(graph: onnx.GraphProto) -> None:
    """Nodes after the module that they come from and what they do, values after the node that makes them."""
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    counts = Counter(kept)

    def unique(name: str) -> str:
        counts[name] += 1
        return name if counts[name] == 1 else f"{name}_{counts[name]}"

    for node in graph.node:
        node.name = unique(".".join([*_scopes(node), _word(node.op_type)]))
    users = {name: node.name for node in reversed(graph.node) for name in node.input}
    for tensor in graph.initializer:
        names[tensor.name] = unique(_constant_name(tensor, users.get(tensor.name, "unused")))
    for node in graph.node:
        for index, output in enumerate(node.output):
            if output and output not in kept:
                part = f".{_PARTS[index]}" if node.op_type in RECURRENT else f".{index}" if len(node.output) > 1 else ""
                names[output] = node.name + part
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _scopes(node: onnx.NodeProto) -> list[str]:
    """The path of the module that a node comes from; the wrapper `head` and the exporter's own words left out."""
    found = next((prop.value for prop in node.metadata_props if prop.key == _NAME_SCOPES), "")
    scopes = ast.literal_eval(found)[:-1] or [""] if found else [_torchscript_scope(node.name)]
    return [word for word in scopes[-1].removeprefix("head").split(".") if word and not word.startswith("_empty")]


def _torchscript_scope(name: str) -> str:
    """The path of a module as dynamo=False has it in a node's name: /cnn/stem/stem.0/Conv_1 → cnn.stem.0."""
    path: list[str] = []
    for word in name.split("/")[1:-1]:
        if path and word.startswith(path[-1] + "."):  # a child of nn.Sequential repeats its parent's name
            path.pop()
        path.append(word)
    return ".".join(path)


def _constant_name(tensor: onnx.TensorProto, user: str) -> str:
    """A weight keeps its name; a constant of the exporter is named by what it holds, or by its first user."""
    if not re.fullmatch(r"val_\d+|_?(?:lifted_)?(?:tensor_)?constant_?\d*|arange\w*|.*::.*|/.*", tensor.name):
        return tensor.name.removeprefix("head.")
    values = numpy_helper.to_array(tensor)
    if values.size <= 4:
        held = "_".join(str(value) for value in np.ravel(values).tolist())
        return f"{values.dtype}[{held}]" if values.ndim else f"{values.dtype}({held})"
    return f"{user}.constant"


def _word(op_type: str) -> str:
    """GlobalAveragePool → global_average_pool; LSTM → lstm."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", op_type).lower()
