"""Confusion matrix: counted, drawn, written."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

from matplotlib import pyplot as plt


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_labels: int) -> NDArray[np.int64]:
    """Counts (K, K): row is the label, column the prediction."""
    matrix = np.zeros((num_labels, num_labels), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def write_confusion(matrix: NDArray[np.int64], labels: tuple[str, ...], folder: Path) -> tuple[Path, Path]:
    """Write confusion.csv and confusion.png; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "confusion.csv", folder / "confusion.png"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label \\ predicted", *labels])
        writer.writerows([label, *row] for label, row in zip(labels, matrix.tolist(), strict=True))
    side = 2.5 + 0.5 * len(labels)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    accuracy = matrix.trace() / max(1, matrix.sum())
    axes.set_title(f"{matrix.sum()} clips, {accuracy:.1%} right")
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return table, picture
