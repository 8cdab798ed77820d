"""Bundles for tests: sealed ones whose graphs are a few bytes, and copies of the trained one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from service.bundle import (
    GPU_RUNTIMES,
    KNOWN_ANSWER,
    STATISTICS,
    EncoderDocument,
    EncoderReference,
    ModelDocument,
    Precision,
    Runtime,
    StateTensor,
    canonical_sha256,
    file_sha256,
    head_runtime,
    read_document,
    write_document,
)
from service.certificate import (
    ENCODER_LINES,
    HEAD_LINES,
    STATE_LINES,
    STRUCTURE_LINES,
    CertificateDocument,
    CertificateRow,
    Subjects,
)
from service.engine.heads import Head
from service.engine.known_answer import KnownAnswer
from service.engine.sessions import open_session
from service.tolerances import ACCURACY, LONGEST, tolerance_of
from service.video.spec import ClipSpec
from tests.zoo import TRAINED, ZOO

SPEC = ClipSpec(sample_fps=4, frame_height=32, frame_width=32, window_frames=8, stride_frames=4)
ROW = CertificateRow(
    check="largest difference", runtime="onnxruntime-cpu", precision="fp32", measured=1e-6, limit=1e-4,
    comparison="at most", cases=10, passed=True,
)  # fmt: skip


def line(check: str, **fields: object) -> CertificateRow:
    """A row of the certificate that keeps its limit."""
    precision: Precision = fields.get("precision", "fp32")  # type: ignore[assignment]
    tolerance = tolerance_of(check, precision)
    least = tolerance.comparison == "at least"
    kept = {"limit": tolerance.limit, "comparison": tolerance.comparison, "measured": 1.0 if least else 0.0}
    cases = 10**6 if check == LONGEST else 300
    return ROW.model_copy(update={"check": check, "cases": cases, **kept, **fields})


def proven(
    runtime: Runtime = "onnxruntime-cpu", precision: Precision = "fp32", **fields: object
) -> tuple[CertificateRow, ...]:
    """Every line that serving a pair takes of any model; those of the head with a pair that heads run on too."""
    device = "gpu" if runtime in GPU_RUNTIMES else "cpu"
    pair = {"runtime": runtime, "precision": precision, "measured_on": device, **fields}
    runs_heads = (head_runtime(runtime), "fp32") == (runtime, precision)
    lines = ENCODER_LINES | {ACCURACY} | (HEAD_LINES | STATE_LINES | {LONGEST} if runs_heads else frozenset())
    return tuple(line(check, **pair) for check in sorted(lines))


STRUCTURE = tuple(line(check) for check in sorted(STRUCTURE_LINES))
ROWS = (*STRUCTURE, *proven())


def sealed(models_dir: Path, name: str = "tiny", version: str = "1", rows: tuple[CertificateRow, ...] = ROWS) -> Path:
    """Write a bundle that verifies; its graphs are text, as nothing loads them. Returns the version's folder."""
    folder, encoder_folder = models_dir / name / version, models_dir / "encoders" / "tiny-encoder"
    folder.mkdir(parents=True)
    encoder_folder.mkdir(parents=True, exist_ok=True)
    (folder / "head.onnx").write_bytes(f"head of {name} {version}".encode())
    (folder / KNOWN_ANSWER).write_bytes(b"known answer")
    (encoder_folder / "encoder.onnx").write_bytes(b"encoder")
    encoder_sha256 = file_sha256(encoder_folder / "encoder.onnx")
    encoder = EncoderDocument(
        name="tiny-encoder", sha256=encoder_sha256, frame_height=32, frame_width=32, feature_size=4, opset=17,
        exporter="none", source="tests", licence="Apache-2.0",
    )  # fmt: skip
    write_document(encoder_folder / "encoder.json", encoder)
    model = ModelDocument(
        name=name, version=version, task="clip", labels=("cat", "dog", "fish"), score="softmax", spec=SPEC,
        encoder=EncoderReference(name="tiny-encoder", sha256=encoder_sha256),
        head_sha256=file_sha256(folder / "head.onnx"), state=(StateTensor(name="hidden", size=2),),
        training={"seed": 0}, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    write_document(folder / "model.json", model)
    _seal(folder, model, encoder, rows)
    return folder


def copy_of_the_zoo(models_dir: Path, name: str, **spec: object) -> Path:
    """The trained model under another name, sealed anew; returns the version's folder. spec: fields to change."""
    shutil.copytree(ZOO / "encoders", models_dir / "encoders", dirs_exist_ok=True)
    folder = Path(shutil.copytree(TRAINED, models_dir / name / TRAINED.name))
    trained = read_document(folder / "model.json", ModelDocument)
    model = trained.model_copy(update={"name": name, "spec": trained.spec.model_copy(update=spec)})
    encoder = read_document(models_dir / "encoders" / model.encoder.name / "encoder.json", EncoderDocument)
    write_document(folder / "model.json", model)
    rows = read_document(folder / "certificate.json", CertificateDocument).rows
    _seal(folder, model, encoder, (*rows, line(LONGEST)))  # windows may be changed to whole clips
    return folder


def on_another_encoder(models_dir: Path, name: str, encoder_name: str = "other") -> Path:
    """The trained model on an encoder of its own: the same graph in another file; returns the version's folder."""
    folder = copy_of_the_zoo(models_dir, name)
    trained = read_document(folder / "model.json", ModelDocument)
    own = Path(shutil.copytree(models_dir / "encoders" / trained.encoder.name, models_dir / "encoders" / encoder_name))
    with (own / "encoder.onnx").open("ab") as graph:
        graph.write(b"\x32\x05other")  # ONNX: doc_string of the model
    sha256 = file_sha256(own / "encoder.onnx")
    encoder = read_document(own / "encoder.json", EncoderDocument)
    encoder = encoder.model_copy(update={"name": encoder_name, "sha256": sha256})
    write_document(own / "encoder.json", encoder)
    reference = EncoderReference(name=encoder_name, sha256=sha256)
    model = trained.model_copy(update={"encoder": reference})
    write_document(folder / "model.json", model)
    _seal(folder, model, encoder, read_document(folder / "certificate.json", CertificateDocument).rows)
    return folder


def on_the_zoo_s_encoder(models_dir: Path, name: str, head: bytes, **fields: object) -> Path:
    """A sealed bundle of another head.onnx on the trained model's encoder; returns the version's folder.

    fields: of model.json, in place of the trained model's.
    """
    folder = copy_of_the_zoo(models_dir, name)
    (folder / "head.onnx").write_bytes(head)
    trained = read_document(folder / "model.json", ModelDocument).model_dump()
    own = {"head_sha256": file_sha256(folder / "head.onnx"), **fields}
    model = ModelDocument.model_validate(trained | own)
    encoder = read_document(models_dir / "encoders" / model.encoder.name / "encoder.json", EncoderDocument)
    write_document(folder / "model.json", model)
    _know(folder, model, encoder)
    _seal(folder, model, encoder, ROWS)
    return folder


def flip_a_byte(path: Path) -> None:
    """Turn over the middle byte of a file."""
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 0xFF
    path.write_bytes(blob)


def swap_labels(folder: Path) -> None:
    """Exchange the first two labels of model.json, which breaks no schema."""
    document = json.loads((folder / "model.json").read_text())
    document["labels"][:2] = reversed(document["labels"][:2])
    (folder / "model.json").write_text(json.dumps(document))


def _know(folder: Path, model: ModelDocument, encoder: EncoderDocument) -> None:
    """The known answer of the folder's own head.onnx; zeros where it does not run, as some are broken on purpose."""
    trained = read_document(TRAINED / "model.json", ModelDocument)
    known = KnownAnswer.read(folder / KNOWN_ANSWER, trained, encoder)
    rows = (len(known.window),) if model.task == "frame" else ()
    scores = np.zeros((*rows, len(model.labels)), np.float32)
    with contextlib.suppress(Exception):
        head = Head(open_session(folder / "head.onnx", "onnxruntime-cpu"), model)
        scores[:] = head.scores([known.features[known.window]])
    (folder / KNOWN_ANSWER).write_bytes(dataclasses.replace(known, scores=scores).to_bytes())


def _seal(folder: Path, model: ModelDocument, encoder: EncoderDocument, rows: tuple[CertificateRow, ...]) -> None:
    subjects = Subjects(
        encoder_onnx=encoder.sha256,
        head_onnx=model.head_sha256,
        model_json=canonical_sha256(folder / "model.json"),
        known_answer=file_sha256(folder / KNOWN_ANSWER),
        statistics=file_sha256(folder / STATISTICS) if (folder / STATISTICS).exists() else None,
        encoder_json=canonical_sha256(folder.parents[1] / "encoders" / encoder.name / "encoder.json"),
    )
    passed = all(row.passed for row in rows)
    write_document(
        folder / "certificate.json",
        CertificateDocument(passed=passed, subjects=subjects, versions={"onnxruntime": "1"}, rows=rows),
    )
