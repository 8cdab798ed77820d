"""Labelled clips from a CSV manifest or a class-per-folder tree, and their splits, always cut by group.

Clips of one group come from one source video, whatever their labels; a split that separates them leaks. The group is,
by the first rule that holds:

1. UCF101's, where a file is named as there (`v_<class>_g<group>_c<clip>`; Soomro, Zamir, Shah, CRCV-TR-12-01) and the
   column `group` is empty or has that very number: `<class>/g<group>`, as the numbers are given anew in each class.
2. The column `group` of a manifest, as it is.
3. The name of the file without its suffix: two files `match7.mp4` below two labels are cut from one video.
4. But a name of digits alone (`1.mp4`) counts the files of its folder and names no video: `<folder>/1`, below the
   manifest or the tree. One video in two such folders is found by `python -m models check`, by its content.
"""

from __future__ import annotations

import csv
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from models.errors import DatasetError
from service.names import visible

__all__ = [
    "VIDEO_SUFFIXES", "Clip", "DatasetError", "Leak", "Side", "groups_by_label", "has_column", "hold_out",
    "labels_to_learn", "leaks", "read", "read_manifest", "read_tree",
]  # fmt: skip

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})
_UCF101_NAME = re.compile(r"v_(?P<label>.+)_g(?P<group>\d+)_c\d+")

Side = Literal["train", "test"]
_SIDES: dict[str, Side] = {"train": "train", "test": "test"}


@dataclass(frozen=True)
class Clip:
    """One labelled file. `group` names the source video, whatever the label."""

    path: Path
    label: str
    group: str
    split: Side


@dataclass(frozen=True)
class Leak:
    """A group on both sides, and a clip of it on each."""

    group: str
    train: Clip
    test: Clip

    def __str__(self) -> str:
        return visible(f"group {self.group!r}: {self.train.path} is train, {self.test.path} is test")


def read(
    source: Path,
    split_column: str | None = "split",
    *,
    columns: Sequence[str] = ("label",),
    empty_labels: bool = False,
    refuse_leaks: bool = True,
) -> list[Clip]:
    """Clips of a manifest (a .csv file) or of a folder with one folder a class.

    columns, empty_labels: of a manifest (see `read_manifest`).
    Raises DatasetError; also where a group is on both sides, unless those are not refused.
    """
    clips = read_tree(source) if source.is_dir() else read_manifest(source, split_column, columns, empty_labels)
    if not clips:
        raise DatasetError(
            f"{source} names no clips; a tree is <label>/<clip>, with {', '.join(sorted(VIDEO_SUFFIXES))}"
            if source.is_dir()
            else f"{source} names no clips"
        )
    if refuse_leaks and (found := leaks(clips)):
        others = f" (and {len(found) - 1} other groups)" if len(found) > 1 else ""
        raise DatasetError(
            f"{source}: {found[0]}{others}. Clips of one source video belong on one side: correct column "
            f"{split_column}, or name the source videos in a column `group`"
        )
    return clips


def read_manifest(
    manifest: Path,
    split_column: str | None = "split",
    columns: Sequence[str] = ("label",),
    empty_labels: bool = False,
) -> list[Clip]:
    """A CSV with columns path, label, optionally group, and `split_column` holding train or test.

    columns: those whose values, `|` between them, are the label; none: it is empty, as where ticks have labels.
    empty_labels: whether they may be empty, as where a clip has any number of labels.
    Without a split column every clip is `train`. Paths are relative to the manifest's folder, or to the folder
    `clips` in it. Raises DatasetError.
    """
    roots = (manifest.parent, manifest.parent / "clips")
    clips = []
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a byte order mark
            reader = csv.DictReader(file)
            there = reader.fieldnames or ()
            missing = {"path", *columns, *filter(None, [split_column])} - set(there)
            if missing:
                raise DatasetError(
                    f"{manifest}: column(s) {', '.join(sorted(missing))} missing; there are {', '.join(there)}"
                )
            for line, row in enumerate(reader, start=2):
                clips.append(_clip(row, f"{manifest}:{line}", roots, split_column, columns, empty_labels))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{manifest} is not a CSV in UTF-8: {error}") from error
    return clips


def has_column(source: Path, name: str) -> bool:
    """Whether a manifest has the column; a tree has none."""
    if source.is_dir():
        return False
    with source.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return name in next(csv.reader(file), [])


def read_tree(folder: Path) -> list[Clip]:
    """`folder/<label>/<clip>`; every clip is `train` (see `hold_out`)."""
    return [
        Clip(path, path.parent.name, _group("", path.relative_to(folder)), "train")
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in VIDEO_SUFFIXES
    ]


def leaks(clips: Iterable[Clip]) -> list[Leak]:
    """The groups that are on both sides, by name."""
    sides: dict[Side, dict[str, Clip]] = {"train": {}, "test": {}}
    for clip in clips:
        sides[clip.split].setdefault(clip.group, clip)
    train, test = sides["train"], sides["test"]
    return [Leak(group, train[group], test[group]) for group in sorted(train.keys() & test.keys())]


def groups_by_label(
    clips: Iterable[Clip], labels_of: Callable[[Clip], Iterable[str]] = lambda clip: (clip.label,)
) -> dict[str, set[str]]:
    """The groups of each label, labels in order. labels_of: a clip's, where it is not its one label."""
    groups: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for label in labels_of(clip):
            groups[label].add(clip.group)
    return {label: groups[label] for label in sorted(groups)}


def labels_to_learn(clips: Iterable[Clip]) -> tuple[str, ...]:
    """The labels, in order. Raises DatasetError where there is one only, or one that is in test alone."""
    by_side: dict[Side, set[str]] = {"train": set(), "test": set()}
    for clip in clips:
        by_side[clip.split].add(clip.label)
    if unknown := sorted(by_side["test"] - by_side["train"]):
        raise DatasetError(f"label {unknown[0]} is in test only; no model can learn it: add clips of it to train")
    if len(by_side["train"]) < 2:
        named = ", ".join(by_side["train"]) or "none"
        raise DatasetError(f"a model needs at least 2 labels in train; there is {named}")
    return tuple(sorted(by_side["train"]))


def hold_out(
    clips: list[Clip],
    fraction: float,
    seed: int,
    labels_of: Callable[[Clip], Iterable[str]] = lambda clip: (clip.label,),
) -> tuple[list[Clip], list[Clip]]:
    """Cut clips in two by group: (kept, held out). Of each label about `fraction` of the groups are held, at least one.

    A group is never separated, and each label keeps one. Where groups have one label each (UCF101) the cut is exact;
    a group of several labels counts for all of them, and may leave a label with more or fewer than its share. The
    order in which a label's groups are tried comes from `seed` and the label alone.
    Raises DatasetError for a label of one group.
    """
    groups = groups_by_label(clips, labels_of)
    of_group: dict[str, set[str]] = defaultdict(set)
    for label, names in groups.items():
        if len(names) < 2:
            what = f"label {label}" if label else "train"
            raise DatasetError(
                f"{what} has one group only ({next(iter(names))}); a held-out part needs at least 2: add clips "
                "of another source video, or name the source videos in a column `group`"
            )
        for name in names:
            of_group[name].add(label)
    wanted = {label: max(1, round(fraction * len(names))) for label, names in groups.items()}
    held: set[str] = set()
    num_held = dict.fromkeys(groups, 0)

    def may_go(name: str) -> bool:
        return name not in held and all(len(groups[one]) - num_held[one] > 1 for one in of_group[name])

    # Labels with the least choice come first.
    for label in sorted(groups, key=lambda label: len(groups[label])):
        tried = sorted(groups[label])
        random.Random(f"{seed}/{label}").shuffle(tried)  # noqa: S311  (not cryptography)
        # Groups that give another label more than its share come last.
        for allow_excess in (False, True):
            for name in tried:
                if num_held[label] >= wanted[label]:
                    break
                excess = any(num_held[one] >= wanted[one] for one in of_group[name])
                if may_go(name) and (allow_excess or not excess):
                    held.add(name)
                    for one in of_group[name]:
                        num_held[one] += 1
    return [c for c in clips if c.group not in held], [c for c in clips if c.group in held]


def _clip(
    row: dict[str, str | None],
    where: str,
    roots: tuple[Path, Path],
    split_column: str | None,
    columns: Sequence[str],
    empty_labels: bool,
) -> Clip:
    name = row["path"]
    for column in ("path", *columns):
        if not row[column] and not (empty_labels and column != "path"):
            raise DatasetError(f"{where}: {column} is empty")
    assert name is not None  # noqa: S101  (it is not empty)
    label = "|".join(row[column] or "" for column in columns)
    path = next((root / name for root in roots if (root / name).is_file()), None)
    if path is None:
        raise DatasetError(f"{where}: {name} is not a file below {roots[0]} or {roots[1]}")
    said = row[split_column] if split_column else "train"
    side = _SIDES.get(said or "")
    if side is None:
        raise DatasetError(f"{where}: {split_column} is {said!r}, not train or test")
    return Clip(path, label, _group(row.get("group") or "", PurePath(name)), side)


def _group(named: str, name: PurePath) -> str:
    """named: the column `group`, or nothing; name: the path below the manifest or the tree."""
    ucf101 = _UCF101_NAME.fullmatch(name.stem)
    if ucf101 and (not named or (named.isdecimal() and int(named) == int(ucf101["group"]))):
        return f"{ucf101['label']}/g{ucf101['group']}"
    if named:
        return named
    return str(name.with_suffix("")) if name.stem.isdecimal() else name.stem
