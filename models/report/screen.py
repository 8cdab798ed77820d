"""What training says at its end: accuracies with their intervals, and how it went."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.cells import named
from service.intervals import wilson
from service.names import visible


@dataclass(frozen=True)
class Scored:
    """So many clips of a part are right; a mean over random orders of frames needn't be whole."""

    part: str
    right: float
    clips: int

    @property
    def accuracy(self) -> float:
        """Share of right clips."""
        return self.right / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson 1927), as if clips were independent: those of one group are alike."""
        return wilson(self.accuracy, self.clips)


def cell_name(cell: str, *, bidirectional: bool = False) -> str:
    """For people, in the middle of a sentence."""
    title = named(cell).title
    return f"bidirectional {title}" if bidirectional else title


def accuracies(title: str, column: str, scored: Sequence[Scored]) -> Table:
    """A row a part: accuracy, its interval, right clips of all."""
    table = Table(column, "accuracy", "95 % interval", "clips right", title=Text(visible(title)), title_justify="left")
    for row in scored:
        low, high = row.interval
        right = f"{row.right:.0f}" if row.right == round(row.right) else f"{row.right:.1f}"
        table.add_row(row.part, f"{row.accuracy:.1%}", f"{low:.1%} to {high:.1%}", f"{right} of {row.clips}")
    return table


def figures(title: str, measure: str, rows: Sequence[tuple[str, float, int]]) -> Table:
    """A row a part: its figure, and clips that it is of."""
    table = Table("part", measure, "clips", title=Text(visible(title)), title_justify="left")
    for part, value, clips in rows:
        table.add_row(part, f"{value:.4f}", str(clips))
    return table


def write_json(path: Path, content: object, console: Console) -> None:
    """Written aside, then renamed, and said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
    say(console, f"wrote {path}")


def say(console: Console, text: str, style: str = "") -> None:
    """One line, whatever names are in it."""
    console.print(Text(visible(text), style), soft_wrap=True)
