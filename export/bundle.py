"""Write a bundle: graphs, documents and certificate; aside first, and moved into place only when all is proven."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from export.certificate import Report, certify, versions
from export.encoder import EXPORTER, export_encoder
from export.graphs import OPSET
from export.head import export_head, state_tensors
from models.checkpoint import Checkpoint
from models.encoders import LICENCES, SOURCES
from service.bundle import (
    CertificateDocument,
    EncoderDocument,
    EncoderReference,
    ModelDocument,
    Subjects,
    canonical_sha256,
    file_sha256,
    write_document,
)

# The curve is long, and the path of the data is of the machine that trained.
_NOT_PUBLISHED = frozenset({"curve", "data_path"})


class ExportError(Exception):
    """The bundle was not written; the message says why and what to do."""


def write_bundle(
    checkpoint: Checkpoint,
    out: Path,
    version: str,
    clips: Sequence[Path],
    report: Report = lambda row: None,
) -> Path:
    """Export, prove and write; returns the bundle's folder `out/<name>/<version>`.

    Nothing is written below `out` unless every check passes. An encoder of the same bytes is shared.
    """
    if not clips:
        raise ExportError(
            "the certificate is proven on real clips, and those of the training are not here: name some with --clips"
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
        aside = Path(folder)
        encoder_path, head_path = aside / "encoder.onnx", aside / "head.onnx"
        spec = checkpoint.spec
        encoder = checkpoint.encoder()
        encoder_path.write_bytes(export_encoder(encoder, spec.frame_height, spec.frame_width))
        head_path.write_bytes(export_head(checkpoint.head()))
        encoder_document = EncoderDocument(
            name=f"{checkpoint.encoder_name}-{spec.frame_width}x{spec.frame_height}",
            sha256=file_sha256(encoder_path),
            frame_height=spec.frame_height,
            frame_width=spec.frame_width,
            feature_size=encoder.feature_size,
            opset=OPSET,
            exporter=EXPORTER,
            source=SOURCES[checkpoint.encoder_name],
            licence=LICENCES[checkpoint.encoder_name],
        )
        model = ModelDocument(
            name=checkpoint.name,
            version=version,
            task="clip",
            labels=checkpoint.labels,
            encoder=EncoderReference(name=encoder_document.name, sha256=encoder_document.sha256),
            head_sha256=file_sha256(head_path),
            spec=spec,
            state=state_tensors(checkpoint.head()),
            score="softmax",
            training={name: value for name, value in checkpoint.training.items() if name not in _NOT_PUBLISHED},
            created=checkpoint.training["created"],
        )
        write_document(aside / "model.json", model)
        write_document(aside / "encoder.json", encoder_document)
        rows = certify(checkpoint, model, head_path, encoder_path, clips, report)
        certificate = CertificateDocument(
            passed=all(row.passed for row in rows),
            subjects=Subjects(
                encoder_onnx=encoder_document.sha256,
                head_onnx=model.head_sha256,
                model_json=canonical_sha256(aside / "model.json"),
                encoder_json=canonical_sha256(aside / "encoder.json"),
            ),
            versions=versions(),
            rows=rows,
        )
        if not certificate.passed:
            raise ExportError("the certificate failed; nothing was written:\n  " + "\n  ".join(certificate.failing()))
        write_document(aside / "certificate.json", certificate)
        _place_encoder(aside, out / "encoders" / encoder_document.name)
        return _place_model(aside, out / checkpoint.name / version)


def _place_encoder(aside: Path, folder: Path) -> None:
    """Move the encoder in; one that is there is shared, and must be the same to the byte."""
    names = ("encoder.onnx", "encoder.json")
    if (folder / "encoder.onnx").exists():
        if any(file_sha256(folder / name) != file_sha256(aside / name) for name in names):
            raise ExportError(
                f"{folder} holds another encoder (other weights or exporter) that other models may use; "
                "export to an empty folder, or remove it and export those models again"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.move(aside / name, folder / name)


def _place_model(aside: Path, folder: Path) -> Path:
    """Move the model's files in; a model card or study that is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("head.onnx", "model.json", "certificate.json"):
        shutil.move(aside / name, folder / name)
    return folder
