"""Films with labelled shot transitions, made of labelled clips: `python -m models synthesise shots`.

As in the training of TransNetV2 (Souček and Lokoč 2020, arXiv:2008.04838) transitions are made, as labelled films are
few. Shots are joined in pixels and each film is encoded anew as a whole, with its own size, rate and quality, so that
no transition can be told by what the codec left. A film is made of clips of one side, and of one small set of their
groups: that set is the film's group, so that also films can be cut into train and validation without a source on both
sides.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.text import Text

from models.data.camera import CANVAS, Frames, draw_treatment, treated
from models.data.film_files import made_aside, write_film, write_table
from models.data.film_sources import Sources
from models.data.manifests import Clip, Side, read
from models.data.spans import Span
from models.data.transitions import KINDS, Transition, draw_ends, draw_transition, joined
from models.errors import DatasetError
from service.names import visible
from service.video.pool import DecodePool
from service.video.spec import ClipSpec

_SIDES: tuple[Side, ...] = ("train", "test")
# Groups of sources that share their films' group; a film has shots of about as many.
GROUPS_OF_A_FILM = 7
_SHOTS = (6, 14)
# Frames of a shot besides its transitions, evenly in the logarithm.
_BODY_FRAMES = (12, 90)
_SIZES = ((96, 128), (90, 160), (108, 144), (120, 160), (144, 192))  # height, width
_RATES = (Fraction(24), Fraction(25), Fraction(30), Fraction(30_000, 1001))
_PRESETS = ("ultrafast", "veryfast", "faster")
_QUALITIES, _KEYFRAMES, _B_FRAMES = (16, 32), (12, 250), (0, 3)  # x264's crf, g and bf


@dataclass(frozen=True)
class Film:
    """One film that is written. transitions and disturbances are spans of frames; faults: sources left out, and why."""

    name: str
    group: str
    side: Side
    num_frames: int
    rate: Fraction
    transitions: tuple[Span, ...]
    disturbances: tuple[Span, ...]
    faults: tuple[str, ...]


def synthesise(
    data: Path, split: str, out: Path, num_films: int, num_test_films: int, seed: int, console: Console
) -> list[Film]:
    """Write `out`: `clips/*.mp4` (H.264), manifest.csv (path, label, group, split, frames, fps), segments.csv and
    disturbances.csv (path, start_seconds, end_seconds, label), the latter of what is no transition but looks like one.

    Film i of a side depends on the clips, the seed and i alone. The label of all is `film`. The folder is written
    aside and then renamed. Raises DatasetError for a folder that has files, a side with fewer than two groups, and
    sources that can't be decoded so that fewer than two are left to a film.
    """
    wanted: dict[Side, int] = {"train": num_films, "test": num_test_films}
    clips = read(data, split)
    pools = {side: _pools(clips, side, seed) for side in _SIDES if wanted[side]}
    if not pools:
        raise DatasetError("no film was asked for; ask for at least one, of --films or of --test-films")
    tasks = [(side, index) for side in pools for index in range(wanted[side])]
    with made_aside(out) as folder:
        num_cores = os.cpu_count() or 1
        with DecodePool(num_cores) as decoding, ThreadPoolExecutor(num_cores, "film") as threads:
            make = partial(_film, pools=pools, folder=folder / "clips", seed=seed, decoding=decoding)
            try:
                films = list(track(threads.map(make, tasks), "films", len(tasks), console=console, transient=True))
            finally:
                threads.shutdown(cancel_futures=True)
        _write_tables(folder, films)
    _say_what_is_there(films, out, console)
    return films


def _pools(clips: Sequence[Clip], side: Side, seed: int) -> list[list[Clip]]:
    """The side's clips in sets of about `GROUPS_OF_A_FILM` groups, drawn at random."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.split == side:
            groups[clip.group].append(clip)
    if len(groups) < 2:
        flag = "--films" if side == "train" else "--test-films"
        raise DatasetError(
            f"{side} has {len(groups)} group(s), and films need shots of at least 2: add clips of other source videos, "
            f"or ask for {flag} 0"
        )
    names = sorted(groups)
    np.random.default_rng([seed, _SIDES.index(side)]).shuffle(names)
    count = max(1, len(names) // GROUPS_OF_A_FILM)
    return [[clip for name in names[first::count] for clip in groups[name]] for first in range(count)]


def _film(
    task: tuple[Side, int], pools: dict[Side, list[list[Clip]]], folder: Path, seed: int, decoding: DecodePool
) -> Film:
    side, index = task
    pool = index % len(pools[side])
    generator = np.random.default_rng([seed, _SIDES.index(side), index])
    height, width = _SIZES[generator.integers(len(_SIZES))]
    rate = _RATES[generator.integers(len(_RATES))]
    between = [draw_transition(generator) for _ in range(int(generator.integers(_SHOTS[0], _SHOTS[1] + 1)) - 1)]
    opening, closing = draw_ends(generator)
    around = [opening or Transition("fade"), *between, closing or Transition("fade")]
    canvas = (round(height * CANVAS), round(width * CANVAS))
    spec = ClipSpec(sample_fps=float(rate), frame_height=canvas[0], frame_width=canvas[1])
    sources = Sources(pools[side][pool], spec, decoding, generator)
    shots: list[Frames] = []
    disturbances: list[Span] = []
    start = 0
    for before, after in pairwise(around):
        num_frames = before.into + _body_frames(generator) + after.out
        treatment = draw_treatment(num_frames, before.into, after.out, generator)
        source = sources.take(1 if treatment.still else num_frames)
        if len(source) < num_frames and not treatment.still:  # the clip is short: its last picture stays
            source = np.concatenate([source, np.repeat(source[-1:], num_frames - len(source), axis=0)])
        shots.append(treated(source, treatment, height, width))
        # The first frames of a shot are the last ones of the shot before where both are mixed.
        start += before.plain - (before.into if before.kind == "dissolve" else 0)
        disturbances += [span.moved(start) for span in treatment.disturbances]
        start += num_frames
    frames, transitions = joined(shots, between, opening, closing)
    name = f"{side}-{index:04}.mp4"
    write_film(folder / name, frames, rate, _options(generator))
    return Film(
        name, f"{side}-{pool:02}", side, len(frames), rate, tuple(transitions), tuple(disturbances), sources.faults
    )


def _body_frames(generator: np.random.Generator) -> int:
    shortest, longest = np.log(_BODY_FRAMES)
    return round(math.exp(generator.uniform(shortest, longest)))


def _options(generator: np.random.Generator) -> dict[str, str]:
    """Of x264, drawn."""
    return {
        "preset": str(generator.choice(_PRESETS)),
        "crf": str(generator.integers(_QUALITIES[0], _QUALITIES[1] + 1)),
        "g": str(generator.integers(_KEYFRAMES[0], _KEYFRAMES[1] + 1)),
        "bf": str(generator.integers(_B_FRAMES[0], _B_FRAMES[1] + 1)),
        "sc_threshold": str(generator.choice((0, 40))),  # whether a cut begins a group of pictures
    }


def _write_tables(folder: Path, films: Sequence[Film]) -> None:
    rows = [(film.name, "film", film.group, film.side, film.num_frames, f"{float(film.rate):.8g}") for film in films]
    write_table(folder / "manifest.csv", "path,label,group,split,frames,fps", rows)
    for name, spans in (
        ("segments", [(film, span) for film in films for span in film.transitions]),
        ("disturbances", [(film, span) for film in films for span in film.disturbances]),
    ):
        timed = [
            (film.name, _seconds(span.start, film.rate), _seconds(span.stop, film.rate), span.label)
            for film, span in spans
        ]
        write_table(folder / f"{name}.csv", "path,start_seconds,end_seconds,label", timed)


def _seconds(frame: int, rate: Fraction) -> str:
    """When a frame begins, in whole microseconds and never later, so that a frame is inside of what it begins."""
    micros = math.floor(frame / rate * 1_000_000)
    return f"{micros // 1_000_000}.{micros % 1_000_000:06}"


def _say_what_is_there(films: Sequence[Film], out: Path, console: Console) -> None:
    for fault in sorted({fault for film in films for fault in film.faults}):
        console.print(Text(visible(f"left out: {fault}"), "yellow"), soft_wrap=True)
    kinds = Counter(span.label for film in films for span in film.transitions)
    counted = ", ".join(f"{label} {kinds[label]}" for label in KINDS)
    frames = sum(film.num_frames for film in films)
    console.print(Text(visible(f"wrote {out}: {len(films)} films, {frames} frames; {counted}")), soft_wrap=True)
