"""Intervals by group: of an effect, of ratios by hand, and of figures that are no ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models import intervals
from models.intervals import Interval, ratio_interval, resampled_interval


@pytest.mark.parametrize(("effect", "zero_inside"), [(0.0, True), (0.3, False)])
def test_the_interval_finds_an_effect_and_no_effect(effect: float, zero_inside: bool) -> None:
    groups = [str(i // 5) for i in range(500)]
    noise = np.repeat(np.random.default_rng(2).normal(0, 0.2, 100), 5)
    found = ratio_interval(effect + noise - noise.mean(), np.ones(500), groups, resamples=2000)
    assert found.value == pytest.approx(effect, abs=1e-9)
    assert (found.low < 0 < found.high) is zero_inside


def test_groups_are_drawn_and_not_clips() -> None:
    """Two groups, one all right, the other all wrong: a resample has one of them twice, or both."""
    right, groups = np.array([1.0] * 50 + [0.0] * 50), ["a"] * 50 + ["b"] * 50
    assert ratio_interval(right, np.ones(100), groups) == Interval(0.5, 0.0, 1.0)
    one = ratio_interval(right, np.ones(100), ["a"] * 100)
    assert one == Interval(0.5, 0.5, 0.5)


def test_a_ratio_of_nothing_is_0() -> None:
    assert ratio_interval(np.array([1, 2]), np.array([0, 0]), ["a", "b"]) == Interval(0.0, 0.0, 0.0)
    assert ratio_interval(np.array([1, 0]), np.array([2, 0]), ["a", "b"]) == Interval(0.5, 0.5, 0.5)


def test_resamples_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    numerators, denominators, groups = random.random(31), random.random(31), [str(i) for i in range(31)]
    whole = ratio_interval(numerators, denominators, groups)
    monkeypatch.setattr(intervals, "_MOST_PICKS", 7 * 31)
    assert ratio_interval(numerators, denominators, groups) == whole


def test_any_figure_has_the_interval_that_its_ratio_has() -> None:
    random = np.random.default_rng(0)
    values, groups = random.normal(1, 1, 60), [str(i // 3) for i in range(60)]
    wanted = ratio_interval(values, np.ones(60), groups)
    found = resampled_interval(lambda drawn: float(values[drawn].mean()), groups, resamples=2000)
    assert found.value == wanted.value
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.03)


def test_resamples_without_a_figure_are_passed_over() -> None:
    def where_a(drawn: NDArray[np.int64]) -> float:
        return 1.0 if 0 in drawn else math.nan

    assert resampled_interval(where_a, ["a", "b"]) == Interval(1.0, 1.0, 1.0)
    assert math.isnan(resampled_interval(lambda drawn: math.nan, ["a", "b"]).low)
