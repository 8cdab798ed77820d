from __future__ import annotations

import pytest
from rich.console import Console

from models.report.screen import Scored, accuracies, cell_name


@pytest.mark.parametrize(
    ("right", "clips", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_the_interval_is_wilsons(right: int, clips: int, low: float, high: float) -> None:
    found = Scored("test", right, clips).interval
    assert found == pytest.approx((low, high), abs=5e-5)
    assert found[0] >= 0
    assert found[1] <= 1


def test_a_table_has_clips_and_fits_into_80_columns() -> None:
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(
            accuracies(
                "actions-gru, 395 test clips",
                "method",
                [Scored("GRU", 365, 395), Scored("the same bidirectional peephole LSTM, frames shuffled", 340.4, 395)],
            )
        )
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "92.4%" in captured.get()
    assert "365 of 395" in captured.get()
    assert "340.4 of" in captured.get()


def test_every_cell_has_a_name() -> None:
    assert cell_name("gru") == "GRU"
    assert cell_name("peephole-lstm", bidirectional=True) == "bidirectional peephole LSTM"
