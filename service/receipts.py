"""The temporal receipt of an answer: which frames of which file were seen, by what."""

from __future__ import annotations

from dataclasses import asdict

from service.engine.head_run import HeadRun
from service.results import CacheOutcome, Receipt
from service.video.container import Container
from service.video.decode import DecodeReport


def receipt(head: HeadRun, report: DecodeReport, container: Container, sha256: str, cache: CacheOutcome) -> Receipt:
    """Of one model's answer for the file with this sha256."""
    model = head.model
    decoded = {name: value for name, value in asdict(report).items() if name != "warnings"}
    return Receipt(
        sha256=sha256,
        container=container.format,
        pixel_format=container.pixel_format,
        bit_depth=container.bit_depth,
        interlaced=container.interlaced,
        hdr=container.hdr,
        sample_fps=model.document.spec.sample_fps,
        spec_sha256=model.document.spec.sha256,
        window_frames=head.spec.window_frames,
        stride_frames=head.spec.stride_frames,
        runtime=model.runtime,
        precision=model.precision,
        cache=cache,
        **decoded,
    )
