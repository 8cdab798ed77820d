"""`python -m export CHECKPOINT|module:factory --out DIR`: a trained model becomes a proven bundle. `show BUNDLE`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import onnxruntime as ort
import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from export.errors import ExportError
from export.prove.clips import find_clips
from export.scores import read_scores
from export.source import load
from export.trace.tracing import Exporter
from export.write.bundle import Options, write_bundle
from export.write.page import page, said
from models.errors import ModelsError
from service.bundle import LEAST_CLIPS, EncoderDocument, ModelDocument, read_document
from service.certificate import CertificateDocument, CertificateRow
from service.engine.openvino_runtime import absent
from service.errors import ReelserveError
from service.terminal import plain

console = Console()
if not console.is_terminal:
    console = Console(width=132)  # a file or a pipe has no width; the page is not to be cut


class _ModelFirst(TyperGroup):
    """`python -m export MODEL` is short for `python -m export model MODEL`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["model", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ModelFirst, no_args_is_help=True, add_completion=False, help=__doc__)


@app.command("model")
def model_(
    source: Annotated[str, typer.Argument(metavar="CHECKPOINT|MODULE:FACTORY", help="Of `models train`, or your own.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("models/zoo"),
    clips: Annotated[
        Path | None,
        typer.Option(exists=True, help="Real clips: a file, a folder or a CSV manifest; else those of the training."),
    ] = None,
    max_clips: Annotated[int, typer.Option(min=LEAST_CLIPS, help="Prove on this many, training's own first.")] = 24,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    fp16: Annotated[bool, typer.Option("--fp16", help="Also write a float16 encoder, for GPUs.")] = False,
    openvino: Annotated[
        bool | None,
        typer.Option("--openvino/--no-openvino", help="Prove it on OpenVINO too; default: where installed."),
    ] = None,
    exporter: Annotated[Exporter, typer.Option(help="PyTorch's exporter for the encoder.")] = "dynamo",
    scores: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Training's own scores, of `export.scores.write_scores`."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a bundle that is there.")] = False,
    bento: Annotated[bool, typer.Option("--bento", help="Also put the bundle into BentoML's model store.")] = False,
) -> None:
    """Export, prove against PyTorch, and write the bundle. Stops at the first line that fails, with exit code 1."""
    ort.set_default_logger_severity(4)  # what a broken graph says is in the line that it fails
    try:
        trained = load(source)
        if scores is not None:
            trained = dataclasses.replace(trained, clips_scored=read_scores(scores))
        where = clips or trained.clips
        found = find_clips(where, max_clips, trained.clips_scored) if where is not None and where.exists() else []
        with console.status(trained.name) as status:
            options = Options(version, fp16, exporter, absent() == "" if openvino is None else openvino, replace)
            folder = write_bundle(trained, out, found, options, _report, status.update)
        show(folder)
        console.print(plain(f"bundle: {folder}"), soft_wrap=True)
        if bento:
            from export.write.bento import store  # bentoml is slow to import

            console.print(plain(f"in BentoML's model store: {store(folder, out / 'encoders')}"), soft_wrap=True)
    except (ExportError, ModelsError, ReelserveError, OSError) as error:
        console.print(Text.assemble(("not exported:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def show(
    bundle: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder <zoo>/<model>/<version>.")],
) -> None:
    """Print a bundle's certificate as one page."""
    try:
        model = read_document(bundle / "model.json", ModelDocument)
        encoders = bundle.resolve().parents[1] / "encoders"
        encoder = read_document(encoders / model.encoder.name / "encoder.json", EncoderDocument)
        certificate = read_document(bundle / "certificate.json", CertificateDocument)
    except ReelserveError as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(page(model, encoder, certificate), soft_wrap=True)


def _report(row: CertificateRow) -> None:
    console.print(said(row), soft_wrap=True)


if __name__ == "__main__":
    app()
