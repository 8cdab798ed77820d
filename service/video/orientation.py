"""How a stored picture has to be turned and mirrored before it is seen: the display matrix (ISO 14496-12, 8.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Orientation:
    """First mirrored left to right, if so, then turned clockwise by a multiple of 90 degrees."""

    rotation_degrees: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.rotation_degrees in (90, 270)

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) as stored to (h, w, 3) or (w, h, 3) as seen."""
        if self.mirrored:
            picture = cv2.flip(picture, 1)  # type: ignore[assignment]
        if self.rotation_degrees:
            picture = cv2.rotate(picture, _ROTATIONS[self.rotation_degrees])  # type: ignore[assignment]
        return picture


UPRIGHT = Orientation()

# (a, b, c, d) of x' = a x + c y, y' = b x + d y, y downwards, as signs.
_MATRICES = {
    (1, 0, 0, 1): Orientation(0),
    (0, 1, -1, 0): Orientation(90),
    (-1, 0, 0, -1): Orientation(180),
    (0, -1, 1, 0): Orientation(270),
    (-1, 0, 0, 1): Orientation(0, mirrored=True),
    (0, -1, -1, 0): Orientation(90, mirrored=True),
    (1, 0, 0, -1): Orientation(180, mirrored=True),
    (0, 1, 1, 0): Orientation(270, mirrored=True),
}


def of_matrix(matrix: tuple[int, ...]) -> Orientation | None:
    """Of the nine numbers of a display matrix, row by row; None where it is no right angle."""
    a, b, _, c, d = matrix[:5]
    largest = max(map(abs, (a, b, c, d)))
    if not largest:
        return None
    return _MATRICES.get(tuple(round(part / largest) for part in (a, b, c, d)))  # type: ignore[arg-type]
