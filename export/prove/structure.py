"""What a graph must not be, whatever it computes: frozen shapes, loops, weights packed at every run, paths."""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import onnx

from export.trace.graphs import OPSETS, RECURRENT

_LOOPS = frozenset({"Loop", "Scan", "If"})
# The name of a Python file; `neck.pyramid.weight` is none.
_SOURCE_FILE = re.compile(rb"\.py(?![A-Za-z0-9_.])")
_RANDOM = frozenset({"Dropout", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})


def faults(model: onnx.ModelProto, axes: dict[str, tuple[str, ...]], initial_states: int) -> list[str]:
    """Every fault as a sentence; empty when there is none.

    axes: names of the leading dimensions of each input and output. initial_states: how many tensors a recurrent
    node's state must come from the graph's inputs (0: none is carried).
    """
    return [
        *_opset_faults(model),
        *_shape_faults(model.graph, axes),
        *_node_faults(model.graph, initial_states),
        *_trace_faults(model),
    ]


def _opset_faults(model: onnx.ModelProto) -> Iterator[str]:
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield f"domain {opset.domain} is not ONNX's own; other runtimes don't read it"
        elif opset.version not in OPSETS:
            yield f"opset {opset.version} is not in {OPSETS[0]}–{OPSETS[-1]}: newer ones put the RNN on the CPU"
    if model.functions:
        yield "local functions; other runtimes don't read them"


def _shape_faults(graph: onnx.GraphProto, axes: dict[str, tuple[str, ...]]) -> Iterator[str]:
    found = {value.name: value for value in (*graph.input, *graph.output)}
    for name in sorted(axes.keys() ^ found.keys()):
        yield f"{name} is {'missing' if name in axes else 'not expected'} among inputs and outputs"
    for name, names in axes.items():
        dims = found[name].type.tensor_type.shape.dim if name in found else []
        for axis, wanted in enumerate(names):
            if name in found and (len(dims) <= axis or dims[axis].dim_param != wanted):
                is_now = (dims[axis].dim_param or dims[axis].dim_value) if len(dims) > axis else "missing"
                yield f"{name}: dimension {axis} is {is_now}, not `{wanted}`: frozen to what it was traced with"


def _node_faults(graph: onnx.GraphProto, initial_states: int) -> Iterator[str]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield f"{tensor.name} lies in another file"
    for node in graph.node:
        said = f"{node.name or '?'} ({node.op_type})"
        if node.op_type in _LOOPS:
            yield f"{said} is a loop or branch"
        if node.op_type in _RANDOM:
            yield f"{said} is random or of training"
        if all(name in constants or not name for name in node.input):
            yield f"{said} is computed from constants at every run"
            constants.update(node.output)
        if node.op_type in RECURRENT:
            yield from _recurrent_faults(graph, node, said, constants, inputs, initial_states)


def _recurrent_faults(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    said: str,
    constants: set[str],
    inputs: set[str],
    initial_states: int,
) -> Iterator[str]:
    given = [*node.input, *[""] * (8 - len(node.input))]
    if not given[4]:
        yield f"{said} has no sequence_lens: padding reaches its state; give it packed sequences"
    for weights in (given[1], given[2], given[3], given[7]):
        if weights and weights not in constants:
            yield f"{said} packs its weights ({weights}) at every run"
    if initial_states:
        wanted = given[5:7] if node.op_type == "LSTM" else given[5:6]
        for state in wanted:
            if not state or not (ancestors(graph, state) & inputs - {"features", "lengths"}):
                yield f"{said} does not start from the state that is given"


def ancestors(graph: onnx.GraphProto, name: str) -> set[str]:
    """All values that `name` is computed from, itself included."""
    makers = {output: node for node in graph.node for output in node.output}
    found, waiting = set(), [name]
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += makers[value].input if value in makers else []
    return found


def _trace_faults(model: onnx.ModelProto) -> Iterator[str]:
    content = _without_weights(model).SerializeToString()
    for trace in ("site-packages", *_own_paths()):
        if len(trace) > 2 and trace.encode() in content:
            yield f"a trace of this machine is inside: {trace}"
            return
    if _SOURCE_FILE.search(content):
        yield "a trace of this machine is inside: .py"


def _own_paths() -> Iterator[str]:
    yield str(Path.cwd())
    with contextlib.suppress(RuntimeError):  # no home
        yield str(Path.home()) + "/"
    with contextlib.suppress(KeyError, OSError):  # a user id without a name, as in containers
        yield f"/{getpass.getuser()}/"


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose tensors hold no values: in 16 MB of them, any three letters turn up by chance."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
    for node in bare.graph.node:
        for attribute in node.attribute:
            attribute.t.ClearField("raw_data")
    return bare
