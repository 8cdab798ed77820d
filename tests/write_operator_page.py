"""Write the generated tables of service/README.md: `python -m tests.write_operator_page`.

Settings, errors and metrics are described where they are declared; defaults that depend on the machine, here.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from service import metrics
from service.api.error_page import error_classes
from service.settings import CLIP_MEMORY_BYTES, MIB, SERVICE_MEMORY_BYTES, Settings

PAGE = Path(__file__).resolve().parents[1] / "service" / "README.md"

# Defaults that are another on another machine.
DEPENDS_ON_THE_MACHINE = {
    "models_dir": "`models/zoo`",
    "spool_dir": "`reelserve-spool` in `$TMPDIR`",
    "max_clips_in_progress": f"4 a core, at most (memory − {SERVICE_MEMORY_BYTES // MIB} MiB) ÷ "
    f"{CLIP_MEMORY_BYTES // MIB} MiB; one less for more than one of `models`",
    "max_clips_decoding": "cores",
    "feature_cache_bytes": "memory ÷ 20, at most 256 MiB",
    "max_decode_memory_bytes": "1024 MiB, at most memory ÷ 2",
    "jobs_dir": "`reelserve` in `$XDG_STATE_HOME` (`~/.local/state`)",
    "max_job_items_in_progress": "as `max_clips_in_progress`",
}


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
        f"| {error.status} | `{error.code}` | {_one_line(error.when())} | {_one_line(error.remedy)} |"
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


def _one_line(text: str | None) -> str:
    if not text or "|" in text or "\n" in text:
        raise ValueError(f"a table can't hold {text!r}; say it in one line without a bar")
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
