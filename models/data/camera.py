"""What happens within one shot and is no transition: moves of the camera, flashes, changes of light, still pictures.

These are what detectors of shot boundaries take for one (Hanjalic 2002, "Shot-Boundary Detection: Unraveled and
Resolved?"): drawn at random, they teach a model to tell them apart, and show where another one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.data.spans import Span

Frames = NDArray[np.uint8]
Disturbance = Literal["still", "pan", "zoom", "shake", "flash", "light"]

# Sides of a source picture by those of the film: what a pan may cross.
CANVAS = 1.5
# How far a flash or a step of light stays from a transition: nearer than that nobody could say which of them it is.
_APART_FRAMES = 4
_STILL, _FLASH, _LIGHT = 0.12, 0.2, 0.25
_MOVES: tuple[tuple[Disturbance | None, float], ...] = ((None, 0.5), ("pan", 0.2), ("zoom", 0.12), ("shake", 0.18))
_FLASH_FRAMES = 3


@dataclass(frozen=True)
class Treatment:
    """What is done to a shot of T frames.

    views: (T, 3) float64, of the part that is seen: its sides as a share of the source's, and where its left and upper
    edge are, from 0 (at the source's) to 1 (as far as it goes). gains, lifts: (T) float32; a sample v in [0, 1] becomes
    v × gain, then lift of the way to white. disturbances: what of this is there, and when.
    """

    still: bool
    views: NDArray[np.float64]
    gains: NDArray[np.float32]
    lifts: NDArray[np.float32]
    disturbances: tuple[Span, ...]


def draw_treatment(num_frames: int, head: int, tail: int, generator: np.random.Generator) -> Treatment:
    """At random, of a shot whose first `head` and last `tail` frames belong to transitions."""
    still = bool(generator.random() < _STILL)
    found = [Span(0, num_frames, "still")] if still else []
    names, shares = zip(*_MOVES, strict=True)
    move = names[generator.choice(len(names), p=shares)]
    views, moved = _views(move, num_frames, generator)
    found += moved
    gains, lifts = np.ones(num_frames, np.float32), np.zeros(num_frames, np.float32)
    first, last = head + _APART_FRAMES, num_frames - tail - _APART_FRAMES - _FLASH_FRAMES
    if first < last and generator.random() < _LIGHT:
        start = int(generator.integers(first, last))
        # Of no length: a lamp that is switched. Longer: an exposure that adapts.
        length = min(int(generator.choice((0, 6, 18))), num_frames - start)
        gain = np.float32(np.exp(generator.uniform(np.log(0.45), np.log(1.6))))
        gains[start : start + length] = np.linspace(1, gain, length + 1, dtype=np.float32)[1:]
        gains[start + length :] = gain
        found.append(Span(start, start + max(1, length), "light"))
    if first < last and generator.random() < _FLASH:
        start, length = int(generator.integers(first, last)), int(generator.integers(1, _FLASH_FRAMES + 1))
        lifts[start : start + length] = generator.uniform(0.4, 0.95) * 0.7 ** np.arange(length)
        found.append(Span(start, start + length, "flash"))
    return Treatment(still, views, gains, lifts, tuple(found))


def _views(
    move: Disturbance | None, num_frames: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], list[Span]]:
    side = 1.0 if move is None else generator.uniform(0.5, 0.8)
    views = np.tile((side, *generator.random(2)), (num_frames, 1))
    if move == "shake":
        views[:, 1:] += np.cumsum(generator.normal(0, generator.uniform(0.01, 0.06), (num_frames, 2)), axis=0)
    elif move is not None:
        length = min(num_frames, int(generator.integers(6, 40)))
        start = int(generator.integers(0, num_frames - length + 1))
        ends = (1.0, generator.uniform(0.5, 0.8)) if move == "zoom" else generator.permutation((0.0, 1.0))
        way = np.interp(np.arange(num_frames), (start, start + length), ends)
        column = 0 if move == "zoom" else int(generator.integers(1, 3))
        views[:, column] = way
        return views, [Span(start, start + length, move)]
    return views.clip(0, 1), [Span(0, num_frames, move)] if move else []


def treated(source: Frames, treatment: Treatment, height: int, width: int) -> Frames:
    """The shot: (T, height, width, 3) uint8 RGB. source: (T, H, W, 3) uint8 RGB, or at least one picture of it where
    it is still; (H, W) about `CANVAS` times (height, width)."""
    canvas_height, canvas_width = source.shape[1:3]
    shot = np.empty((len(treatment.views), height, width, 3), np.uint8)
    for index, (side, left, top) in enumerate(treatment.views):
        across, down = side * canvas_width / width, side * canvas_height / height  # source pixels a pixel of the film
        x, y = left * (1 - side) * canvas_width, top * (1 - side) * canvas_height
        matrix = np.array([[across, 0, x + (across - 1) / 2], [0, down, y + (down - 1) / 2]])
        picture = source[0 if treatment.still else index]
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
        shot[index] = seen
        gain, lift = treatment.gains[index], treatment.lifts[index]
        if gain != 1 or lift:
            lit = np.minimum(seen * gain, 255)
            shot[index] = lit + (255 - lit) * lift
    return shot
