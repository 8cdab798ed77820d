"""Prometheus: every metric of ours is declared here."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, generate_latest, values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# BentoML asks for metrics in mapped files that workers share. Ours is one worker and needs none: they took 7 % of the
# time for which the interpreter's lock was held.
values.ValueClass = values.MutexValue
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("reelserve_requests_total", "Requests by route and HTTP status.", ["route", "status"])
ERRORS = Counter("reelserve_errors_total", "Requests that ended in an error, by its code.", ["code"])
STAGE_SECONDS = Histogram(
    "reelserve_stage_seconds", "Busy time of one request in a stage (see timing_ms).", ["stage"], buckets=_SECONDS
)
IN_FLIGHT = Gauge("reelserve_requests_in_flight", "Predictions being received, waiting or running.")
SPOOL_BYTES = Gauge("reelserve_spool_bytes", "Bytes of uploads in flight.")
REJECTIONS = Counter("reelserve_rejections_total", "Requests that admission or their deadline turned away.", ["code"])
SHARED_MEMORY_BYTES = Gauge("reelserve_shared_memory_bytes", "Segments in which decoded frames travel.")

QUEUE_FRAMES = Gauge("reelserve_encode_queue_frames", "Frames that wait for the encoder.", ["priority"])
BATCH_FRAMES = Histogram(
    "reelserve_encode_batch_frames", "Frames of one encoder batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
PADDED_FRAMES = Counter("reelserve_encode_padded_frames_total", "Rows of encoder batches that held no frame.")
BATCHES_RETRIED = Counter("reelserve_encode_batches_retried_total", "Batches that failed and were run again in parts.")
ENGINE_IDLE_SECONDS = Counter(
    "reelserve_engine_idle_seconds_total", "Encoder threads waited while a clip was open: decoding is behind."
)
DECODE_BLOCKED_SECONDS = Counter(
    "reelserve_decode_blocked_seconds_total", "Decoding waited for frames to be encoded: the engine is behind."
)
HEAD_BATCH_WINDOWS = Histogram(
    "reelserve_head_batch_windows", "Windows of one head batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
HEAD_BATCHES_RETRIED = Counter(
    "reelserve_head_batches_retried_total", "Head batches that failed and were run again, each clip alone."
)
HEAD_PADDED_TICKS = Counter("reelserve_head_padded_ticks_total", "Ticks of head batches beyond their windows' ends.")
BACKLOG_SECONDS = Gauge(
    "reelserve_backlog_seconds", "Forecast of the work admitted and not done, seconds of this machine.",
)  # fmt: skip
DRAIN_RATE = Gauge(
    "reelserve_drain_rate", "Forecast seconds of work done in a second of busy time; 1 is as forecast.",
)  # fmt: skip

CACHE_LOOKUPS = Counter("reelserve_feature_cache_lookups_total", "Look-ups by outcome: hit or miss.", ["outcome"])
CACHE_EVICTIONS = Counter("reelserve_feature_cache_evictions_total", "Clips that made room for newer ones.")
CACHE_BYTES = Gauge("reelserve_feature_cache_bytes", "Features kept for another model or window.")
SHADOW_CHECKS = Counter("reelserve_shadow_checks_total", "Answers that were computed once more, alone.")
SHADOW_DIFFERENCE = Gauge(
    "reelserve_shadow_difference_max", "Largest difference so far of an answer from itself computed alone, by part.",
    ["part"],
)  # fmt: skip

VIDEOS_OPEN = Gauge("reelserve_videos_open", "Videos that have a decode process.")
DECODERS_ENDED = Counter(
    "reelserve_decoders_ended_total", "Decode processes by their end: done, aborted, replaced or an error's code.",
    ["how"],
)  # fmt: skip
MODELS_LOADED = Gauge("reelserve_models_loaded", "Models that answer.")
MODEL_MEMORY_BYTES = Gauge(
    "reelserve_model_memory_bytes", "Memory of a loaded model's head, as loading it measured; its encoder is apart.",
    ["model"],
)  # fmt: skip
ENCODER_MEMORY_BYTES = Gauge(
    "reelserve_encoder_memory_bytes", "Memory of a loaded encoder, as loading it measured, for all models on it.",
    ["encoder", "runtime"],
)  # fmt: skip
MEMORY_LIMIT_BYTES = Gauge(
    "reelserve_memory_limit_bytes", "What models are held against: memory_limit_bytes, the cgroup's or the machine's.",
)  # fmt: skip
MEMORY_USED_BYTES = Gauge("reelserve_memory_used_bytes", "What counts against that limit now.")

JOB_ITEMS = Counter("reelserve_job_items_total", "Items of jobs that this replica recorded: ok or error.", ["status"])
JOB_ITEMS_RUNNING = Gauge("reelserve_job_items_running", "Items of jobs that this replica has in hand.")
JOB_WEBHOOKS = Counter("reelserve_job_webhooks_total", "Webhooks by outcome: delivered, failed, given_up.", ["outcome"])


def exposition() -> bytes:
    """All metrics in the text format, with those of the process."""
    return generate_latest()
