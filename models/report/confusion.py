"""The confusion matrix: counted, drawn, written."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Blue of a cell that holds all of its row; the rest lets the page shine through.
_FULL = (0.10, 0.40, 0.72)
# Inches; and labels, beyond which counts and names would be too small to be read: confusion.csv has them.
_LARGEST_SIDE = 30.0
_MOST_NAMED = 60


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int) -> NDArray[np.int64]:
    """Counts (K, K): row is the label, column the prediction."""
    matrix = np.zeros((num_labels, num_labels), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def draw_confusion(matrix: NDArray[np.int64], labels: tuple[str, ...], of: str = "clips") -> Figure:
    """Shares of rows as colours, counts as numbers. of: what is counted."""
    side = min(2.5 + 0.5 * len(labels), _LARGEST_SIDE)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = np.empty((*matrix.shape, 4))
    colours[..., :3], colours[..., 3] = _FULL, shares
    axes.imshow(colours, interpolation="nearest")
    is_named = len(labels) <= _MOST_NAMED
    for (row, column), count in np.ndenumerate(matrix):
        if count and is_named:
            text = axes.text(column, row, str(count), ha="center", va="center", fontsize=8)
            if shares[row, column] > 0.5:
                text.set_color("white")
    if is_named:
        # Labels are no formulas, whatever dollars are in them.
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title(f"{matrix.sum()} {of}, {matrix.trace() / max(1, matrix.sum()):.1%} right")
    return figure


def write_confusion(
    matrix: NDArray[np.int64], labels: tuple[str, ...], folder: Path, of: str = "clips"
) -> tuple[Path, Path]:
    """Write confusion.csv and confusion.png; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "confusion.csv", folder / "confusion.png"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label \\ predicted", *labels])
        writer.writerows([label, *row] for label, row in zip(labels, matrix.tolist(), strict=True))
    draw_confusion(matrix, labels, of).savefig(picture, dpi=120)
    return table, picture
