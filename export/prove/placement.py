"""Where each Conv and RNN node really runs, read from ONNX Runtime's own profile or OpenVINO's compiled graph."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from export.trace.graphs import RECURRENT
from service.bundle import Precision, Runtime
from service.certificate import Placement
from service.engine.openvino_runtime import compile_encoder
from service.engine.sessions import open_session, provider_of
from service.errors import NotReady

_RUNTIMES: tuple[Runtime, ...] = ("onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt")
_OPENVINO_KINDS = {"Convolution": "Conv", "FullyConnected": "MatMul", "MatMul": "MatMul"}
_OPENVINO_PRECISIONS = {"f32": "fp32"}


def runtimes_here(path: Path) -> list[Runtime]:
    """ONNX Runtime's runtimes on which this machine can run a graph; the CPU always."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    found: list[Runtime] = []
    for runtime in _RUNTIMES:
        if provider_of(runtime) in ort.get_available_providers():
            try:
                open_session(path, runtime)
            except NotReady:  # the package has the provider, the machine no device or library for it
                continue
            found.append(runtime)
    return found


def placement(path: Path, name: str, runtime: Runtime, feeds: dict[str, Any]) -> list[Placement]:
    """One line for each kind of Conv and RNN node and provider of the graph `name`; runs it once."""
    model = onnx.load(path)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(path, runtime, profile_prefix=Path(folder) / "profile")
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {
        (event["name"], _kind(event["args"]["op_name"]), event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    counts = Counter((kind, provider) for _, kind, provider in ran if kind)
    # What TensorRT takes in is one node of its own in the profile.
    for kind, total in Counter(_kind(node.op_type) for node in model.graph.node).items():
        fused = total - sum(count for (other, _), count in counts.items() if other == kind)
        if kind and fused > 0 and runtime == "onnxruntime-tensorrt":
            counts[kind, provider_of(runtime)] += fused
    reasons = {_kind(node.op_type): by_design(node, runtime) for node in model.graph.node}
    return [
        Placement(
            graph=name,
            op_type=kind,
            nodes=count,
            runtime=runtime,
            provider=provider,
            expected="" if provider == provider_of(runtime) else reasons.get(kind, ""),
        )
        for (kind, provider), count in sorted(counts.items())
    ]


def openvino_placement(path: Path, name: str, precision: Precision) -> list[Placement]:
    """One line for each kind of Conv and MatMul node of the graph `name` and the precision it is compiled to."""
    counts: Counter[tuple[str, str]] = Counter()
    for node in compile_encoder(path, precision, 1).get_runtime_model().get_ops():
        info = node.get_rt_info()
        if kind := _OPENVINO_KINDS.get(info["layerType"].astype(str)):
            computed = info["runtimePrecision"].astype(str)
            counts[kind, _openvino_provider(_OPENVINO_PRECISIONS.get(computed, computed))] += 1
    return [
        Placement(graph=name, op_type=kind, nodes=count, runtime="openvino-cpu", provider=provider)
        for (kind, provider), count in sorted(counts.items())
    ]


def by_design(node: onnx.NodeProto, runtime: Runtime) -> str:
    """Why a node may run elsewhere than on the runtime's own provider; empty where it may not.

    From the CUDA provider's GetCapability and RNN kernels (onnxruntime, cuda_execution_provider.cc).
    """
    if runtime == "onnxruntime-cpu" or node.op_type not in RECURRENT:
        return ""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "LSTM" and len(node.input) > 7 and node.input[7]:
        return "cuDNN's LSTM has no peepholes"
    if node.op_type == "GRU" and not attributes.get("linear_before_reset"):
        return "cuDNN's GRU resets after the product"
    if "clip" in attributes or attributes.get("input_forget"):
        return "cuDNN's recurrent layers neither clip nor couple gates"
    if runtime == "onnxruntime-tensorrt":
        return "TensorRT leaves recurrent layers with sequence_lens to CUDA"
    return ""


def misplaced(lines: list[Placement], precision: Precision = "fp32") -> list[Placement]:
    """Nodes that run on another provider than they should, or in OpenVINO in another precision than asked for."""
    return [line for line in lines if line.provider != _own_provider(line.runtime, precision) and not line.expected]


def _own_provider(runtime: Runtime, precision: Precision) -> str:
    return _openvino_provider(precision) if runtime == "openvino-cpu" else provider_of(runtime)


def _openvino_provider(precision: str) -> str:
    return f"OpenVINO's CPU plugin in {precision}"


def _kind(op_type: str) -> str:
    """Conv for every convolution, fused or not; the RNN kinds as they are; else nothing."""
    if op_type in RECURRENT:
        return op_type
    return "Conv" if "Conv" in op_type and "Integer" not in op_type else ""
