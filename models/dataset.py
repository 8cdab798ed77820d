"""Labelled clips from a CSV manifest or a class-per-folder tree, and their splits, always cut by group.

Clips of one group come from one source video; a split that separates them leaks.
"""

from __future__ import annotations

import csv
import random
import re
from dataclasses import dataclass
from pathlib import Path

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})
# v_<class>_g<group>_c<clip>: the file names of UCF101 (Soomro, Zamir, Shah, CRCV-TR-12-01).
_UCF101_NAME = re.compile(r"^v_.+_g(\d+)_c\d+$")


class DatasetError(ValueError):
    """The manifest or the tree can't be read; the message names file, line and remedy."""


@dataclass(frozen=True)
class Clip:
    """One labelled file. `group` is unique to a source video, class included; `split` is `train` or `test`."""

    path: Path
    label: str
    group: str
    split: str


def read(source: Path, split_column: str = "split") -> list[Clip]:
    """Clips of a manifest (a .csv file) or of a folder with one folder a class."""
    clips = read_tree(source) if source.is_dir() else read_manifest(source, split_column)
    if not clips:
        raise DatasetError(f"{source} names no clips")
    return clips


def read_manifest(manifest: Path, split_column: str | None = "split") -> list[Clip]:
    """A CSV with columns path, label, optionally group, and `split_column` holding train or test.

    Without a split column every clip is `train`. Paths are relative to the manifest's folder, or to the folder
    `clips` in it.
    """
    roots = (manifest.parent, manifest.parent / "clips")
    clips = []
    with manifest.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "label", *filter(None, [split_column])} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(
                f"{manifest}: column(s) {', '.join(sorted(missing))} missing; there are {reader.fieldnames}"
            )
        for line, row in enumerate(reader, start=2):
            path = next((root / row["path"] for root in roots if (root / row["path"]).is_file()), None)
            if path is None:
                raise DatasetError(f"{manifest}:{line}: {row['path']} is not a file below {roots[0]} or {roots[1]}")
            split = row[split_column] if split_column else "train"
            if split not in ("train", "test"):
                raise DatasetError(f"{manifest}:{line}: {split_column} is {split!r}, not train or test")
            clips.append(Clip(path, row["label"], _group(row.get("group"), path, row["label"]), split))
    return clips


def read_tree(folder: Path) -> list[Clip]:
    """`folder/<label>/<clip>`; every clip is `train` (see `hold_out`)."""
    return [
        Clip(path, path.parent.name, _group(None, path, path.parent.name), "train")
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in VIDEO_SUFFIXES
    ]


def hold_out(clips: list[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Cut clips in two by group, within each label: (kept, held out), about `fraction` of the groups held."""
    held: set[str] = set()
    for label in sorted({clip.label for clip in clips}):
        groups = sorted({clip.group for clip in clips if clip.label == label})
        if len(groups) < 2:
            raise DatasetError(f"label {label} has one group only; a held-out part needs at least 2")
        random.Random(f"{seed}/{label}").shuffle(groups)  # noqa: S311  (not cryptography)
        held.update(groups[: max(1, round(fraction * len(groups)))])
    return [c for c in clips if c.group not in held], [c for c in clips if c.group in held]


def _group(named: str | None, path: Path, label: str) -> str:
    if named:
        return f"{label}/{named}"
    match = _UCF101_NAME.match(path.stem)
    return f"{label}/{match[1] if match else path.stem}"
