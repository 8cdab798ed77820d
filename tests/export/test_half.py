"""The float16 encoder: what is float16 in it, and what its certificate may be used for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from export.prove.clips import ProofClip
from export.prove.structure import faults
from export.trace.encoder import ENCODER_AXES, export_encoder, half_precision
from export.write.bundle import Options
from service.bundle import ModelDocument, read_document
from service.certificate import HEAD_LINES, CertificateDocument
from service.engine.sessions import open_session
from service.tolerances import tolerance_of
from tests.export.models import FEATURES, build, encoder, write_scored


@pytest.fixture(scope="module")
def full() -> bytes:
    return export_encoder(encoder(), 32, 32)


@pytest.fixture(scope="module")
def half(full: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(half_precision(full))


def test_weights_are_float16_and_pixels_float32(half: onnx.ModelProto) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    halves = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT16}
    assert {name for name in kinds if name.endswith((".weight", ".bias"))} <= halves
    assert {name for name, kind in kinds.items() if kind == TensorProto.FLOAT} == {"mean", "std", "float32(255.0)"}
    order = [node.op_type for node in half.graph.node]
    casts = [
        next(attribute.i for attribute in node.attribute if attribute.name == "to")
        for node in half.graph.node
        if node.op_type == "Cast"
    ]
    assert casts == [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT]
    assert order.index("Sub") < order.index("Conv")  # normalised before it is rounded
    assert order[-1] == "Cast"
    elements = [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)]
    assert elements == [TensorProto.UINT8, TensorProto.FLOAT]
    assert faults(half, ENCODER_AXES, 0) == []


def test_it_is_smaller_and_its_features_are_within_tolerance(
    full: bytes, half: onnx.ModelProto, tmp_path: Path
) -> None:
    (tmp_path / "encoder.fp16.onnx").write_bytes(half.SerializeToString())
    assert len(half.SerializeToString()) < 0.75 * len(full)
    session = open_session(tmp_path / "encoder.fp16.onnx", "onnxruntime-cpu")
    for batch in (1, 5):
        frames = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 3), np.uint8)
        [features] = session.run(["features"], {"frames": frames})
        with torch.inference_mode():
            wanted = encoder().double()(torch.from_numpy(frames)).numpy()
        assert features.shape == (batch, FEATURES)
        assert features.dtype == np.float32
        largest = np.abs(features - wanted).max()
        assert 1e-5 < largest < tolerance_of("encoder features, random frames", "fp16").limit


def test_a_precision_measured_on_a_cpu_covers_no_runtime(clips: list[ProofClip], tmp_path: Path) -> None:
    folder = write_scored(build(), tmp_path, clips, Options(fp16=True))
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    model = read_document(folder / "model.json", ModelDocument)
    rows = [row for row in certificate.rows if row.precision == "fp16" and row.runtime == "onnxruntime-cpu"]
    assert {row.measured_on for row in rows} == {"cpu"}
    assert {row.check for row in rows} >= {"encoder features, random frames", "real clips, scores", "real clips, top-1"}
    for row in rows:
        assert row.limit == tolerance_of(row.check, "fp16").limit
    on_a_cpu = certificate.model_copy(
        update={"rows": tuple(row for row in certificate.rows if row.runtime == "onnxruntime-cpu")}
    )
    assert on_a_cpu.covers("onnxruntime-cpu", "fp32", model)
    assert not on_a_cpu.covers("onnxruntime-cpu", "fp16", model)
    assert not on_a_cpu.covers("onnxruntime-cuda", "fp16", model)
    on_a_gpu, head_on_a_gpu = (
        tuple(row.model_copy(update={"runtime": "onnxruntime-cuda", "measured_on": "gpu"}) for row in measured)
        for measured in (rows, [row for row in on_a_cpu.rows if row.check in HEAD_LINES])
    )
    both = on_a_cpu.model_copy(update={"rows": on_a_gpu + head_on_a_gpu})
    assert both.covers("onnxruntime-cuda", "fp16", model)
    assert not both.covers("onnxruntime-cuda", "fp32", model)
    assert not on_a_cpu.model_copy(update={"rows": on_a_cpu.rows + on_a_gpu}).covers("onnxruntime-cuda", "fp16", model)
