"""encoder.onnx: `frames` uint8 RGB (N, H, W, 3) → `features` float32 (N, D), normalisation inside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch

from export.graphs import IR_VERSION, OPSET, checked_bytes, strip
from models.encoders import ImageEncoder, folded

EXPORTER = "torch.onnx.export(dynamo=True)"


def export_encoder(encoder: ImageEncoder, frame_height: int, frame_width: int) -> bytes:
    """Export with batch norms folded and the number of frames symbolic. Deterministic bytes."""
    frames = torch.zeros(2, frame_height, frame_width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own deprecations; the certificate judges the result
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            folded(encoder).eval(),
            (frames,),
            input_names=["frames"],
            output_names=["features"],
            dynamic_shapes={"frames": {0: torch.export.Dim("frames", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    model = strip(program.model_proto)
    model.ir_version = IR_VERSION
    model.producer_name = "reelserve"
    model.graph.name = "encoder"
    _fix_shapes(model, encoder.feature_size)
    return checked_bytes(model)


def _fix_shapes(model: onnx.ModelProto, feature_size: int) -> None:
    """The symbolic number of frames, on both sides under one name."""
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "frames"
    width = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if width != feature_size:
        raise RuntimeError(f"the exported encoder gives {width} features, the network {feature_size}")
