"""One page about a checkpoint: how it was trained, how good it is and where it is wrong, in one file of HTML."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.console import Console

from models.calibration import Reliability, reliability
from models.report.charts import as_svg, curves, reliability_chart
from models.report.confusion import confusion, draw_confusion
from models.report.figures import figures_of, per_label
from models.report.mistakes import Mistake, worst_mistakes
from models.report.screen import cell_name, say
from models.report.tested import Asked, Tested, load_tested

# What a checkpoint says of its training in a word or two, in this order.
_FACTS = (
    "data", "data_licence", "split", "validation", "early_stopping", "encoder", "seed", "device", "torch", "created",
    "commit",
)  # fmt: skip
# From one label's colour to the next: however many there are, neighbours are far apart.
_GOLDEN_DEGREES = 137.508


def write_page(asked: Asked, out: Path, console: Console, shortest_seconds: float = 0.0) -> None:
    """Write the page, aside and then renamed. No other file and no network is needed to read it.

    Names of files and labels are data, and are escaped. shortest_seconds: of the runs that become words and predicted
    timelines. Raises CheckpointError, DatasetError, FeatureError, EvaluationError.
    """
    tested = load_tested(asked, console)
    text = _render(_content(tested, shortest_seconds))
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f"{out.name}.{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # a name may be of bytes that are no UTF-8
    aside.replace(out)
    say(console, f"wrote {out}")


def _render(content: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(content)


def _content(tested: Tested, shortest_seconds: float) -> dict[str, Any]:
    held, task, labels = tested.held, tested.targets.task, tested.targets.labels
    training, dims = held.training, held.head_dims
    counted = "ticks" if task.every_tick else "clips"
    matrix = None
    if task.score == "softmax":
        matrix = confusion(tested.truths, tested.scores.argmax(axis=1), len(labels))
    calibrated = _reliability(tested)
    mistakes = worst_mistakes(tested, shortest_seconds)
    return {
        "name": held.name,
        "task": task.title,
        "network": f"{held.encoder_name}, {cell_name(dims.cell, bidirectional=dims.bidirectional)}",
        "of": tested.of,
        "groups": len(set(tested.groups)),
        "figures": figures_of(tested, tested.scores, shortest_seconds),
        "curves": curves(training.get("curve", ()), training.get("epochs"), training.get("measure", "accuracy")),
        "early_stopping": training.get("early_stopping", ""),
        "confusion": None if matrix is None else as_svg(lambda: draw_confusion(matrix, labels, counted)),
        "num_labels": len(labels),
        "per_label": per_label(tested),
        "calibration": _calibration(calibrated, tested),
        "mistakes": mistakes,
        "hues": _hues(tested, mistakes),
        "data": _data(tested),
        "left_out": [*training.get("left_out", ()), *_new_losses(tested)],
        "facts": [(name.replace("_", " "), training[name]) for name in _FACTS if training.get(name) not in (None, "")],
        "recipe": list(_flat(training.get("recipe", {}))),
    }


def _reliability(tested: Tested) -> Reliability | None:
    """Of the best score, or of every score where labels stand for themselves; numbers claim nothing."""
    task, scores, truths = tested.targets.task, tested.scores, tested.truths
    if task.score == "softmax":
        return reliability(scores.max(axis=1), scores.argmax(axis=1) == truths)
    return reliability(scores.ravel(), truths.ravel() > 0) if task.score == "sigmoid" else None


def _calibration(found: Reliability | None, tested: Tested) -> Markup | None:
    if found is None:
        return None
    task = tested.targets.task
    return reliability_chart(found, "ticks" if task.every_tick else "clips" if task.score == "softmax" else "scores")


def _hues(tested: Tested, mistakes: list[Mistake]) -> dict[str, int | None]:
    """Degrees around the circle of colours for the labels that timelines show; the background has none."""
    shown = {span.label for each in mistakes for spans in each.tracks.values() for span in spans}
    labels = [label for label in tested.targets.labels if label in shown]
    return {
        label: None if label == tested.targets.background else round(rank * _GOLDEN_DEGREES) % 360
        for rank, label in enumerate(labels)
    }


def _data(tested: Tested) -> list[tuple[str, int]]:
    """Clips by part: those of training, as the checkpoint remembers them, and those of this page."""
    parts = tested.held.training.get("clips", {})
    return [*((f"{name}, when it was trained", count) for name, count in parts.items()), ("here", len(tested.clips))]


def _new_losses(tested: Tested) -> list[dict[str, str]]:
    known = [row.get("path") for row in tested.held.training.get("left_out", ())]
    return [row for row in tested.loaded.left_out_rows() if row["path"] not in known]


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value
