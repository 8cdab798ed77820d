"""The measure of boundaries: what matches what, what is counted, and how far the figure may be trusted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.data.spans import Span
from models.report.boundaries import JudgedFilm, hit_pairs, score


def cut(frame: int, label: str = "cut") -> Span:
    return Span(frame, frame + 1, label)


def judged(truths: list[Span], predicted: list[Span], num_frames: int = 1000, group: str = "g") -> JudgedFilm:
    return JudgedFilm(truths, predicted, num_frames, group)


@pytest.mark.parametrize(("frame", "hits"), [(47, 0), (48, 1), (50, 1), (52, 1), (53, 0)])
def test_a_cut_is_hit_within_two_frames(frame: int, hits: int) -> None:
    assert len(hit_pairs([cut(50)], [cut(frame)], 2)) == hits


@pytest.mark.parametrize(
    ("start", "stop", "hits"), [(30, 38, 0), (30, 39, 1), (45, 46, 1), (51, 60, 1), (52, 60, 0), (0, 99, 1)]
)
def test_a_dissolve_is_hit_by_what_overlaps_it_or_lies_within_two_frames(start: int, stop: int, hits: int) -> None:
    assert len(hit_pairs([Span(40, 50, "dissolve")], [Span(start, stop, "dissolve")], 2)) == hits


def test_one_hits_one_at_most() -> None:
    twice = score([judged([Span(40, 60, "fade")], [cut(42), cut(58)])]).overall
    assert (twice.hits, twice.truths, twice.predicted) == (1, 1, 2)
    over_both = score([judged([cut(40), cut(60)], [Span(38, 62, "cut")])]).overall
    assert (over_both.hits, over_both.truths, over_both.predicted) == (1, 2, 1)


def test_there_are_as_many_hits_as_there_can_be() -> None:
    """Against every assignment, on random films."""
    generator = np.random.default_rng(0)

    def drawn() -> list[Span]:
        edges = np.sort(generator.choice(40, 6, replace=False)).tolist()
        return [Span(start, stop, "") for start, stop in zip(edges[::2], edges[1::2], strict=True)]

    for _ in range(300):
        truths, predicted = drawn(), drawn()
        pairs = hit_pairs(truths, predicted, 2)
        reach = [[p.start < t.stop + 2 and p.stop > t.start - 2 for p in predicted] for t in truths]
        assert all(reach[truth][guess] for truth, guess in pairs)
        assert len({t for t, _ in pairs}) == len({p for _, p in pairs}) == len(pairs)
        best = max(sum(reach[t][p] for t, p in enumerate(order)) for order in itertools.permutations(range(3)))
        assert len(pairs) == best


def test_f1_precision_and_recall() -> None:
    scored = score([judged([cut(10), cut(50), cut(90)], [cut(11), cut(30)])]).overall
    assert [scored.precision, scored.recall, scored.f1] == pytest.approx([1 / 2, 1 / 3, 0.4])


def test_nothing_true_and_nothing_found_is_zero() -> None:
    scored = score([judged([], [])]).overall
    assert (scored.precision, scored.recall, scored.f1, scored.low, scored.high) == (0, 0, 0, 0, 0)


def test_kinds_without_and_with_their_names() -> None:
    """One dissolve is found, but called a cut; a cut is found as one; one alarm is false."""
    truths = [cut(10), Span(40, 50, "dissolve"), Span(70, 80, "dissolve")]
    found = score([judged(truths, [cut(10), cut(45), Span(72, 78, "dissolve"), Span(90, 95, "dissolve")])])
    assert {kind: (each.hits, each.truths, each.predicted) for kind, each in found.kinds.items()} == {
        "cut": (1, 1, 2),
        "dissolve": (2, 2, 3),
    }
    assert {kind: (each.hits, each.truths, each.predicted) for kind, each in found.named.items()} == {
        "cut": (1, 1, 2),
        "dissolve": (1, 2, 2),
    }


def test_who_names_no_kinds_has_no_named_figures() -> None:
    found = score([judged([cut(10)], [cut(10, "")])])
    assert found.named == {}
    assert found.kinds["cut"].f1 == 1


def test_a_fade_at_an_end_of_the_film_is_no_boundary_but_no_false_alarm() -> None:
    ends = [Span(0, 8, "fade"), cut(50), Span(90, 100, "fade")]
    missed = score([judged(ends, [cut(50)], num_frames=100)])
    found = score([judged(ends, [Span(0, 7, "fade"), cut(50), cut(95)], num_frames=100)])
    for scored in (missed, found):
        assert (scored.overall.hits, scored.overall.truths, scored.overall.predicted) == (1, 1, 1)
    assert found.named["fade"].predicted == 0


def test_the_interval_is_over_groups() -> None:
    """Films of one group come together: ten films of two groups are two draws, of ten groups ten."""
    good, bad = ([cut(10)], [cut(10)]), ([cut(10)], [cut(500)])
    two = score([judged(*(good if index % 2 else bad), group=str(index % 2)) for index in range(10)]).overall
    ten = score([judged(*(good if index % 2 else bad), group=str(index)) for index in range(10)]).overall
    assert two.f1 == ten.f1 == 0.5
    assert (two.low, two.high) == (0, 1)
    assert 0.1 < ten.low < 0.5 < ten.high < 0.9
    assert "F1 0.500 [0.000, 1.000]" in str(two)


def test_the_interval_of_films_that_are_alike_is_a_point() -> None:
    scored = score([judged([cut(10)], [cut(10)], group=str(index)) for index in range(4)]).overall
    assert (scored.low, scored.high) == (1, 1)
