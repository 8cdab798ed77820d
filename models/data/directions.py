"""Clips forwards and in reverse, to be told apart: `python -m models synthesise directions`.

The arrow of time (Pickup et al. 2014; Wei et al. 2018) can only be told from the order of frames: both films of a clip
have the same pictures, so that no single frame tells which it is. Both are encoded anew, alike: what a codec leaves,
which fades from one key frame to the next, would tell the direction of a clip that is only turned around in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.text import Text

from models.data.decode_ahead import FAULTS_OF_FILES, said
from models.data.film_files import made_aside, write_film, write_table
from models.data.manifests import Clip, read
from models.errors import DatasetError
from service.names import visible
from service.video.pool import DecodePool
from service.video.spec import ClipSpec

FORWARDS, REVERSED = "forwards", "reversed"
_RATE = Fraction(25)
_SPEC = ClipSpec(sample_fps=float(_RATE), frame_height=180, frame_width=240, resize="crop")
_MOST_SECONDS = 10.0
# A key frame is where quality is best: many of them, none where a cut would have it, and no B-frames, whose pattern is
# not the same from behind.
_OPTIONS = {"preset": "veryfast", "crf": "20", "g": "12", "bf": "0", "sc_threshold": "0"}
_HEADER = "path,label,group,split,source_label"
_Row = tuple[str, str, str, str, str]  # of `_HEADER`


def synthesise(data: Path, split: str, out: Path, console: Console) -> int:
    """Write `out`: `clips/*.mp4`, two of each clip, and manifest.csv (path, label, group, split, source_label).

    The label is `forwards` or `reversed`; groups and sides are the clips' own. Of long clips the first ten seconds are
    taken. A clip that can't be decoded is left out and named. Returns the number of films. The folder is written aside
    and then renamed. Raises DatasetError for a folder that has files, and where no clip is left.
    """
    clips = read(data, split)
    num_cores = os.cpu_count() or 1
    with made_aside(out) as folder:
        with DecodePool(num_cores) as decoding, ThreadPoolExecutor(num_cores, "film") as threads:
            make = partial(_both, folder=folder / "clips", decoding=decoding)
            try:
                found = threads.map(make, enumerate(clips))
                rows = list(track(_said(found, console), "films", len(clips), console=console, transient=True))
            finally:
                threads.shutdown(cancel_futures=True)
        written = [row for both in rows for row in both]
        if not written:
            raise DatasetError(f"{data}: no clip can be decoded; `python -m models check` names what is wrong")
        write_table(folder / "manifest.csv", _HEADER, written)
    console.print(Text(visible(f"wrote {out}: {len(written)} films")), soft_wrap=True)
    return len(written)


def _said(found: Iterator[list[_Row] | str], console: Console) -> Iterator[list[_Row]]:
    for rows in found:
        if isinstance(rows, str):
            console.print(Text(visible(f"left out: {rows}"), "yellow"), soft_wrap=True)
        else:
            yield rows


def _both(numbered: tuple[int, Clip], folder: Path, decoding: DecodePool) -> list[_Row] | str:
    """The rows of both films, or why there are none."""
    number, clip = numbered
    try:
        with decoding.open(clip.path, _SPEC, end_seconds=_MOST_SECONDS) as video:
            frames = np.concatenate([np.repeat(each.frames, each.ticks, axis=0) for each in video.batches(32)])
    except FAULTS_OF_FILES as error:
        return f"{clip.path}: {said(error)}"
    rows: list[_Row] = []
    for label, ordered in ((FORWARDS, frames), (REVERSED, frames[::-1])):
        name = f"{number:05}-{label}.mp4"
        write_film(folder / name, ordered, _RATE, _OPTIONS)
        rows.append((name, label, clip.group, clip.split, clip.label))
    return rows
