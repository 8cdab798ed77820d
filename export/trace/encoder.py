"""encoder.onnx: `frames` uint8 RGB (N, H, W, 3) → `features` float32 (N, D), normalisation inside."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.compose
import onnx.utils
import onnx_ir as ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from export.errors import ExportError
from export.trace.graphs import checked_bytes, finish, strip
from export.trace.tracing import Exporter, copied, trace

# Names of the leading, symbolic dimensions of its input and output.
ENCODER_AXES: dict[str, tuple[str, ...]] = {"frames": ("frames",), "features": ("frames",)}

_LARGEST_HALF = 65504.0  # the converter cuts off at 1e4 unless told


def export_encoder(encoder: nn.Module, frame_height: int, frame_width: int, exporter: Exporter = "dynamo") -> bytes:
    """Export with the number of frames symbolic; the exporter folds constants and batch norms. Deterministic bytes.

    Raises UnsupportedModule, and ExportError with the exporter's word.
    """
    model = trace(
        copied(encoder, "encoder").float(),
        (torch.zeros(2, frame_height, frame_width, 3, dtype=torch.uint8),),
        input_names=["frames"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("frames", min=1)},),
        what="encoder",
        exporter=exporter,
    )
    return finish(model, "encoder", ENCODER_AXES)


def half_precision(encoder: bytes) -> bytes:
    """The same graph with float16 weights and arithmetic, from the first convolution or product on.

    Pixels and their normalisation stay float32, as do the features: a normalised pixel is rounded once.
    Raises ExportError where a weight or an activation is too large.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(encoder))
    first = next((node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")), None)
    if first is None:
        raise ExportError("the encoder has no convolution and no product, so float16 gains nothing: leave --fp16 out")
    cut = onnx.utils.Extractor(model)
    pixels = cut.extract_model(["frames"], [first.input[0]])
    network = cut.extract_model([first.input[0]], ["features"])
    _stands_alone(network, first)
    _fits_half(model, network)
    half = ir.from_proto(convert_float_to_float16(network, keep_io_types=True, max_finite_val=_LARGEST_HALF))
    half.graph.sort()  # the converter puts its casts last
    half_proto = onnx.compose.add_prefix(strip(ir.to_proto(half)), "half.", rename_inputs=False, rename_outputs=False)
    merged = onnx.compose.merge_models(pixels, half_proto, [(first.input[0], first.input[0])])
    merged.graph.name = "encoder"
    merged.producer_name = "reelserve"
    return checked_bytes(strip(merged))


def _stands_alone(network: onnx.ModelProto, first: onnx.NodeProto) -> None:
    """Nothing behind the first convolution may look at what is before it, as a size of `frames`."""
    known = {first.input[0], ""} | {tensor.name for tensor in network.graph.initializer}
    known |= {name for node in network.graph.node for name in node.output}
    for node in network.graph.node:
        for name in node.input:
            if name not in known or (name == "frames" != first.input[0]):
                raise ExportError(
                    f"{node.name} of the encoder uses {name}, from before {first.name}, where float16 begins: write "
                    "`flatten(1)` for `view(x.shape[0], -1)`, or export without --fp16"
                )


def _fits_half(model: onnx.ModelProto, network: onnx.ModelProto) -> None:
    """No weight, and no activation on black, white and random frames, is beyond float16.

    A CPU would not show it: there, float16 is casts of weights around float32 kernels, and activations never overflow.
    """
    largest = {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in network.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    size = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    noise = np.random.default_rng(4).integers(0, 256, size, np.uint8)
    frames = np.stack([np.zeros_like(noise), np.full_like(noise, 255), noise])
    for name, values in activations(model, frames).items():
        largest[name] = float(np.abs(values).max(initial=0))
    for name, value in largest.items():
        if not value <= _LARGEST_HALF:
            raise ExportError(
                f"{name} of the encoder reaches {value:g}, and float16 ends at {_LARGEST_HALF:g}: scale it down, or "
                "export without --fp16"
            )


def activations(encoder: onnx.ModelProto, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What every node of an encoder gives for these frames, in float32, by the name of its output."""
    watched = onnx.ModelProto()
    watched.CopyFrom(encoder)
    names = [name for node in encoder.graph.node for name in node.output if name]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(names, {"frames": frames}), strict=True))
    return {name: values for name, values in found.items() if values.dtype == np.float32}
