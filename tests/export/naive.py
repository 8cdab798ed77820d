"""`torch.onnx.export` as a user calls it: what our export is held against, and whether its graphs are right."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from tests.export.models import FEATURES

SHAPES = ((1, 1), (3, 7), (2, 12), (1, 5))


def naive_export(
    head: nn.Module, *, dynamo: bool, with_axes: bool = True, optimize: bool = True
) -> onnx.ModelProto | None:
    """The graph of a head, `with_axes` with batch and time named as dynamic; None where the exporter refuses."""
    example = (torch.rand(3, 5, FEATURES), torch.tensor([5, 4, 2]))
    inputs, outputs = ["features", "lengths"], ["outputs"]
    buffer = io.BytesIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            if dynamo:
                program = torch.onnx.export(
                    head,
                    example,
                    input_names=inputs,
                    output_names=outputs,
                    dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"}) if with_axes else None,
                    optimize=optimize,
                    dynamo=True,
                    verbose=False,
                )
                assert program is not None
                model: onnx.ModelProto = program.model_proto
                return model
            every = {"features": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "outputs": {0: "batch"}}
            torch.onnx.export(
                head,
                example,
                buffer,  # type: ignore[arg-type]
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=every if with_axes else None,
                opset_version=18,
                dynamo=False,
            )
            return onnx.load_from_string(buffer.getvalue())
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        print(f"refused: {type(error).__name__}: {error!s:.200}")
        return None
    finally:
        logging.disable(logging.NOTSET)


def answers_right(content: bytes, head: nn.Module, state: dict[str, int] | None = None, log_severity: int = 4) -> bool:
    """Whether a graph runs for other batches and times than it was traced with, padded, and says what PyTorch says."""
    options = ort.SessionOptions()
    options.log_severity_level = log_severity
    session = ort.InferenceSession(content, options)
    wants = {node.name for node in session.get_inputs()}
    random = np.random.default_rng(0)
    for batch, time in SHAPES:
        features = np.abs(random.normal(0, 0.5, (batch, time, FEATURES))).astype(np.float32)
        lengths = random.integers(1, time + 1, batch)
        feeds = {"features": features, "lengths": lengths}
        feeds |= {name: np.zeros((batch, size), np.float32) for name, size in (state or {}).items()}
        try:
            [outputs] = session.run(["outputs"], {name: values for name, values in feeds.items() if name in wants})
        except Exception:  # noqa: BLE001  (ONNX Runtime has no error class of its own)
            return False
        for row, length in enumerate(lengths):
            with torch.inference_mode():
                wanted: Tensor = head(torch.from_numpy(features[row : row + 1, :length]), torch.tensor([length]))[0]
            got = outputs[row] if wanted.ndim == 1 else outputs[row, :length]
            if got.shape != wanted.shape or not np.allclose(got, wanted.numpy(), atol=1e-4):
                return False
    return True
