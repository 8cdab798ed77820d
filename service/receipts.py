"""An answer put together, with its temporal receipt: which frames of which file were seen, by what."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict

from service.answers import AnswerOptions, answer
from service.engine.clip_scores import ClipScores
from service.engine.head_run import HeadRun
from service.results import CacheOutcome, Prediction, Receipt
from service.timing import Watch
from service.video.chunk import Times
from service.video.container import Container
from service.video.region import Region
from service.video.report import DecodeReport


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
        region=_region(head.spec.region, report),
        spec_sha256=model.document.spec.sha256,
        window_frames=head.spec.window_frames,
        stride_frames=head.spec.stride_frames,
        runtime=model.runtime,
        precision=model.precision,
        cache=cache,
        **decoded,
    )


def _region(region: Region | None, report: DecodeReport) -> str | None:
    return None if region is None else ",".join(map(str, region.pixels(report.width, report.height)))


def conclude(
    head: HeadRun,
    scores: ClipScores,
    report: DecodeReport,
    container: Container,
    options: AnswerOptions,
    watch: Watch,
    seconds: Times,
    *,
    sha256: str,
    cache: CacheOutcome = "off",
    request_id: str = "",
    upload_seconds: float = 0.0,
) -> Prediction:
    """One model's answer for a clip whose frames have all been scored. sha256: of its file.

    seconds: (ticks,), when each begins, where the frames are the ticks; else (0,).
    """
    started = time.perf_counter()
    said = answer(head.model.document, scores, report, options, seconds)
    return Prediction(
        request_id=request_id or uuid.uuid4().hex,
        model=head.model.name,
        predictions=said.predictions,
        abstained=said.abstained,
        segments=said.segments,
        receipt=receipt(head, report, container, sha256, cache),
        timing_ms=watch.timing(upload_seconds, head=head.seconds, post=time.perf_counter() - started),
        warnings=[*report.warnings, *container.warnings(), *said.warnings],
    )
