"""Figures of each task against figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.segments import Segment
from models.intervals import Interval
from models.report.figures import figures_of, per_label, r_squared
from models.report.word_errors import served_runs, word_errors
from service.video.ticks import TickTimes
from tests.models.report.made import TICKS, made


def test_one_label_a_clip() -> None:
    tested = made(
        "label", ("a", "b", "c"), ("a", "a", "b", "b"), [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0, 1, 0]],
        groups=("1", "1", "2", "2"),
    )  # fmt: skip
    [accuracy] = figures_of(tested, tested.scores)
    assert (accuracy.name, accuracy.of) == ("accuracy", "3 of 4 clips")
    assert accuracy.interval == Interval(0.75, 0.5, 1.0), "group 1 twice is half right, group 2 all right"
    assert (accuracy.value, accuracy.ends) == ("75.0%", "50.0% to 100.0%")
    assert per_label(tested).rows == [
        ("a", "2", "100.0%", "50.0%", "66.7%"),
        ("b", "2", "66.7%", "100.0%", "80.0%"),
        ("c", "0", "–", "–", "–"),
    ]


def test_several_labels_a_clip() -> None:
    """Hits of `a` at ranks 1 and 3; `b` right at once; `c` has no clip."""
    tested = made(
        "labels", ("a", "b", "c"), ("a", "b", "a|b"), [[0.9, 0.1, 0.6], [0.8, 0.7, 0.1], [0.4, 0.6, 0.1]],
        groups=("1", "1", "1"),
    )  # fmt: skip
    [precision] = figures_of(tested, tested.scores)
    wanted = ((1 + 2 / 3) / 2 + 1) / 2
    assert precision.name == "mean average precision"
    assert precision.interval.value == precision.interval.low == pytest.approx(wanted)
    assert per_label(tested).rows == [
        ("a", "2", "83.3%", "50.0%", "50.0%", "50.0%"),
        ("b", "2", "100.0%", "100.0%", "100.0%", "100.0%"),
        ("c", "0", "–", "0.0%", "–", "0.0%"),
    ]


def test_numbers_of_a_clip() -> None:
    tested = made("value", ("speed", "still"), ("1|5", "2|5", "3|5"), [[1, 5], [2, 5], [2, 6]])
    error, squared = figures_of(tested, tested.scores)
    assert (error.name, squared.name) == ("mean absolute error", "R²")
    assert error.interval.value == pytest.approx((0 + 0 + 1) / 3)
    assert error.interval.low == 0
    assert squared.interval.value == pytest.approx(0.5), "of speed: 1 wrong, squared, of a spread of 2"
    assert per_label(tested).rows == [("speed", "0.3333", "0.5"), ("still", "0.3333", "–")]
    assert np.isnan(r_squared(np.ones((2, 1)), np.ones((2, 1)))).all()


def ticks(*labels: int) -> list[list[float]]:
    return [[float(label == each) for label in range(3)] for each in labels]


def test_a_label_a_tick() -> None:
    """The first clip says a, b where a, a are true; the second says nothing."""
    segments = [[Segment(0.5, 1.0, "a"), Segment(1.5, 2.0, "a")], [Segment(0, 1, "b")]]
    scores = [*ticks(0, 0, 1, 1, 0, 0, 2, 2), *ticks(*[0] * TICKS)]
    tested = made("tick_label", ("none", "a", "b"), ("", ""), scores, segments=segments)
    everything, inside, words = figures_of(tested, tested.scores)
    assert (everything.interval.value, everything.of) == (10 / 16, "16 ticks")
    assert (inside.interval.value, inside.of) == (2 / 8, "8 ticks")
    assert (words.interval.value, words.of) == (2 / 3, "3 words")
    assert (words.interval.low, words.interval.high) == (1 / 2, 1.0), "of the clips alone"
    assert per_label(tested).rows[1] == ("a", "4", "100.0%", "50.0%", "66.7%")


@pytest.mark.parametrize("every_frame", [False, True])
def test_short_runs_are_no_words(every_frame: bool) -> None:
    segments = [[Segment(0.5, 1.0, "a")]]
    scores = ticks(0, 0, 1, 1, 0, 2, 0, 0)
    tested = made("tick_label", ("none", "a", "b"), ("",), scores, segments=segments, every_frame=every_frame)
    rates = {s: figures_of(tested, tested.scores, s)[2].interval.value for s in (0.0, 0.25, 0.5)}
    assert rates == {0.0: 1.0, 0.25: 1.0, 0.5: 0.0}


def test_without_a_word_there_is_no_rate() -> None:
    tested = made("tick_label", ("none", "a", "b"), ("",), ticks(*[0] * TICKS))
    assert [figure.name for figure in figures_of(tested, tested.scores)] == [
        "accuracy of ticks", "accuracy of ticks in segments",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "said", "errors"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("abcd", "bcda", 2), ("flaw", "lawn", 2)],
)
def test_word_errors_are_levenshteins(reference: str, said: str, errors: int) -> None:
    assert word_errors([*reference], [*said]) == word_errors([*said], [*reference]) == errors


def test_runs_are_those_of_the_service() -> None:
    """The shortest go first, of equal ones the earliest, to the better neighbour, of equal ones the earlier."""
    times = TickTimes(4.0, 0.0, 2.0, np.arange(TICKS) / 4)
    scores = np.array(ticks(0, 0, 1, 1, 0, 2, 0, 0), np.float32)
    assert [(run.start, run.stop, run.label_index) for run in served_runs(scores, times, 0.5)] == [
        (0, 2, 0), (2, 6, 1), (6, 8, 0),
    ]  # fmt: skip
    assert len(served_runs(scores, times)) == 5
