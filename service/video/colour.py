"""The YCbCr matrix. OpenCV 4 converts every video as ITU-R BT.601; HD video is BT.709, and both say so.

A frame that went through the wrong matrix is put right by one linear map from its R'G'B' to the right one:
out of YCbCr by the true matrix after back into it by BT.601. Only what was clipped on the way is lost. A video
without the tag is BT.601, as FFmpeg has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Kr and Kb of Y' = Kr R' + (1 - Kr - Kb) G' + Kb B' (ITU-T H.273, 8.3), by MediaInfo's names.
_WEIGHTS = {
    "BT.709": (0.2126, 0.0722),
    "BT.2020 non-constant": (0.2627, 0.0593),
    "SMPTE 240M": (0.212, 0.087),
    "FCC 73.682": (0.30, 0.11),
}
_BT601 = (0.299, 0.114)


def bgr_to_rgb(matrix: str | None) -> NDArray[np.float32] | None:
    """The map (3, 3) from what OpenCV gives, BGR by BT.601, to RGB by `matrix`; None where only the order changes.

    matrix: as MediaInfo names it.
    """
    if matrix not in _WEIGHTS:
        return None
    corrected = _from_ycbcr(*_WEIGHTS[matrix]) @ np.linalg.inv(_from_ycbcr(*_BT601))
    return np.ascontiguousarray(corrected[:, ::-1], np.float32)


def _from_ycbcr(kr: float, kb: float) -> NDArray[np.float64]:
    """Y' in [0, 1] and Cb, Cr in [-0.5, 0.5] to R'G'B' (ITU-T H.273, equations 38 to 40, solved)."""
    kg = 1.0 - kr - kb
    return np.array(
        [
            [1.0, 0.0, 2.0 * (1.0 - kr)],
            [1.0, -2.0 * kb * (1.0 - kb) / kg, -2.0 * kr * (1.0 - kr) / kg],
            [1.0, 2.0 * (1.0 - kb), 0.0],
        ]
    )
