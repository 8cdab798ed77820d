"""Charts as SVG that stands in a page: its colours are the page's own, light or dark."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.calibration import Reliability

# No chart has this colour otherwise; in the page it becomes that of the text around.
_INK = "#010203"
_STYLE: Any = {
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "font.size": 9, "lines.linewidth": 1.8,
    # Letters stay letters, and the same chart has the same names inside.
    "svg.fonttype": "none", "svg.hashsalt": "reelserve",
}  # fmt: skip
_BLUE, _ORANGE = "#4a90d9", "#e0803a"
_SIZE = (4.0, 2.6)
_NAMELESS: dict[str, Any] = {"Creator": None, "Date": None, "Format": None, "Type": None}


def as_svg(draw: Callable[[], Figure]) -> Markup:
    """The `<svg>` of what is drawn, in our style; letters in it are escaped by Matplotlib."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The page is shown with the fonts of its reader, who may have the letters that are missing here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        text = io.StringIO()
        draw().savefig(text, format="svg", metadata=_NAMELESS)
    found = text.getvalue()
    return Markup(found[found.index("<svg") :].replace(_INK, "currentColor"))  # noqa: S704  (Matplotlib escapes)


def curves(curve: Sequence[Mapping[str, float]], best_epoch: int | None, measure: str) -> list[Markup]:
    """Loss, figure, rate and norm of gradients by epoch, those that were noted; the best epoch is a dotted line."""
    of_charts = {
        "loss": {"train_loss": "train", "validation_loss": "validation"},
        f"{measure}, validation": {"validation_figure": "", "validation_accuracy": ""},
        "learning rate": {"learning_rate": ""},
        "norm of gradients": {"gradient_norm": ""},
    }
    charts = []
    for title, lines in of_charts.items():
        noted = {key: name for key, name in lines.items() if any(key in line for line in curve)}
        if noted:
            charts.append(as_svg(lambda title=title, noted=noted: _curve(title, noted, curve, best_epoch)))  # type: ignore[misc]
    return charts


def reliability_chart(found: Reliability, counted: str) -> Markup:
    """The share that is right against the score, by bins; below it how many of what is `counted` are in each."""

    def draw() -> Figure:
        figure = Figure(figsize=(4.0, 3.8), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        held = found.counts > 0
        edges = np.linspace(0, 1, len(found.counts) + 1)
        width = edges[1] - edges[0]
        share = found.right[held] / found.counts[held]
        top.bar(edges[:-1][held], share, width, align="edge", color=_BLUE, edgecolor=_INK, linewidth=0.5)
        top.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1.2)
        top.plot(
            found.claimed[held] / found.counts[held], share, "o", color=_ORANGE, markersize=4, clip_on=False, zorder=3
        )
        top.set(ylabel="share that is right", ylim=(0, 1), xlim=(0, 1))
        top.set_title(f"calibration error {found.error:.1%}")
        bottom.bar(edges[:-1], found.counts, width, align="edge", color=_BLUE, edgecolor=_INK, linewidth=0.5)
        bottom.set(xlabel="score", ylabel=counted)
        return figure

    return as_svg(draw)


def _curve(
    title: str, lines: Mapping[str, str], curve: Sequence[Mapping[str, float]], best_epoch: int | None
) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes: Axes = figure.subplots()
    epochs = [line["epoch"] for line in curve]
    marker = "o" if len(epochs) == 1 else ""
    for key, name in lines.items():
        colour = _ORANGE if key.startswith("validation") else _BLUE
        axes.plot(epochs, [line.get(key, np.nan) for line in curve], marker=marker, color=colour, label=name)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=_INK, linestyle=":", linewidth=1.2)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(lines) > 1:
        axes.legend()
    return figure
