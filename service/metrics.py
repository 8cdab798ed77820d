"""Prometheus: every metric of ours is declared here."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("reelserve_requests_total", "Requests by route and HTTP status.", ["route", "status"])
ERRORS = Counter("reelserve_errors_total", "Requests that ended in an error, by its code.", ["code"])
STAGE_SECONDS = Histogram(
    "reelserve_stage_seconds", "Busy time of one request in a stage (see timing_ms).", ["stage"], buckets=_SECONDS
)
IN_FLIGHT = Gauge(
    "reelserve_requests_in_flight", "Predictions being received, waiting or running.", multiprocess_mode="livesum"
)
SPOOL_BYTES = Gauge("reelserve_spool_bytes", "Bytes of uploads in flight.", multiprocess_mode="livesum")
QUEUE_FRAMES = Gauge("reelserve_encode_queue_frames", "Frames that wait for the encoder.", multiprocess_mode="livesum")
BATCH_FRAMES = Histogram(
    "reelserve_encode_batch_frames", "Frames of one encoder batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
VIDEOS_OPEN = Gauge("reelserve_videos_open", "Videos that have a decode process.", multiprocess_mode="livesum")
DECODERS_ENDED = Counter(
    "reelserve_decoders_ended_total", "Decode processes by their end: done, aborted, replaced or an error's code.",
    ["how"],
)  # fmt: skip
MODELS_LOADED = Gauge("reelserve_models_loaded", "Models that answer.", multiprocess_mode="livemax")


def exposition() -> bytes:
    """All metrics in the text format, of all workers where there are several (BentoML sets the folder)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
