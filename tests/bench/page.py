"""`tests/bench/results/README.md`: what the committed runs found, written from their JSON.

Run: `python -m tests.bench page`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from tests.bench import batch, extraction, film, jobs, latency, mixes, overlap, overload, shots, soak, sweep, throughput
from tests.bench.report import RESULTS

_WIDTH = 160
# Of each benchmark, its first sentence aside: the type of its results, and how they are shown.
_SHOWN: Mapping[str, tuple[Any, Any, Callable[[Any, Console], None]]] = {
    "throughput": (throughput, throughput.Results, throughput.show),
    "latency": (latency, latency.Results, latency.show),
    "overload": (overload, tuple[overload.Overload, ...], lambda found, console: _texts(console, *found)),
    "film": (film, film.FilmResult, lambda found, console: _texts(console, found)),
    "overlap": (overlap, overlap.Overlap, lambda found, console: _texts(console, found)),
    "mixes": (mixes, mixes.Mixes, lambda found, console: _texts(console, found)),
    "soak": (soak, soak.Soak, lambda found, console: _texts(console, found)),
    "batch": (batch, batch.Batch, lambda found, console: _texts(console, found)),
    "jobs": (jobs, jobs.Jobs, lambda found, console: _texts(console, found)),
    "shots": (shots, shots.Shots, shots.show),
    "extraction": (extraction, extraction.Extraction, lambda found, console: _texts(console, found)),
    "sweep": (sweep, sweep.Sweep, lambda found, console: _texts(console, found)),
}


def _texts(console: Console, *found: object) -> None:
    """Each as it prints itself; rich would show its fields."""
    console.print(*map(str, found), sep="\n")


def page(folder: Path = RESULTS) -> str:
    """Markdown of all results in the folder, in the order of `_SHOWN`. ValueError for a file that is of none."""
    found = {path.stem: path for path in folder.glob("*.json")}
    lines = ["# What the benchmarks found", "", "Written by `python -m tests.bench page` from the JSON beside it."]
    for name, (module, kind, show) in _SHOWN.items():
        for stem in sorted(stem for stem in found if stem.partition("-")[0] == name):
            report = json.loads(found.pop(stem).read_text(encoding="utf-8"))
            console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, markup=False)
            show(TypeAdapter(kind).validate_python(report["results"]), console)
            lines += _section(stem, module.__doc__ or "", report, console.file.getvalue())  # type: ignore[attr-defined]
            if (folder / f"{stem}.png").exists():
                lines += ["", f"![{stem}]({stem}.png)"]
    if found:
        raise ValueError(f"{', '.join(map(str, found.values()))}: no benchmark here writes such a file")
    return "\n".join(lines) + "\n"


def _section(stem: str, doc: str, report: Mapping[str, Any], shown: str) -> list[str]:
    machine = report["machine"]
    memory = machine["memory_bytes"] / 2**30
    devices = ", ".join(machine["devices"]) or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        "", f"## {stem}", "",
        " ".join(doc.partition("\n\n")[0].split()), "",
        f"`{report['command']}`, commit {report['commit']}, ended {report['ended']}; {machine['processor']}, "
        f"{machine['cores']} cores, {memory:.0f} GiB, {devices}; {versions}.", "",
        "```text", *(line.rstrip() for line in shown.rstrip().splitlines()), "```",
    ]  # fmt: skip


def main() -> None:
    """Write the page."""
    path = RESULTS / "README.md"
    path.write_text(page(), encoding="utf-8")
    print(f"written: {path}")
