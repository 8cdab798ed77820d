"""Labels in time: segments of clips from a CSV, or from ActivityNet's JSON, and the label of each tick."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.manifests import Clip
from models.errors import DatasetError
from service.names import visible

_COLUMNS = ("path", "start_seconds", "end_seconds", "label")
# Ends that meet are written with few decimals; a tick may be this early or late.
_ROUNDED_SECONDS = 1e-3
_NAMED = 3


@dataclass(frozen=True)
class Segment:
    """Seconds [start, end) of a clip, relative to the stream's start, and their label."""

    start_seconds: float
    end_seconds: float
    label: str


def read_segments(
    source: Path, clips: Iterable[Clip], warn: Callable[[str], None] = lambda said: None
) -> dict[Path, list[Segment]]:
    """The segments of each clip, in order; a clip may have none. warn: told of segments whose name is no clip's.

    source: a CSV with the columns path, start_seconds, end_seconds, label, whose paths are those of the manifest; or
    JSON as ActivityNet's (Caba Heilbron et al. 2015): `{"database": {name: {"annotations": [{"segment": [start, end],
    "label": …}]}}}`, where a name is that of a file without its suffix, `v_` before it or not.

    Raises DatasetError: a file that is neither, times that are none, segments that overlap, a name that two clips have,
    and where no clip is named.
    """
    rows = _of_json(source) if source.suffix.lower() == ".json" else _of_csv(source)
    by_name: dict[str, list[Segment]] = defaultdict(list)
    for name, segment in rows:
        by_name[name].append(segment)
    found: dict[Path, list[Segment]] = {}
    used: dict[str, Path] = {}
    for clip in clips:
        names = [name for name in _names(clip.path) if name in by_name]
        for name in names:
            if used.setdefault(name, clip.path) != clip.path:
                raise DatasetError(
                    f"{source}: {visible(name)} may be {visible(used[name])} or {visible(clip.path)}; name more of the "
                    "path, its folder at least"
                )
        found[clip.path] = sorted((s for name in names for s in by_name[name]), key=lambda each: each.start_seconds)
        _refuse_overlaps(found[clip.path], clip.path, source)
    if not used:
        known = ", ".join(map(visible, list(by_name)[:_NAMED]))
        raise DatasetError(f"{source} names no clip of the data; it has {known or 'no segment'}")
    if unused := [name for name in by_name if name not in used]:
        more = ", …" if len(unused) > _NAMED else ""
        lost = sum(len(by_name[name]) for name in unused)
        warn(
            f"{source}: {lost} segment{'s'[: lost != 1]} left out: no clip of the data is called "
            f"{', '.join(map(visible, unused[:_NAMED]))}{more}"
        )
    return found


def segments_file(data: Path, named: Path | None) -> Path:
    """The file that is named, else segments.csv in the tree, or beside the manifest. Raises DatasetError."""
    file = named or (data if data.is_dir() else data.parent) / "segments.csv"
    if not file.is_file():
        raise DatasetError(f"the task tick_label needs segments, and there is no {file}; name them with --segments")
    return file


def segment_labels(segments: Mapping[Path, Sequence[Segment]]) -> set[str]:
    """All labels of the segments."""
    return {segment.label for each in segments.values() for segment in each}


def tick_labels(
    times: NDArray[np.float64], segments: Sequence[Segment], labels: Sequence[str], background: str, widen: int = 0
) -> NDArray[np.int64]:
    """For each tick at `times` (T), seconds, the index of its label: that of the segment it lies in, else background.

    widen: so many ticks of background on either side of a segment are given to it, as far as there are some: a segment
    of one tick is hard to learn, and its own tick may be off by one. Raises DatasetError for a label that is none of
    `labels`.
    """
    none = labels.index(background)
    found: NDArray[np.int64] = np.full(len(times), none, np.int64)
    for segment in segments:
        if segment.label not in labels:
            raise DatasetError(f"label {segment.label!r} is unknown; there are {', '.join(labels)}")
        inside = (times > segment.start_seconds - _ROUNDED_SECONDS) & (times < segment.end_seconds - _ROUNDED_SECONDS)
        found[inside] = labels.index(segment.label)
    for _ in range(widen):
        before, after = np.append(none, found[:-1]), np.append(found[1:], none)
        found = np.where(found != none, found, np.where(before != none, before, after))
    return found


def _names(path: Path) -> list[str]:
    """By which a file may be called, the longest first: of its whole path only the last names are the manifest's."""
    parts = path.parts
    whole = [PurePath(*parts[-count:]).as_posix() for count in range(len(parts), 0, -1)]
    return [*whole, path.stem, path.stem.removeprefix("v_")]


def _refuse_overlaps(segments: Sequence[Segment], path: Path, source: Path) -> None:
    for before, after in zip(segments, segments[1:], strict=False):
        if after.start_seconds < before.end_seconds - _ROUNDED_SECONDS:
            raise DatasetError(
                f"{source}: {path.name}: {before.label} until {before.end_seconds:g} s and {after.label} from "
                f"{after.start_seconds:g} s overlap; a tick has one label: cut one of them short"
            )


def _of_csv(source: Path) -> Iterable[tuple[str, Segment]]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
                raise DatasetError(f"{source}: column {missing[0]!r} is missing; segments have {', '.join(_COLUMNS)}")
            for row in reader:
                where = f"{source}:{reader.line_num}"
                yield row["path"] or "", _segment(row["start_seconds"], row["end_seconds"], row["label"], where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{source} is not a CSV in UTF-8: {error}") from error


def _of_json(source: Path) -> Iterable[tuple[str, Segment]]:
    try:
        videos: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))["database"]
        for name, video in videos.items():
            for number, each in enumerate(video["annotations"]):
                start, end = each["segment"]
                yield name, _segment(start, end, each["label"], f"{source}: {name}, annotation {number}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{source} is no JSON as ActivityNet's ({error!r}): "
            '{"database": {name: {"annotations": [{"segment": [start, end], "label": …}]}}}'
        ) from error


def _segment(start: object, end: object, label: object, where: str) -> Segment:
    try:
        first, last = float(str(start)), float(str(end))
    except ValueError:
        first = last = math.nan
    if not (math.isfinite(first) and math.isfinite(last) and first < last):
        raise DatasetError(f"{where}: from {start!r} to {end!r} is no time, in seconds; the end comes after the start")
    if not isinstance(label, str) or not label:
        raise DatasetError(f"{where}: the label is {label!r}; name one")
    return Segment(first, last, label)
