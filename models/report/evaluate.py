"""A checkpoint on clips: the figures of its task beside baselines, a row a label, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.report.baselines import shuffled_frames, without_recurrence
from models.report.confusion import confusion, write_confusion
from models.report.figures import Figure, LabelTable, column_of, figures_of, per_label, per_value
from models.report.screen import cell_name, say
from models.report.tested import Asked, load_tested
from models.served import PERMUTATIONS
from service.names import visible


def evaluate(asked: Asked, out: Path, console: Console, shortest_seconds: float = 0.0, by: str = "") -> None:
    """Print the figures on the test part; of a task with one label at a time write the confusion matrix into `out`.

    shortest_seconds: of the runs that become words, where ticks have labels. by: a column of the manifest, for each
    value of which the accuracy is told, where clips have one label. Raises CheckpointError, DatasetError,
    FeatureError, EvaluationError.
    """
    values = column_of(asked.data, by) if by else {}
    tested = load_tested(asked, console)
    dims, task = tested.held.head_dims, tested.targets.task
    name = cell_name(dims.cell, bidirectional=dims.bidirectional)
    rows = [(name, figure) for figure in figures_of(tested, tested.scores, shortest_seconds)]
    if task.name == "label":
        rows.append((f"the same {name}, frames shuffled", shuffled_frames(tested)))
    baselines, why_none = without_recurrence(tested, shortest_seconds)
    rows += baselines
    console.print(_figures(f"{tested.held.name}, {tested.of}", rows))
    say(console, f"intervals: resampled by group, of which there are {len(set(tested.groups))}")
    if task.name == "label":
        say(console, f"frames shuffled: a mean over {PERMUTATIONS} orders")
    if why_none:
        say(console, f"no baseline without recurrence: {why_none}")
    console.print(_labels(per_label(tested)))
    if by:
        console.print(_labels(per_value(tested, by, values)))
    if task.score == "softmax":
        labels = tested.targets.labels
        matrix = confusion(tested.truths, tested.scores.argmax(axis=1), len(labels))
        for path in write_confusion(matrix, labels, out, "ticks" if task.every_tick else "clips"):
            say(console, f"wrote {path}")


def _figures(title: str, rows: Iterable[tuple[str, Figure]]) -> Table:
    table = Table("method", "measure", "", "95 % interval", "of", title=Text(visible(title)), title_justify="left")
    for method, figure in rows:
        table.add_row(method, figure.name, figure.value, figure.ends, figure.of)
    return table


def _labels(found: LabelTable) -> Table:
    table = Table(*found.columns)
    for row in found.rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
