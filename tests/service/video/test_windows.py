from __future__ import annotations

from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.video.spec import ClipSpec
from service.video.windows import Labels, Run, Scores, Window, absorb, cover, runs, smooth, timeline

NUM_TICKS = st.integers(1, 200)


def spec(window: int | None, stride: int | None) -> ClipSpec:
    return ClipSpec(sample_fps=8, frame_height=64, frame_width=64, window_frames=window, stride_frames=stride)


@st.composite
def windowed(draw: st.DrawFn) -> ClipSpec:
    window = draw(st.integers(1, 40))
    return spec(window, draw(st.integers(1, window)))


def some_scores(rows: int, seed: int) -> NDArray[np.float32]:
    """Few distinct values, so that arg-max meets ties and runs meet neighbours with one label."""
    return np.random.default_rng(seed).integers(0, 4, (rows, 3)).astype(np.float32)


def stride_of(clip: ClipSpec) -> int:
    assert clip.stride_frames is not None
    return clip.stride_frames


@given(NUM_TICKS, windowed())
def test_windows_cover_every_tick_and_no_more(num_ticks: int, clip: ClipSpec) -> None:
    windows = cover(num_ticks, clip)
    assert {tick for w in windows for tick in range(w.start, w.stop)} == set(range(num_ticks))


@given(NUM_TICKS, windowed())
def test_windows_stand_a_stride_apart_and_the_last_is_anchored_at_the_end(num_ticks: int, clip: ClipSpec) -> None:
    windows, stride = cover(num_ticks, clip), stride_of(clip)
    assert {w.length for w in windows} == {min(num_ticks, clip.window_frames or num_ticks)}
    assert [w.start for w in windows[:-1]] == [i * stride for i in range(len(windows) - 1)]
    assert windows[-1].stop == num_ticks
    assert all(0 < after.start - before.start <= stride for before, after in pairwise(windows))


@given(NUM_TICKS)
def test_without_windows_the_clip_is_one(num_ticks: int) -> None:
    assert cover(num_ticks, spec(None, None)) == [Window(0, num_ticks)]


@pytest.mark.parametrize(
    ("num_ticks", "window", "stride", "starts"),
    [
        (5, 16, 4, [0]),
        (16, 16, 4, [0]),
        (17, 16, 4, [0, 1]),
        (20, 16, 4, [0, 4]),
        (32, 16, 16, [0, 16]),
        (33, 16, 16, [0, 16, 17]),
        (3, 1, 1, [0, 1, 2]),
    ],
)
def test_examples_of_windows(num_ticks: int, window: int, stride: int, starts: list[int]) -> None:
    assert [w.start for w in cover(num_ticks, spec(window, stride))] == starts


@pytest.mark.parametrize("num_ticks", [0, -3])
def test_a_clip_has_a_tick(num_ticks: int) -> None:
    with pytest.raises(ValueError, match=f"num_ticks is {num_ticks}; a clip has at least 1"):
        cover(num_ticks, spec(16, 4))


@given(NUM_TICKS, windowed(), st.integers(0, 2**32 - 1))
def test_timeline_is_the_mean_of_the_windows_that_hold_the_cell(num_ticks: int, clip: ClipSpec, seed: int) -> None:
    windows, stride = cover(num_ticks, clip), stride_of(clip)
    scores = some_scores(len(windows), seed)
    cells, table = timeline(num_ticks, windows, scores, stride)
    assert table.shape == (len(cells), 3)
    assert table.dtype == np.float64
    for cell, row in zip(cells, table, strict=True):
        ticks = set(range(cell.start, cell.stop))
        holding = [i for i, w in enumerate(windows) if ticks <= set(range(w.start, w.stop))]
        assert holding, f"no window of {windows} holds {cell}"
        expected = [fmean(float(scores[i, k]) for i in holding) for k in range(3)]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@given(NUM_TICKS, windowed())
def test_cells_partition_the_ticks_in_strides(num_ticks: int, clip: ClipSpec) -> None:
    windows, stride = cover(num_ticks, clip), stride_of(clip)
    cells, _ = timeline(num_ticks, windows, some_scores(len(windows), 0), stride)
    assert [tick for cell in cells for tick in range(cell.start, cell.stop)] == list(range(num_ticks))
    assert all(cell.length == stride for cell in cells[:-1])
    assert 1 <= cells[-1].length <= stride


def test_timeline_of_a_whole_clip_repeats_its_one_score() -> None:
    cells, table = timeline(5, [Window(0, 5)], np.array([[0.25, 0.75]], np.float32), 2)
    assert cells == [Window(0, 2), Window(2, 2), Window(4, 1)]
    assert table.tolist() == [[0.25, 0.75]] * 3


@given(NUM_TICKS, windowed(), st.integers(0, 2**32 - 1))
def test_runs_partition_the_timeline_and_neighbours_differ(num_ticks: int, clip: ClipSpec, seed: int) -> None:
    windows, stride = cover(num_ticks, clip), stride_of(clip)
    cells, table = timeline(num_ticks, windows, some_scores(len(windows), seed), stride)
    found = runs(cells, table)
    assert (found[0].start, found[-1].stop) == (0, num_ticks)
    assert all(a.stop == b.start and a.label_index != b.label_index for a, b in pairwise(found))
    for run in found:
        inside = [row for cell, row in zip(cells, table, strict=True) if run.start <= cell.start < run.stop]
        assert {int(row.argmax()) for row in inside} == {run.label_index}
        assert run.score == pytest.approx(fmean(float(row[run.label_index]) for row in inside), rel=1e-12)


def test_an_example_of_runs() -> None:
    cells = [Window(0, 4), Window(4, 4), Window(8, 4), Window(12, 1)]
    scores = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0]])
    assert runs(cells, scores) == [Run(0, 8, 0, 0.625), Run(8, 12, 1, 0.75), Run(12, 13, 0, 1.0)]


def test_runs_of_given_labels_are_scored_by_them() -> None:
    cells = [Window(0, 4), Window(4, 4), Window(8, 1)]
    scores = np.array([[0.5, 0.5], [0.75, 0.25], [0.0, 1.0]])
    assert runs(cells, scores, np.array([1, 1, 0])) == [Run(0, 8, 1, 0.375), Run(8, 9, 0, 0.0)]


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_smoothing_is_the_mean_of_the_cells_within_reach(num_cells: int, reach: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(num_cells, 3))
    expected = [scores[max(0, at - reach) : at + reach + 1].mean(axis=0) for at in range(num_cells)]
    np.testing.assert_allclose(smooth(scores, 2 * reach + 1), expected, atol=1e-12)


def test_a_width_of_one_changes_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=(9, 3))
    assert smooth(scores, 1) is scores


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[Window], Scores, Labels, int]:
    """Cells of one length but for the last, their scores and labels, and how many ticks a run should have."""
    num_cells, length = draw(st.integers(1, 60)), draw(st.integers(1, 4))
    cells = [Window(at * length, length) for at in range(num_cells - 1)]
    cells.append(Window((num_cells - 1) * length, draw(st.integers(1, length))))
    scores = some_scores(num_cells, draw(st.integers(0, 2**32 - 1))).astype(np.float64)
    return cells, scores, scores.argmax(axis=1), draw(st.integers(0, 40))


def absorbed_slowly(cells: list[Window], scores: Scores, labels: Labels, min_ticks: int) -> list[int]:
    """The rule of `absorb`, word for word: all runs are looked at anew after each step."""
    found: list[int] = labels.tolist()
    while True:
        edges = [0, *(at for at in range(1, len(found)) if found[at] != found[at - 1]), len(found)]
        spans = list(pairwise(edges))
        lengths = [cells[b - 1].stop - cells[a].start for a, b in spans]
        shortest = min(lengths)
        if shortest >= min_ticks or len(spans) == 1:
            return found
        a, b = spans[lengths.index(shortest)]
        beside = [found[at] for at in (a - 1, b) if 0 <= at < len(found)]
        means = [fmean(scores[a:b, label].tolist()) for label in beside]
        found[a:b] = [beside[means.index(max(means))]] * (b - a)


def edges_of(cells: list[Window]) -> NDArray[np.int64]:
    return np.array([cells[0].start, *(cell.stop for cell in cells)])


@given(labelled())
def test_short_runs_are_absorbed_by_the_rule(drawn: tuple[list[Window], Scores, Labels, int]) -> None:
    cells, scores, labels, min_ticks = drawn
    before = labels.tolist()
    found = absorb(labels, edges_of(cells), scores, min_ticks)
    assert found.tolist() == absorbed_slowly(cells, scores, labels, min_ticks)
    assert labels.tolist() == before


@given(labelled())
def test_absorbing_leaves_no_run_too_short_and_a_second_time_changes_nothing(
    drawn: tuple[list[Window], Scores, Labels, int],
) -> None:
    cells, scores, labels, min_ticks = drawn
    found = absorb(labels, edges_of(cells), scores, min_ticks)
    left = runs(cells, scores, found)
    assert len(left) == 1 or min(run.stop - run.start for run in left) >= min_ticks
    assert {run.label_index for run in left} <= set(labels.tolist())
    assert absorb(found, edges_of(cells), scores, min_ticks).tolist() == found.tolist()
    assert absorb(labels, edges_of(cells), scores, 0).tolist() == labels.tolist()


def test_examples_of_absorbing() -> None:
    def absorbed(labels: str, scores: list[list[float]], min_ticks: int) -> str:
        cells = [Window(at, 1) for at in range(len(labels))]
        indices = np.array(["abc".index(label) for label in labels])
        return "".join("abc"[label] for label in absorb(indices, edges_of(cells), np.array(scores), min_ticks))

    even = [[0.0, 0.0, 0.0]]
    assert absorbed("aaabccc", [*even * 3, [0.2, 0.5, 0.3], *even * 3], 2) == "aaacccc"  # it looks more like c
    assert absorbed("aaabccc", even * 7, 2) == "aaaaccc"  # as like: the earlier neighbour
    assert absorbed("abababcccc", even * 10, 3) == "bbbbbbcccc"  # what flickers becomes one run
    assert absorbed("abc", even * 3, 100) == "bbb"  # one run is all that is left
    assert absorbed("abbaaa", even * 6, 2) == "bbbaaa"  # the first run has one neighbour


def test_absorbing_a_long_flicker_takes_no_more_than_some_reads_a_tick() -> None:
    """Two hours at 28 ticks a second, a label a tick: what rescans all runs at each step would not end."""
    num_ticks = 200_000
    cells = [Window(tick, 1) for tick in range(num_ticks)]
    scores = np.random.default_rng(0).random((num_ticks, 3))
    found = absorb(np.arange(num_ticks) % 3, edges_of(cells), scores, 50)
    assert min(run.stop - run.start for run in runs(cells, scores, found)) >= 50
