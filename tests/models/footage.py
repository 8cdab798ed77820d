"""Clips that look unlike one another: coarse noise that drifts; the seed is the scene."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.drawn import draw

WIDTH, HEIGHT = 96, 72


def film(path: Path, scene: int, num_frames: int = 30, **how: object) -> Path:
    """A clip of the scene, 25 frames a second; how: as of `tests.drawn.draw`."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def picture(index: int, width: int, height: int) -> NDArray[np.uint8]:
        drifted = np.roll(_scene(scene), index // 4, axis=1)
        return cv2.resize(drifted, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)

    return draw(path, num_frames=num_frames, **({"width": WIDTH, "height": HEIGHT} | how), picture=picture).path  # type: ignore[arg-type]


@cache
def _scene(scene: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(scene).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def manifest(folder: Path, *rows: str) -> Path:
    """path,label,group,part."""
    path = folder / "manifest.csv"
    path.write_text("\n".join(("path,label,group,part", *rows)) + "\n")
    return path
