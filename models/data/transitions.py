"""From one shot to the next: cut, dissolve and fade, drawn at random and made in pixels, with where they are.

The segment of a cut is the one frame that begins the new shot; of a dissolve, its frames of mixture; of a fade, all
frames that are darkened (or whitened) or plain. Mixtures are linear in R'G'B', as editors make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.data.camera import Frames
from models.data.spans import Span

Kind = Literal["cut", "dissolve", "fade"]
KINDS: tuple[Kind, ...] = ("cut", "dissolve", "fade")
_SHARES = (0.5, 0.3, 0.2)
DISSOLVE_FRAMES = (4, 24)
FADE_FRAMES, PLAIN_FRAMES = (4, 16), (1, 8)
_WHITE = 0.25
# Out and in; out, then a cut from the plain colour; a cut to it, then in.
_FADES = ((True, True), (True, False), (False, True))
_FADE_SHARES = (0.7, 0.15, 0.15)
# How often a film begins out of black, or ends in it.
_AT_AN_END = 0.25


@dataclass(frozen=True)
class Transition:
    """How a shot gives way to the next.

    out, into: frames of the shot before and of the one after that are mixed: with each other in a dissolve (as many of
    both), with the colour in a fade. plain: frames of the colour alone. level: of the colour, 0 black, 255 white.
    """

    kind: Kind
    out: int = 0
    plain: int = 0
    into: int = 0
    level: int = 0


def draw_transition(generator: np.random.Generator) -> Transition:
    """Half of them cuts, 3 of 10 dissolves (4 to 24 frames), 2 of 10 fades (4 to 16 frames each way)."""
    kind = KINDS[generator.choice(len(KINDS), p=_SHARES)]
    if kind == "cut":
        return Transition("cut")
    if kind == "dissolve":
        length = _between(DISSOLVE_FRAMES, generator)
        return Transition("dissolve", out=length, into=length)
    out, into = _FADES[generator.choice(len(_FADES), p=_FADE_SHARES)]
    return Transition(
        "fade",
        out=_between(FADE_FRAMES, generator) if out else 0,
        plain=_between(PLAIN_FRAMES, generator),
        into=_between(FADE_FRAMES, generator) if into else 0,
        level=255 if generator.random() < _WHITE else 0,
    )


def draw_ends(generator: np.random.Generator) -> tuple[Transition | None, Transition | None]:
    """How a film begins and ends: a fade from and to black, or at once."""
    opening = Transition("fade", plain=_between(PLAIN_FRAMES, generator), into=_between(FADE_FRAMES, generator))
    closing = Transition("fade", out=_between(FADE_FRAMES, generator), plain=_between(PLAIN_FRAMES, generator))
    begins, ends = generator.random(2) < _AT_AN_END
    return opening if begins else None, closing if ends else None


def joined(
    shots: Sequence[Frames],
    between: Sequence[Transition],
    opening: Transition | None = None,
    closing: Transition | None = None,
) -> tuple[Frames, list[Span]]:
    """The film, and the spans of its transitions in order.

    shots: (T_i, H, W, 3) uint8, each with more frames than the transitions beside it take from it, at least one of them
    its own; between: one less than shots; opening, closing: fades. ValueError where a shot is too short.
    """
    around = (opening or Transition("fade"), *between, closing or Transition("fade"))
    pieces: list[Frames] = []
    spans: list[Span] = []
    length = 0

    def add(piece: Frames) -> None:
        nonlocal length
        pieces.append(piece)
        length += len(piece)

    last = np.empty((0, *shots[0].shape[1:]), np.uint8)  # what the shot before has left for the transition
    for index, transition in enumerate(around):
        shot = shots[index] if index < len(shots) else last[:0]
        following = around[index + 1].out if index < len(shots) else 0
        if index < len(shots) and len(shot) <= transition.into + following:
            raise ValueError(
                f"shot {index} has {len(shot)} frames, and its transitions take {transition.into + following} of them; "
                "it needs one of its own"
            )
        start = length
        if transition.kind == "dissolve":
            add(_mixed(last, shot[: transition.into]))
        else:
            add(_to_colour(last, transition.level))
            add(np.full((transition.plain, *last.shape[1:]), transition.level, np.uint8))
            add(_to_colour(shot[: transition.into][::-1], transition.level)[::-1])
        stop = length + (transition.kind == "cut")
        if stop > start:
            spans.append(Span(start, stop, transition.kind))
        body_stop = len(shot) - following
        add(shot[transition.into : body_stop])
        last = shot[body_stop:]
    return np.concatenate(pieces), spans


def _between(bounds: tuple[int, int], generator: np.random.Generator) -> int:
    """Evenly, both ends included."""
    return int(generator.integers(bounds[0], bounds[1] + 1))


def _mixed(before: Frames, after: Frames) -> Frames:
    weights = _rising(len(after))
    mixed: Frames = np.rint(before + (after.astype(np.float32) - before) * weights).astype(np.uint8)
    return mixed


def _to_colour(frames: Frames, level: int) -> Frames:
    weights = _rising(len(frames))
    faded: Frames = np.rint(frames + (np.float32(level) - frames) * weights).astype(np.uint8)
    return faded


def _rising(count: int) -> NDArray[np.float32]:
    """(count, 1, 1, 1), between 0 and 1 without both: each frame of a mixture has something of both."""
    weights = np.arange(1, count + 1) / (count + 1)
    return weights.astype(np.float32)[:, None, None, None]
