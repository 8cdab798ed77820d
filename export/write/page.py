"""A certificate as one page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.bundle import EncoderDocument, ModelDocument
from service.certificate import CertificateDocument, CertificateRow


def page(model: ModelDocument, encoder: EncoderDocument, certificate: CertificateDocument) -> Group:
    """What the bundle is, what was proven and with what."""
    return Group(*_parts(model, encoder, certificate))


def said(row: CertificateRow) -> Text:
    """One line as it is proven."""
    mark, style = ("ok  ", "green") if row.passed else ("FAIL", "bold red")
    where = "" if (row.runtime, row.precision) == ("onnxruntime-cpu", "fp32") else f" [{row.runtime}, {row.precision}]"
    figure = f": {row.measured:.3g} ({row.comparison} {row.limit:g}; {row.cases} cases)"
    return Text.assemble((mark, style), f" {row.check}{where}{figure}", f" – {row.detail}" if not row.passed else "")


def _parts(
    model: ModelDocument, encoder: EncoderDocument, certificate: CertificateDocument
) -> Iterator[RenderableType]:
    verdict = ("passed", "green") if certificate.passed and not certificate.failing(model) else ("FAILED", "bold red")
    yield Text.assemble((f"{model.name} {model.version}", "bold"), ": certificate ", verdict)
    state = ", ".join(f"{tensor.name} ({tensor.size})" for tensor in model.state) or "none: it can't be streamed"
    yield Text(f"task {model.task} · {len(model.labels)} labels · score {model.score} · state {state}")
    yield Text(
        f"encoder {encoder.name}: uint8 RGB (N, {encoder.frame_height}, {encoder.frame_width}, 3) → "
        f"(N, {encoder.feature_size}) · opset {certificate.opset}"
    )
    yield from _rows(model, certificate)
    if certificate.grid:
        batches, times = (", ".join(map(str, part)) for part in (certificate.grid.batches, certificate.grid.times))
        yield Text(f"grid: batches {batches} × {times} frames, mixed lengths; PyTorch in float64, each clip alone")
    for line in certificate.placement:
        reason = f", expected: {line.expected}" if line.expected else ""
        yield Text(f"{line.runtime}: {line.nodes} {line.op_type} of the {line.graph} on {line.provider}{reason}")
    for pair in certificate.left_out:
        yield Text.assemble(("left out ", "yellow"), pair)
    for name, exporter in certificate.exporters.items():
        yield Text(f"{name} written by {exporter}")
    yield Text("versions: " + ", ".join(f"{name} {number}" for name, number in certificate.versions.items()))
    yield Text("measured on: " + ", ".join(f"{kind} {name}" for kind, name in certificate.devices.items()))
    for source in certificate.sources:
        yield Text(f"{source.name}: {source.origin}; licence: {source.licence}")
    hashes = {re.sub("_(?=fp16|onnx|json)", ".", name): value for name, value in certificate.subjects}
    for name, value in hashes.items():
        if value:
            size = certificate.sizes_bytes.get(name)
            yield Text(f"{name}: sha256 {value}" + (f", {size / 1e6:.2f} MB" if size else ""))


def _rows(model: ModelDocument, certificate: CertificateDocument) -> Iterator[RenderableType]:
    """A table for each runtime and precision; the columns are as wide in all of them."""
    sections = {(row.runtime, row.precision, row.measured_on): None for row in certificate.rows}
    width = max(len(row.check) for row in certificate.rows)
    for runtime, precision, device in sections:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("", width=4)
        title = f"{runtime}, {precision}, measured on the {device}"
        trusted = "" if certificate.covers(runtime, precision, model) else ": not trusted"
        table.add_column(title + trusted, width=max(width, 58))
        table.add_column("measured", justify="right", width=8)
        table.add_column("needed", width=8)
        table.add_column("cases", justify="right", width=5)
        table.add_column("worst at", no_wrap=True)
        for row in certificate.rows:
            if (row.runtime, row.precision, row.measured_on) == (runtime, precision, device):
                table.add_row(*_cells(model, row))
        yield table


def _cells(model: ModelDocument, row: CertificateRow) -> tuple[RenderableType, ...]:
    return (
        Text("ok", "green") if not row.fault(model) else Text("FAIL", "bold red"),
        row.check,
        f"{row.measured:.2e}" if 0 < row.measured < 0.01 else f"{row.measured:g}",
        f"{'≤' if row.comparison == 'at most' else '≥'} {row.limit:g}",
        str(row.cases),
        row.detail,
    )
