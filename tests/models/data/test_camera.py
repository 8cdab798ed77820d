"""What happens within a shot: where it is said to be, there it is, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.camera import Treatment, draw_treatment, treated
from models.data.spans import Span

HEIGHT, WIDTH, FRAMES = 24, 32, 60
DRAWS = 400


def untouched(num_frames: int, **changed: object) -> Treatment:
    values: dict[str, object] = {
        "still": False,
        "views": np.tile((1.0, 0.0, 0.0), (num_frames, 1)),
        "gains": np.ones(num_frames, np.float32),
        "lifts": np.zeros(num_frames, np.float32),
        "disturbances": (),
    }
    return Treatment(**(values | changed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source() -> NDArray[np.uint8]:
    """(FRAMES, 36, 48, 3): a smooth picture that moves slowly."""
    coarse = np.random.default_rng(3).integers(40, 200, (5, 12, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (48 + FRAMES, 36), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, index : index + 48] for index in range(FRAMES)]).astype(np.uint8)


def test_a_shot_that_nothing_is_done_to_is_its_source_scaled(source: NDArray[np.uint8]) -> None:
    shot = treated(source, untouched(FRAMES), HEIGHT, WIDTH)
    expected = np.stack([cv2.resize(each, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for each in source])
    assert shot.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert np.abs(shot.astype(int) - expected).max() <= 2


def test_a_view_is_a_part_of_the_source(source: NDArray[np.uint8]) -> None:
    """Two thirds of the sides are as many pixels as the film has: they are copied."""
    views = np.array([(2 / 3, 0.0, 0.0), (2 / 3, 1.0, 1.0)])
    shot = treated(source, untouched(2, views=views), HEIGHT, WIDTH)
    assert np.abs(shot[0].astype(int) - source[0, :HEIGHT, :WIDTH]).max() <= 1
    assert np.abs(shot[1].astype(int) - source[1, -HEIGHT:, -WIDTH:]).max() <= 1


def test_a_still_is_one_picture(source: NDArray[np.uint8]) -> None:
    shot = treated(source[:1], untouched(9, still=True), HEIGHT, WIDTH)
    assert (shot == shot[:1]).all()


def test_gain_and_lift_change_light(source: NDArray[np.uint8]) -> None:
    plain = treated(source[:2], untouched(2), HEIGHT, WIDTH).astype(float)
    lit = untouched(2, gains=np.array((0.5, 1), np.float32), lifts=np.array((0, 0.8), np.float32))
    shot = treated(source[:2], lit, HEIGHT, WIDTH).astype(float)
    assert np.abs(shot[0] - plain[0] / 2).max() <= 1
    assert np.abs(shot[1] - (255 - (255 - plain[1]) * 0.2)).max() <= 1


def test_drawn_disturbances_are_where_they_are_said_to_be() -> None:
    generator = np.random.default_rng(0)
    found: dict[str, int] = {}
    for _ in range(DRAWS):
        treatment = draw_treatment(FRAMES, 5, 6, generator)
        spans = {span.label: span for span in treatment.disturbances}
        for label in spans:
            found[label] = found.get(label, 0) + 1
        assert treatment.views.shape == (FRAMES, 3)
        assert (treatment.views >= 0).all()
        assert (treatment.views <= 1).all()
        moved = np.flatnonzero((np.diff(treatment.views, axis=0) != 0).any(axis=1)) + 1
        lifted, relit = np.flatnonzero(treatment.lifts), np.flatnonzero(np.diff(treatment.gains)) + 1
        within(moved, [spans[label] for label in ("pan", "zoom", "shake") if label in spans])
        within(lifted, [spans["flash"]] if "flash" in spans else [])
        within(relit, [spans["light"]] if "light" in spans else [])
        assert treatment.still == ("still" in spans)
        if "flash" in spans:
            # Away from the transitions, which take 5 and 6 frames.
            assert 1 <= len(lifted) <= 3
            assert lifted[0] >= 5 + 4
            assert lifted[-1] < FRAMES - 6 - 4
            assert treatment.lifts.max() >= 0.4
    expected = {"still": 0.12, "pan": 0.2, "zoom": 0.12, "shake": 0.18, "flash": 0.2, "light": 0.25}
    assert {label: count / DRAWS for label, count in found.items()} == pytest.approx(expected, abs=0.06)


def within(frames: NDArray[np.intp], spans: list[Span]) -> None:
    """Changes lie in one of the spans, or on the frame that ends it."""
    assert all(any(span.start <= frame <= span.stop for span in spans) for frame in frames.tolist())


def test_a_short_shot_has_no_room_for_a_flash() -> None:
    generator = np.random.default_rng(1)
    drawn = [draw_treatment(14, 2, 2, generator) for _ in range(100)]
    assert all(not treatment.lifts.any() and (treatment.gains == 1).all() for treatment in drawn)
