"""Write the generated tables of service/README.md: `python -m tests.write_operator_page`.

Settings and metrics are described where they are declared, errors in the docstring of their class. What to do about
an error, and defaults that depend on the machine, are said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from service import metrics
from service.errors import ReelserveError, RequestError
from service.jobs import errors as job_errors
from service.settings import CLIP_MEMORY_BYTES, MIB, SERVICE_MEMORY_BYTES, Settings
from service.video import errors as video_errors

PAGE = Path(__file__).resolve().parents[1] / "service" / "README.md"
# Branches of the tree are there once they are imported.
assert {video_errors.VideoError, job_errors.JobError} <= set(ReelserveError.__subclasses__())

# Defaults that are another on another machine.
DEPENDS_ON_THE_MACHINE = {
    "models_dir": "`models/zoo`",
    "spool_dir": "`reelserve-spool` in `$TMPDIR`",
    "max_clips_in_progress": f"4 a core, at most (memory − {SERVICE_MEMORY_BYTES // MIB} MiB) ÷ "
    f"{CLIP_MEMORY_BYTES // MIB} MiB",
    "max_clips_decoding": "cores",
    "feature_cache_bytes": "memory ÷ 20, at most 256 MiB",
    "max_decode_memory_bytes": "1024 MiB, at most memory ÷ 2",
    "jobs_dir": "`reelserve` in `$XDG_STATE_HOME` (`~/.local/state`)",
    "max_job_items_in_progress": "as `max_clips_in_progress`",
}

REMEDIES = {
    "internal": "a bug: the log has it under the answer's `request_id`",
    "bad_bundle": "export the bundle again",
    "engine_failed": "the log has the runtime's words; a float16 encoder may overflow",
    "bad_parameter": "the detail names the parameter and what it may be",
    "no_file": "send the file in the form's field `video`, or as the raw body",
    "empty_file": "send the whole file",
    "malformed_upload": "let an HTTP library make the form, with that one file in it",
    "unknown_model": "`/v1/models` has the names",
    "model_refused": "`/v1/models` has the reason; export the bundle again",
    "upload_timeout": "send faster, or raise the setting",
    "too_large": "send a smaller file, or raise the setting",
    "too_long": "cut it, give `end_seconds`, or raise the setting",
    "too_long_for_online": "allow more with `X-Request-Timeout`, give `end_seconds`, or send it to `/v1/jobs`",
    "too_many_pixels": "scale it down, or raise the setting",
    "too_many_frames": "cut it, or raise the setting; a model that must have a clip whole: give a `window`",
    "unsupported_media_type": "`multipart/form-data`, `video/*` or `application/octet-stream`",
    "codec_not_supported": "re-encode it; `/v1/probe` has the `ffmpeg` line",
    "bad_video": "re-encode it",
    "not_a_video": "check that it is one, and whole",
    "no_video_stream": "send one with pictures",
    "no_decodable_frame": "re-encode it, or send the whole file",
    "corrupt_video": "re-encode it; without `strict` damage is a warning",
    "size_changed": "re-encode it at one size",
    "too_short": "send a longer clip",
    "decode_timeout": "cut it or re-encode it, or raise the limit that the detail names",
    "decode_memory": "re-encode it, or raise the setting",
    "decoder_crashed": "re-encode it",
    "busy": "again after `Retry-After`, or allow more with `X-Request-Timeout`",
    "cancelled": "nothing",
    "not_ready": "wait; `/readyz` says what is missing",
    "overloaded": "again after `Retry-After`",
    "decoder_lost": "again after `Retry-After`; look for the kernel's out-of-memory killer",
    "engine_lost": "again after `Retry-After`; look at the device",
    "spool_full": "again after `Retry-After`, or raise the setting",
    "deadline_exceeded": "again later, or allow more with `X-Request-Timeout`",
    "disk_full": "free space, or set `spool_dir` to a larger disk",
    "bad_job": "the detail names what is wrong",
    "bad_input": "the detail names the input, and a manifest's line",
    "uri_not_allowed": "`job_uri_prefixes`, `job_webhook_prefixes`, or `batch --allow` name what is",
    "unknown_job": "`/v1/jobs` lists them; finished ones go after `job_retention_seconds`",
    "too_many_items": "send several jobs, or raise the setting",
    "idempotency_mismatch": "a key for each request",
    "fetch_failed": "the detail has the reason; what may pass (429, 5xx, a lost connection) was tried four times",
    "wrong_key": "give all replicas the same `secret_key`, and keep a former key behind the new one",
    "gave_up": "look for what kills replicas: the kernel's out-of-memory killer, a driver",
    "jobs_unavailable": "the detail has the reason; predictions are answered all the same",
}


def error_classes(root: type[ReelserveError] = ReelserveError) -> Iterator[type[ReelserveError]]:
    """All that may be sent, as the tree is drawn; `bad_request` is only the root of its branch."""
    if root is not RequestError:
        yield root
    for below in root.__subclasses__():
        if below.__module__.startswith("service."):
            yield from error_classes(below)


def all_metrics() -> list[MetricWrapperBase]:
    """In the order of their declaration."""
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def metric_name(metric: MetricWrapperBase) -> str:
    """As /metrics has it."""
    [family] = metric.describe()
    return f"{family.name}_total" if family.type == "counter" else family.name


def settings_table() -> list[str]:
    """A row a setting."""
    rows = [
        f"| `{name}` | {_default(name)} | {_one_line(field.description)} |"
        for name, field in Settings.model_fields.items()
    ]
    return ["| setting | default | what |", "|---|---|---|", *rows]


def errors_table() -> list[str]:
    """A row a code, by status."""
    rows = [
        f"| {error.status} | `{error.code}` | {_when(error)} | {REMEDIES[error.code]} |"
        for error in sorted(error_classes(), key=lambda error: (error.status, error.code))
    ]
    return ["| status | code | when | what to do |", "|---|---|---|---|", *rows]


def metrics_table() -> list[str]:
    """A row a metric."""
    rows = []
    for metric in all_metrics():
        [family] = metric.describe()
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{metric_name(metric)}` | {family.type} | {labels} | {_one_line(family.documentation)} |")
    return ["| metric | type | labels | what |", "|---|---|---|---|", *rows]


END = "<!-- end -->"
TABLES = {"settings": settings_table, "errors": errors_table, "metrics": metrics_table}


def written(page: str) -> str:
    """The page with each table between its markers made anew."""
    for name, table in TABLES.items():
        begin = f"<!-- {name}: written by python -m tests.write_operator_page -->\n"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(END)
        if not found or not ended:
            raise ValueError(f"{PAGE} has no place for the table of {name}: {begin}{END}")
        page = "".join([before, begin, *(f"{row}\n" for row in table()), END, after])
    return page


def _default(name: str) -> str:
    if name in DEPENDS_ON_THE_MACHINE:
        return DEPENDS_ON_THE_MACHINE[name]
    value = Settings.model_fields[name].default
    match value:
        case None:
            return "–"
        case bool():
            return f"`{str(value).lower()}`"
        case int() if name.endswith("_bytes") and value % MIB == 0:
            return f"{value // MIB} MiB"
        case float():
            return f"{value:g}"
        case int():
            return str(value)
    return f"`{value}`"


def _when(error: type[ReelserveError]) -> str:
    if error is ReelserveError:
        return "An error that nobody foresaw."
    return _one_line((error.__doc__ or "").partition("\n")[0])


def _one_line(text: str | None) -> str:
    if not text or "|" in text or "\n" in text:
        raise ValueError(f"a table can't hold {text!r}; say it in one line without a bar")
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
