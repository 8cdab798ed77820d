"""What every exported graph needs: no trace of the machine, names that a human reads, a checked result."""

from __future__ import annotations

import onnx

# ONNX Runtime's CUDA kernels for LSTM and GRU end below opset 22; the encoder's exporter speaks 18 natively.
OPSET = 18
IR_VERSION = 10


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
    del model.functions[:]
    return model


def checked_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise in a fixed order, after ONNX's own full check with shape inference."""
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized
