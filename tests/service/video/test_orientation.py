"""The eight right-angled display matrices against the equation that they stand for, done by numpy alone."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from service.video.orientation import UPRIGHT, Orientation, of_matrix

ONE = 1 << 16
# (a, b, c, d) of ISO 14496-12, 8.3.2: a stored (x, y) is shown at (a x + c y, b x + d y).
SIGNS = list(product((-1, 1), repeat=2))
MATRICES = [*((a, 0, 0, d) for a, d in SIGNS), *((0, b, c, 0) for b, c in SIGNS)]


def nine(a: float, b: float, c: float, d: float) -> tuple[int, ...]:
    return round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, 1 << 30


def shown(stored: NDArray[np.uint8], a: int, b: int, c: int, d: int) -> NDArray[np.uint8]:
    """Each pixel where the matrix puts it, moved so that the picture begins at 0, 0 (players ignore the offset)."""
    y, x = np.mgrid[: stored.shape[0], : stored.shape[1]]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    picture = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    picture[down, across] = stored
    return picture


def test_there_are_eight() -> None:
    assert len(MATRICES) == 8
    assert len({of_matrix(nine(*matrix)) for matrix in MATRICES}) == 8


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 2.0, 1 / 1024])
def test_each_matrix_is_applied_as_it_is_defined(matrix: tuple[int, int, int, int], scale: float) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    orientation = of_matrix(nine(*(part * scale for part in matrix)))
    assert orientation is not None
    expected = shown(stored, *matrix)
    np.testing.assert_array_equal(orientation.apply(stored), expected)
    assert orientation.swaps_sides == (expected.shape[:2] == (6, 4))


def test_upright_leaves_the_picture_as_it_is() -> None:
    stored = np.zeros((2, 3, 3), np.uint8)
    assert UPRIGHT.apply(stored) is stored
    assert of_matrix(nine(1, 0, 0, 1)) == UPRIGHT == Orientation(0, mirrored=False)


def test_a_rounded_angle_is_the_right_one() -> None:
    """cos 90° in 16.16 is not quite 0 in the files of some writers."""
    assert of_matrix((3, 65535, 0, -65536, -2, 0, 0, 0, 1 << 30)) == Orientation(90)


@pytest.mark.parametrize("matrix", [(0.0, 0.0, 0.0, 0.0), (0.7, 0.7, -0.7, 0.7), (1.0, 1.0, 0.0, 1.0)])
def test_what_is_no_right_angle_is_none(matrix: tuple[float, float, float, float]) -> None:
    assert of_matrix(nine(*matrix)) is None
