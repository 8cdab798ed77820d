"""`python -m export CHECKPOINT --out DIR --clips PATH`: a checkpoint becomes a proven bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.bundle import ExportError, write_bundle
from models.checkpoint import Checkpoint, CheckpointError
from models.dataset import VIDEO_SUFFIXES, DatasetError, read_manifest
from service.bundle import CertificateRow
from service.errors import ReelserveError

console = Console()


def main(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A checkpoint of `models train`.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("models/zoo"),
    clips: Annotated[
        Path | None,
        typer.Option(exists=True, help="Real clips: a file, a folder or a CSV manifest; else those of the training."),
    ] = None,
    max_clips: Annotated[int, typer.Option(min=1, help="Prove on this many, evenly spread.")] = 24,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
) -> None:
    """Export a checkpoint to ONNX, prove it against PyTorch, and write the bundle. Exit code 1 when a check fails."""

    def report(row: CertificateRow) -> None:
        mark = "[green]ok  [/]" if row.passed else "[red]FAIL[/]"
        console.print(f"{mark} {row.check}: {row.measured:.3g} ({row.comparison} {row.limit:g}, {row.cases} cases)")

    try:
        trained = Checkpoint.load(checkpoint)
        source = clips or Path(trained.training.get("data_path", ""))
        found = find_clips(source, max_clips) if source != Path() and source.exists() else []
        folder = write_bundle(trained, out, version, found, report)
    except (ExportError, DatasetError, CheckpointError, ReelserveError) as error:
        console.print(f"[red]{error}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"bundle: {folder}")


def find_clips(source: Path, most: int) -> list[Path]:
    """Video files of a manifest or below a folder, at most `most`, evenly spread."""
    if source.suffix == ".csv":
        paths = [clip.path for clip in read_manifest(source, None)]
    elif source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    else:
        paths = [source]
    if not paths:
        raise DatasetError(f"{source} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    step = max(1, len(paths) / most)
    return [paths[int(i * step)] for i in range(min(most, len(paths)))]


if __name__ == "__main__":
    typer.run(main)
