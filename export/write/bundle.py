"""Write a bundle: graphs, documents and certificate; aside first, and moved into place only when all is proven."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from export.errors import ExportError
from export.prove.certify import Graphs, certify, devices, versions
from export.prove.clips import ProofClip, with_training
from export.prove.grid import GRID
from export.prove.proof import Proof, Report, Stage
from export.prove.reference import Reference, examine, feature_size
from export.source import VideoModel
from export.trace.encoder import export_encoder, half_precision
from export.trace.graphs import OPSET
from export.trace.head import HeadGraph, export_head
from export.trace.tracing import EXPORTERS, Exporter
from export.write.known_answer import known_answer
from service.bundle import (
    KNOWN_ANSWER,
    STATISTICS,
    EncoderDocument,
    EncoderReference,
    ModelDocument,
    StateTensor,
    canonical_sha256,
    file_sha256,
    write_document,
)
from service.certificate import CertificateDocument, Subjects

_OF_ONE_BUNDLE = ("MODEL_CARD.md", "confusion.csv", "confusion.png")
_HEAD_EXPORTER = f"{EXPORTERS['dynamo']}, recurrent layers as torch.onnx.ops.symbolic"


@dataclass(frozen=True)
class Options:
    """How to export. fp16: also an encoder for GPUs; exporter: of the encoder; openvino: prove it there as well.

    replace: a bundle of this version that is there goes, with what was written of it.
    """

    version: str = "1"
    fp16: bool = False
    exporter: Exporter = "dynamo"
    openvino: bool = False
    replace: bool = False


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
    _nothing_there(out / model.name / options.version, options)
    graph = HeadGraph(model.head, feature_size(model), model.task)
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


def _nothing_there(folder: Path, options: Options) -> None:
    if any((folder / name).exists() for name in ("head.onnx", "model.json")) and not options.replace:
        raise ExportError(
            f"{folder} is there already, and may be served: give another --version, or --replace to put this one in "
            "its place"
        )


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
        claim=model.claim,
        calibration=model.calibration,
        abstain=model.abstain,
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
    half_path = aside / "encoder.fp16.onnx" if options.fp16 else None
    paths = Graphs(aside / "head.onnx", aside / "encoder.onnx", aside / KNOWN_ANSWER, half_path)
    stage("tracing the head")
    paths.head.write_bytes(export_head(graph))
    stage("tracing the encoder")
    encoder_bytes = export_encoder(model.encoder, spec.frame_height, spec.frame_width, options.exporter)
    paths.encoder.write_bytes(encoder_bytes)
    if paths.encoder_fp16 is not None:
        paths.encoder_fp16.write_bytes(half_precision(encoder_bytes))
    clips = with_training(clips, model.clips_scored, model.labels)
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
    encoder_files = ["encoder.json", *(path.name for path in (paths.encoder, paths.encoder_fp16) if path)]
    _refuse_taken(aside, out, encoder.name, encoder_files, (model.name, options))
    paths.known_answer.write_bytes(known_answer(Reference(model, graph)).to_bytes())
    if model.statistics is not None:
        (aside / STATISTICS).write_bytes(model.statistics.to_bytes())
    proof = certify(model, document, encoder, graph, paths, clips, report, stage, openvino=options.openvino)
    certificate = _certificate(model, encoder, document, proof, aside, options)
    if failing := certificate.failing(document):
        raise ExportError(f"the service would refuse this certificate: {failing[0]}")
    write_document(aside / "certificate.json", certificate)
    _place_encoder(aside, out / "encoders" / encoder.name, encoder_files)
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
            known_answer=file_sha256(aside / KNOWN_ANSWER),
            statistics=file_sha256(aside / STATISTICS) if model.statistics else None,
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


def _refuse_taken(aside: Path, out: Path, name: str, files: Sequence[str], replaced: tuple[str, Options]) -> None:
    """Before minutes of proof: an encoder of this name that is there is the same to the byte, or the replaced model's.

    replaced: the model's name and options.
    """
    folder, (model_name, options) = out / "encoders" / name, replaced
    if not (folder / "encoder.onnx").exists() or _same(aside, folder, files):
        return
    users = [
        f"{path.parents[1].name} {path.parent.name}"
        for path in sorted(out.glob("*/*/model.json"))
        if path.parent != out / model_name / options.version and _encoder_of(path) == name
    ]
    if users or not options.replace:
        remedy = (
            f"{', '.join(users)} uses it too: export to an empty folder, or remove it and export that again"
            if users
            else "no other model uses it, and --replace puts this one in its place"
        )
        raise ExportError(f"{folder} holds another encoder (other weights, precisions or exporter); {remedy}")


def _encoder_of(model_json: Path) -> str:
    try:
        return str(json.loads(model_json.read_bytes())["encoder"]["name"])
    except (ValueError, KeyError, TypeError):
        return ""


def _same(aside: Path, folder: Path, names: Sequence[str]) -> bool:
    return all((folder / n).exists() and file_sha256(folder / n) == file_sha256(aside / n) for n in names)


def _place_encoder(aside: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the encoder in; one that is there is shared, or was the replaced model's alone (`_refuse_taken`)."""
    if (folder / "encoder.onnx").exists() and _same(aside, folder, names):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        shutil.move(aside / name, folder / name)


def _place_model(aside: Path, folder: Path) -> Path:
    """Move the model's files in. What was written of another bundle that was there goes; notes and studies stay.

    A study names the head that it lay beside, and the card says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(_other(aside / name, folder / name) for name in ("head.onnx", "model.json", "certificate.json")):
        for name in _OF_ONE_BUNDLE:
            (folder / name).unlink(missing_ok=True)
    (folder / STATISTICS).unlink(missing_ok=True)
    for name in ("head.onnx", "model.json", KNOWN_ANSWER, STATISTICS, "certificate.json"):
        if (aside / name).exists():
            shutil.move(aside / name, folder / name)
    return folder


def _other(new: Path, old: Path) -> bool:
    return old.exists() and file_sha256(new) != file_sha256(old)
