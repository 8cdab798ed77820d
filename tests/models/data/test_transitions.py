"""How shots are joined: which frames are of which, and where the spans of transitions lie."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.spans import Span, runs
from models.data.transitions import (
    DISSOLVE_FRAMES,
    FADE_FRAMES,
    PLAIN_FRAMES,
    Transition,
    draw_ends,
    draw_transition,
    joined,
)


def plain(num_frames: int, level: int) -> NDArray[np.uint8]:
    return np.full((num_frames, 2, 3, 3), level, np.uint8)


def levels(frames: NDArray[np.uint8]) -> list[int]:
    assert (frames == frames[:, :1, :1, :1]).all()
    return [int(level) for level in frames[:, 0, 0, 0]]


def test_a_cut_is_the_frame_that_begins_the_new_shot() -> None:
    frames, spans = joined([plain(3, 10), plain(2, 90)], [Transition("cut")])
    assert levels(frames) == [10, 10, 10, 90, 90]
    assert spans == [Span(3, 4, "cut")]


def test_a_dissolve_has_something_of_both_in_each_of_its_frames() -> None:
    frames, spans = joined([plain(5, 0), plain(6, 100)], [Transition("dissolve", out=4, into=4)])
    assert levels(frames) == [0, 20, 40, 60, 80, 100, 100]
    assert spans == [Span(1, 5, "dissolve")]


def test_both_shots_of_a_dissolve_move_on() -> None:
    moving = np.arange(8, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3) * 30
    frames, _ = joined([moving[:4], moving[4:]], [Transition("dissolve", out=2, into=2)])
    # Frames 2 and 3 of the first with 4 and 5, a third and two thirds of the way.
    assert levels(frames) == [0, 30, 80, 130, 180, 210]


@pytest.mark.parametrize("level", [0, 255])
def test_a_fade_goes_out_and_in_through_a_colour(level: int) -> None:
    fade = Transition("fade", out=3, plain=2, into=1, level=level)
    frames, spans = joined([plain(5, 80), plain(3, 200)], [fade])
    near = [60, 40, 20] if level == 0 else [124, 168, 211]
    assert levels(frames) == [80, 80, *near, level, level, round((200 + level) / 2), 200, 200]
    assert spans == [Span(2, 8, "fade")]


def test_a_fade_of_one_side_ends_in_a_cut_that_is_part_of_it() -> None:
    frames, spans = joined([plain(3, 80), plain(2, 200)], [Transition("fade", out=1, plain=2)])
    assert levels(frames) == [80, 80, 40, 0, 0, 200, 200]
    assert spans == [Span(2, 5, "fade")]


def test_a_film_fades_in_from_black_and_out_to_it() -> None:
    opening, closing = Transition("fade", plain=1, into=1), Transition("fade", out=1, plain=2)
    frames, spans = joined([plain(2, 50), plain(3, 90)], [Transition("cut")], opening, closing)
    assert levels(frames) == [0, 25, 50, 90, 90, 45, 0, 0]
    assert spans == [Span(0, 2, "fade"), Span(3, 4, "cut"), Span(5, 8, "fade")]


def test_two_transitions_meet_in_a_shot_of_one_frame_of_its_own() -> None:
    dissolve = Transition("dissolve", out=2, into=2)
    frames, spans = joined([plain(3, 0), plain(5, 90), plain(3, 0)], [dissolve, dissolve])
    assert levels(frames) == [0, 30, 60, 90, 60, 30, 0]
    assert spans == [Span(1, 3, "dissolve"), Span(4, 6, "dissolve")]


def test_a_shot_that_is_too_short_is_named() -> None:
    dissolve = Transition("dissolve", out=2, into=2)
    with pytest.raises(ValueError, match="shot 1 has 4 frames, and its transitions take 4 of them"):
        joined([plain(3, 0), plain(4, 90), plain(3, 0)], [dissolve, dissolve])


def test_transitions_are_drawn_within_their_bounds_in_their_shares() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_transition(generator) for _ in range(2000)]
    shares = {kind: sum(each.kind == kind for each in drawn) / len(drawn) for kind in ("cut", "dissolve", "fade")}
    assert shares == pytest.approx({"cut": 0.5, "dissolve": 0.3, "fade": 0.2}, abs=0.04)
    dissolves = {each.out for each in drawn if each.kind == "dissolve"}
    assert (min(dissolves), max(dissolves)) == DISSOLVE_FRAMES
    assert all(each.out == each.into for each in drawn if each.kind == "dissolve")
    fades = [each for each in drawn if each.kind == "fade"]
    assert {(each.out > 0, each.into > 0) for each in fades} == {(True, True), (True, False), (False, True)}
    assert {length for each in fades for length in (each.out, each.into)} == {0, *range(FADE_FRAMES[0], 17)}
    assert {each.plain for each in fades} == set(range(PLAIN_FRAMES[0], PLAIN_FRAMES[1] + 1))
    assert {each.level for each in fades} == {0, 255}


def test_films_begin_and_end_in_black_now_and_then() -> None:
    generator = np.random.default_rng(0)
    ends = [draw_ends(generator) for _ in range(400)]
    assert sum(opening is not None for opening, _ in ends) == pytest.approx(100, abs=30)
    assert all(opening.out == 0 and opening.level == 0 for opening, _ in ends if opening)
    assert all(closing.into == 0 and closing.level == 0 for _, closing in ends if closing)


def test_runs_are_neighbouring_frames_of_one_label() -> None:
    assert runs("..aab.b", ".") == [Span(2, 4, "a"), Span(4, 5, "b"), Span(6, 7, "b")]
    assert runs("", ".") == []
