from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from service.bundle import (
    ENCODER_LINES,
    HEAD_LINES,
    CertificateDocument,
    EncoderDocument,
    ModelDocument,
    Precision,
    Runtime,
    canonical_sha256,
    file_sha256,
    head_runtime,
    read_document,
    write_document,
)
from service.errors import BundleError
from tests.bundles import ROW, ROWS, ZOO, proven, sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path)


@pytest.fixture
def model(folder: Path) -> ModelDocument:
    return read_document(folder / "model.json", ModelDocument)


def test_documents_survive_a_round_trip(folder: Path, model: ModelDocument, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    write_document(copy, model)
    assert read_document(copy, ModelDocument) == model
    assert copy.read_bytes() == (folder / "model.json").read_bytes(), "the same document gives the same bytes"


def test_the_canonical_hash_is_that_of_the_content(folder: Path, model: ModelDocument, tmp_path: Path) -> None:
    """White space and the order of keys are not content; any value is."""
    content = json.loads(model.model_dump_json())
    shuffled = tmp_path / "shuffled.json"
    shuffled.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert canonical_sha256(shuffled) == canonical_sha256(folder / "model.json")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_sha256(shuffled) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("dog", "cat", "fish")},
        {"version": "2"},
        {"score": "sigmoid"},
        {"training": {"seed": 1}},
        {"state": ()},
        {"created": "2026-01-01T00:00:01+00:00"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_breaks_the_canonical_hash(
    folder: Path, model: ModelDocument, change: dict[str, object], tmp_path: Path
) -> None:
    write_document(tmp_path / "changed.json", model.model_copy(update=change))
    assert canonical_sha256(tmp_path / "changed.json") != canonical_sha256(folder / "model.json")


def test_labels_in_any_script(model: ModelDocument, tmp_path: Path) -> None:
    named = model.model_copy(update={"labels": ("Überschlag", "跳绳", "🏹")})
    write_document(tmp_path / "named.json", named)
    assert "跳绳" in (tmp_path / "named.json").read_text(encoding="utf-8")
    assert read_document(tmp_path / "named.json", ModelDocument) == named


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_file_sha256(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert file_sha256(tmp_path / "file") == hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("name", "../up"),
        ("name", "UPPER"),
        ("name", ""),
        ("version", "1/2"),
        ("task", "detect"),
        ("labels", ["one"]),
        ("head_sha256", "0" * 63),
        ("score", "argmax"),
        ("spec", {"sample_fps": 0}),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_is_named(folder: Path, field: str, value: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(BundleError, match=rf"model\.json: {field}.*export the bundle again"):
        read_document(path, ModelDocument)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}"])
def test_what_is_no_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(BundleError, match=r"encoder\.json: .*export the bundle again"):
        read_document(tmp_path / "encoder.json", EncoderDocument)


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"certificate\.json is missing in .*export the bundle again"):
        read_document(tmp_path / "certificate.json", CertificateDocument)


def test_a_missing_field_is_named(folder: Path) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    del content["labels"]
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"model\.json: labels: Field required"):
        read_document(path, ModelDocument)


def test_a_certificate_tells_what_failed_and_what_it_covers(folder: Path) -> None:
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    assert certificate.failing() == []
    assert certificate.covers("onnxruntime-cpu", "fp32")
    assert not certificate.covers("onnxruntime-cuda", "fp32")
    assert not certificate.covers("onnxruntime-cpu", "fp16")
    bad = ROW.model_copy(update={"measured": 0.5, "passed": False})
    failed = certificate.model_copy(update={"rows": (ROW, bad)})
    assert failed.failing() == [
        "largest difference (onnxruntime-cpu, fp32, measured on cpu): 0.5, at most 0.0001 needed"
    ]
    lying = certificate.model_copy(update={"rows": (bad.model_copy(update={"passed": True, "detail": "batch 7"}),)})
    assert lying.failing()[0].endswith("0.5, at most 0.0001 needed; batch 7")  # the figure counts, not the word


@pytest.mark.parametrize(
    ("runtime", "precision", "measured_on", "covered"),
    [
        ("onnxruntime-cpu", "fp32", "cpu", True),
        ("onnxruntime-cpu", "fp16", "cpu", False),  # casts around fp32 kernels
        ("onnxruntime-cpu", "bf16", "cpu", False),
        ("onnxruntime-cuda", "fp32", "gpu", True),
        ("onnxruntime-cuda", "fp16", "gpu", True),
        ("onnxruntime-cuda", "fp16", "cpu", False),
        ("onnxruntime-cuda", "bf16", "gpu", False),  # ONNX's Conv takes none
        ("onnxruntime-tensorrt", "fp16", "gpu", True),
        ("openvino-cpu", "fp32", "cpu", True),
        ("openvino-cpu", "bf16", "cpu", True),
        ("openvino-cpu", "bf16", "gpu", False),
        ("openvino-cpu", "fp16", "cpu", False),
    ],
)
def test_a_pair_is_covered_only_where_its_own_device_measured_it(
    folder: Path, runtime: Runtime, precision: Precision, measured_on: str, covered: bool
) -> None:
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    rows = tuple(row.model_copy(update={"measured_on": measured_on}) for row in proven(runtime, precision))
    heads = tuple(row for row in (*ROWS, *proven(head_runtime(runtime))) if row.check in HEAD_LINES)
    assert certificate.model_copy(update={"rows": rows + heads}).covers(runtime, precision) is covered


@pytest.mark.parametrize("missing", sorted(ENCODER_LINES | HEAD_LINES))
def test_a_pair_without_one_of_its_lines_is_not_covered(folder: Path, missing: str) -> None:
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    most = tuple(row for row in (*ROWS, *proven("openvino-cpu")) if row.check != missing)
    partly = certificate.model_copy(update={"rows": most})
    assert not partly.covers("onnxruntime-cpu", "fp32")
    assert not partly.covers("openvino-cpu", "fp32"), "its head runs on ONNX Runtime"


def test_the_lines_are_those_that_the_trained_model_has() -> None:
    certificate = read_document(ZOO / "actions-lstm" / "1" / "certificate.json", CertificateDocument)
    assert {row.check for row in certificate.rows} >= ENCODER_LINES | HEAD_LINES
