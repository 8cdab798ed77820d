"""Write a bundle: graphs, documents and certificate; aside first, and moved into place only when all is proven."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from export.certificate import Graphs, certify, devices, versions
from export.clips import ProofClip
from export.encoder import export_encoder, half_precision
from export.errors import ExportError
from export.graphs import OPSET
from export.head import HeadGraph, export_head
from export.proof import Proof, Report, Stage
from export.prove_head import GRID
from export.reference import Reference, examine
from export.source import VideoModel
from export.tracing import EXPORTERS, Exporter
from service.bundle import (
    CertificateDocument,
    EncoderDocument,
    EncoderReference,
    ModelDocument,
    StateTensor,
    Subjects,
    canonical_sha256,
    file_sha256,
    write_document,
)

_HEAD_EXPORTER = f"{EXPORTERS['dynamo']}, recurrent layers as torch.onnx.ops.symbolic"


@dataclass(frozen=True)
class Options:
    """How to export. fp16: also an encoder for GPUs; exporter: of the encoder; openvino: prove it there as well."""

    version: str = "1"
    fp16: bool = False
    exporter: Exporter = "dynamo"
    openvino: bool = False


def write_bundle(
    model: VideoModel,
    out: Path,
    clips: Sequence[ProofClip],
    options: Options | None = None,
    report: Report = lambda row: None,
    stage: Stage = lambda text: None,
) -> Path:
    """Export, prove and write; returns the bundle's folder `out/<name>/<version>`.

    Nothing is written below `out` unless every check passes. An encoder of the same bytes is shared.
    Raises ExportError and its kin.
    """
    options = options or Options()
    if not clips:
        raise ExportError(
            "the certificate is proven on real clips, and those of the training are not here: name some with --clips"
        )
    _well_named(model, options)
    graph = HeadGraph(model.head, _feature_size(model), model.task)
    stage("examining the modules in PyTorch")
    examine(model, graph, Reference(model, graph))
    made = [path for path in (out, *out.parents) if not path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
            return _write(model, graph, out, Path(folder), clips, options, report, stage)
    except BaseException:
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()
        raise


def _well_named(model: VideoModel, options: Options) -> None:
    """What model.json and encoder.json will hold must be valid, before minutes of proof."""
    blank = "0" * 64
    try:
        _model_document(model, options, EncoderReference(name=_encoder_name(model), sha256=blank), blank, ())
        json.dumps(model.training)
    except (ValidationError, TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the model"
            where = "encoder_name" if first.get("input") == _encoder_name(model) else where
            raise ExportError(f"{where} {first.get('input')!r} will not do: {first['msg']}") from error
        raise ExportError(f"training is not plain JSON: {error}") from error


def _encoder_name(model: VideoModel) -> str:
    return f"{model.encoder_name}-{model.spec.frame_width}x{model.spec.frame_height}"


def _model_document(
    model: VideoModel, options: Options, encoder: EncoderReference, head_sha256: str, state: tuple[StateTensor, ...]
) -> ModelDocument:
    return ModelDocument(
        name=model.name,
        version=options.version,
        task=model.task,
        labels=model.labels,
        encoder=encoder,
        head_sha256=head_sha256,
        spec=model.spec,
        state=state,
        score=model.score,
        training=model.training,
        created=model.created,
    )


def _write(
    model: VideoModel,
    graph: HeadGraph,
    out: Path,
    aside: Path,
    clips: Sequence[ProofClip],
    options: Options,
    report: Report,
    stage: Stage,
) -> Path:
    spec = model.spec
    paths = Graphs(aside / "head.onnx", aside / "encoder.onnx", aside / "encoder.fp16.onnx" if options.fp16 else None)
    stage("tracing the head")
    paths.head.write_bytes(export_head(graph))
    stage("tracing the encoder")
    encoder_bytes = export_encoder(model.encoder, spec.frame_height, spec.frame_width, options.exporter)
    paths.encoder.write_bytes(encoder_bytes)
    if paths.encoder_fp16 is not None:
        paths.encoder_fp16.write_bytes(half_precision(encoder_bytes))
    weights = next((source for source in model.sources if source.name == "encoder weights"), None)
    encoder = EncoderDocument(
        name=_encoder_name(model),
        sha256=file_sha256(paths.encoder),
        frame_height=spec.frame_height,
        frame_width=spec.frame_width,
        feature_size=graph.feature_size,
        opset=OPSET,
        exporter=EXPORTERS[options.exporter],
        source=weights.origin if weights else "not stated",
        licence=weights.licence if weights else "not stated",
        fp16_sha256=file_sha256(paths.encoder_fp16) if paths.encoder_fp16 else None,
    )
    reference = EncoderReference(name=encoder.name, sha256=encoder.sha256)
    document = _model_document(model, options, reference, file_sha256(paths.head), graph.state)
    write_document(aside / "model.json", document)
    write_document(aside / "encoder.json", encoder)
    proof = certify(model, document, encoder, graph, paths, clips, report, stage, openvino=options.openvino)
    write_document(aside / "certificate.json", _certificate(model, encoder, document, proof, aside, options))
    encoder_files = [path.name for path in (paths.encoder, paths.encoder_fp16) if path]
    _place_encoder(aside, out / "encoders" / encoder.name, (*encoder_files, "encoder.json"))
    return _place_model(aside, out / model.name / options.version)


def _certificate(
    model: VideoModel, encoder: EncoderDocument, document: ModelDocument, proof: Proof, aside: Path, options: Options
) -> CertificateDocument:
    return CertificateDocument(
        passed=all(row.passed for row in proof.rows),
        subjects=Subjects(
            encoder_onnx=encoder.sha256,
            head_onnx=document.head_sha256,
            model_json=canonical_sha256(aside / "model.json"),
            encoder_json=canonical_sha256(aside / "encoder.json"),
            encoder_fp16_onnx=encoder.fp16_sha256,
        ),
        versions=versions(*(["openvino"] if options.openvino else [])),
        exporters={"encoder": EXPORTERS[options.exporter], "head": _HEAD_EXPORTER},
        opset=OPSET,
        devices=devices(),
        grid=GRID,
        rows=tuple(proof.rows),
        placement=tuple(proof.placement),
        sizes_bytes={path.name: path.stat().st_size for path in sorted(aside.glob("*.onnx"))},
        sources=model.sources,
        left_out=tuple(proof.left_out),
    )


def _feature_size(model: VideoModel) -> int:
    """The width of what the encoder gives for one black frame."""
    frame = torch.from_numpy(np.zeros((1, model.spec.frame_height, model.spec.frame_width, 3), np.uint8))
    with torch.inference_mode():
        try:
            features = model.encoder.eval()(frame)
        except Exception as error:  # whatever a user's network raises
            raise ExportError(
                f"the encoder does not take uint8 RGB frames (1, {model.spec.frame_height}, "
                f"{model.spec.frame_width}, 3): {str(error).splitlines()[0]}; wrap it in models.encoders.ImageEncoder"
            ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ExportError(
            f"the encoder gives {shape} for one frame, not (1, D); wrap it in models.encoders.ImageEncoder"
        )
    return int(features.shape[1])


def _place_encoder(aside: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the encoder in; one that is there is shared, and must be the same to the byte."""
    if (folder / "encoder.onnx").exists():
        if any(not (folder / n).exists() or file_sha256(folder / n) != file_sha256(aside / n) for n in names):
            raise ExportError(
                f"{folder} holds another encoder (other weights, precisions or exporter) that other models may use; "
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
