"""What is wrong with a data set, before an hour is spent on it: `python -m models check`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from models.data.decode_ahead import FAULTS_OF_FILES, decode_ahead, said
from models.data.hashes import Hashes
from models.data.labelling import Labelling
from models.data.manifests import Clip, groups_by_label, leaks
from models.data.near_duplicates import MOST_BITS, SIDE, FrameHashes, fingerprint, near_pairs, picture_hashes
from service.names import visible
from service.video.spec import ClipSpec

Level = Literal["error", "warning"]

# Of the whole picture, and often enough that four frames of a short clip are four pictures.
_FPS = 4
_SPEC = ClipSpec(sample_fps=_FPS, frame_height=SIDE, frame_width=SIDE, resize="stretch")
_BATCH_FRAMES = 32
# Beyond this the small label is drowned: a model that never names it loses less than a quarter of what it could.
MOST_IMBALANCE = 3.0
# A quarter of fewer groups than this is one: what is said of the label hangs on one source video.
FEWEST_GROUPS = 4
_MOST_ITEMS = 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. items: the clips, groups or labels, at most a thousand; count: all of them."""

    level: Level
    kind: str
    said: str
    items: list[str]
    count: int


@dataclass(frozen=True)
class LabelCount:
    """What there is of a label."""

    train: int
    test: int
    groups_in_train: int
    broken: int


@dataclass
class Content:
    """What the files hold, by path."""

    sha256: dict[Path, str] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)
    warnings: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    seconds: dict[Path, float] = field(default_factory=dict)
    fingerprints: dict[Path, FrameHashes] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckReport:
    """All findings, errors first."""

    data: str
    split: str | None
    clips: int
    labels: dict[str, LabelCount]
    findings: list[Finding]

    @property
    def num_errors(self) -> int:
        """Findings that have to be put right."""
        return sum(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


def check(
    data: Path,
    split: str | None,
    clips: Sequence[Clip],
    store: Path,
    labelling: Labelling | None = None,
    *,
    show_progress: bool,
) -> CheckReport:
    """Read, hash and decode every clip as serving would, and compare them. clips: of `read`, leaks allowed."""
    labelling = labelling or Labelling()
    labels_of = labelling.labels_of
    content = inspect([clip.path for clip in clips], store, show_progress=show_progress)
    findings = [
        *_broken(clips, content),
        *_leaks(clips),
        *(_labels(clips, labelling) if labelling.least else ()),
        *_segments(clips, content, labelling),
        *_same(clips, content, labelling),
        *_alike(clips, content),
    ]
    findings.sort(key=lambda finding: finding.level)
    count = {side: _count([clip for clip in clips if clip.split == side], labelling) for side in ("train", "test")}
    broken = _count([clip for clip in clips if clip.path in content.broken], labelling)
    groups = groups_by_label((clip for clip in clips if clip.split == "train"), labels_of)
    labels = {
        label: LabelCount(count["train"][label], count["test"][label], len(groups.get(label, ())), broken[label])
        for label in sorted({label for clip in clips for label in labels_of(clip)})
    }
    return CheckReport(data.name, split, len(clips), labels, findings)


def inspect(paths: Sequence[Path], store: Path, *, show_progress: bool) -> Content:
    """Hashes of the files and of their frames, and what is wrong with them in the service's words."""
    found = Content()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not show_progress) as bar:
        paths = list(dict.fromkeys(paths))
        with Hashes(store / "hashes.sqlite") as hashes:
            for path, sha256 in bar.track(hashes.of(paths), len(paths), description="files"):
                if isinstance(sha256, OSError):
                    found.broken[path] = said(sha256)
                else:
                    found.sha256[path] = sha256
        with decode_ahead(found.sha256, _SPEC, _BATCH_FRAMES) as decoding:
            for clip in bar.track(decoding, len(found.sha256), description="frames"):
                try:
                    parts = [np.repeat(picture_hashes(b.frames), b.ticks) for b in clip.batches()]
                    found.seconds[clip.path] = sum(map(len, parts)) / _FPS
                    found.warnings[clip.path] = clip.report().warnings
                except FAULTS_OF_FILES as error:
                    found.broken[clip.path] = said(error)
                else:
                    found.fingerprints[clip.path] = fingerprint(np.concatenate(parts))
    return found


def show(report: CheckReport) -> RenderableType:
    """A page of 80 columns."""
    table = Table("label", "train", "test", "groups in train", "broken", title=f"{report.clips} clips")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, count in report.labels.items():
        figures = (count.train, count.test, count.groups_in_train, count.broken)
        table.add_row(Text(visible(label)), *(str(figure) if figure else "–" for figure in figures))
    lines: list[RenderableType] = [table]
    for finding in report.findings:
        style = "red" if finding.level == "error" else "yellow"
        lines.append(Text.assemble((f"{finding.level}: {finding.kind}: ", style), visible(finding.said)))
        lines += [Text(f"  {visible(item)}") for item in finding.items[:_MOST_ITEMS]]
        if finding.count > _MOST_ITEMS:
            lines.append(Text(f"  and {finding.count - _MOST_ITEMS} more (--json has them)"))
    warnings = len(report.findings) - report.num_errors
    lines.append(Text(f"{report.num_errors} errors, {warnings} warnings", "red" if report.num_errors else "green"))
    return Group(*lines)


def _broken(clips: Sequence[Clip], content: Content) -> Iterable[Finding]:
    once = list(dict.fromkeys(clip.path for clip in clips))
    broken = [f"{path}: {content.broken[path]}" for path in once if path in content.broken]
    yield from _finding("error", "broken files", "training would leave them out; mend or replace them", broken)
    odd = [f"{path}: {'; '.join(content.warnings[path])}" for path in once if content.warnings.get(path)]
    yield from _finding("warning", "odd files", "they are used as they are, and their answers carry a warning", odd)


def _leaks(clips: Sequence[Clip]) -> Iterable[Finding]:
    remedy = "clips of one source video belong on one side: correct the split, or the column `group`"
    yield from _finding("error", "groups on both sides", remedy, [str(leak) for leak in leaks(clips)])


def _count(clips: Sequence[Clip], labelling: Labelling) -> Counter[str]:
    """Clips that have a label, by label."""
    return Counter(label for clip in clips for label in labelling.labels_of(clip))


def _labels(clips: Sequence[Clip], labelling: Labelling) -> Iterable[Finding]:
    train = [clip for clip in clips if clip.split == "train"]
    test = set(_count([clip for clip in clips if clip.split == "test"], labelling))
    groups = groups_by_label(train, labelling.labels_of)
    count = _count(train, labelling)
    one = [] if len(groups) >= labelling.least else list(groups) or ["train has no label"]
    yield from _finding("error", "too few labels", f"a model needs at least {labelling.least} in train", one)
    unlearnt = "they are in test alone; no model can learn them: add clips to train"
    yield from _finding("error", "labels without training", unlearnt, sorted(test - groups.keys()))
    untested = sorted(groups.keys() - test) if test else []
    yield from _finding("warning", "labels without a test", "nothing will be known of them", untested)
    few = [f"{label}: {len(names)}" for label, names in groups.items() if len(names) < 2]
    remedy = "validation holds out whole groups: add clips of other source videos, or name those in a column `group`"
    yield from _finding("error", "labels of one group", remedy, few)
    some = [f"{label}: {len(names)}" for label, names in groups.items() if 2 <= len(names) < FEWEST_GROUPS]
    hangs = f"with fewer than {FEWEST_GROUPS} groups what validation says of a label hangs on one source video"
    yield from _finding("warning", "labels of few groups", hangs, some)
    if count and (ratio := max(count.values()) / min(count.values())) > MOST_IMBALANCE:
        ends = [f"{label}: {number} clips" for label, number in (count.most_common(1)[0], count.most_common()[-1])]
        uneven = f"the largest has {ratio:.1f} times the clips of the smallest; accuracy says little of the smallest"
        yield from _finding("warning", "uneven labels", uneven, ends)


def _segments(clips: Sequence[Clip], content: Content, labelling: Labelling) -> Iterable[Finding]:
    """Of labels in time."""
    lost = "a typing error in a name leaves a clip all background"
    yield from _finding("warning", "segments of no clip", lost, list(labelling.unused))
    behind, bare = [], []
    for clip in {clip.path: clip for clip in clips}.values():
        segments = labelling.segments.get(clip.path, ())
        if labelling.segments and not segments:
            bare.append(str(clip.path))
        seconds = content.seconds.get(clip.path)
        behind += [
            f"{clip.path}: {each.label} until {each.end_seconds:g} s, and the clip ends at {seconds:g} s"
            for each in segments
            if seconds is not None and each.end_seconds > seconds + 1 / _FPS
        ]
    yield from _finding("warning", "segments beyond the end", "what is behind it is not learned: correct them", behind)
    yield from _finding("warning", "clips without segments", "all of them is background; is that so?", bare)


def _same(clips: Sequence[Clip], content: Content, labelling: Labelling) -> Iterable[Finding]:
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.path in content.sha256:
            by_content[content.sha256[clip.path]].append(clip)
    labelled, across, rest = [], [], []
    for same in by_content.values():
        if differs := not labelling.same(same):
            labelled.append(_listed(same, lambda clip: clip.label))
        if is_across := len({clip.split for clip in same}) > 1:
            across.append(_listed(same, lambda clip: clip.split))
        if len(same) > 1 and not differs and not is_across:
            rest.append(_listed(same, lambda clip: clip.label))
    yield from _finding("error", "one content, two labels", "decide on one", labelled)
    known = "what is tested was learnt by heart: remove it from one side"
    yield from _finding("error", "one content on both sides", known, across)
    yield from _finding("warning", "one content twice", "it counts twice; remove all but one", rest)


def _alike(clips: Sequence[Clip], content: Content) -> Iterable[Finding]:
    """A look decides, so that these are warnings: clips of one fixed camera are alike, and none is a copy. A copy that
    is cut at its start may not be found.
    """
    seen: dict[str, Clip] = {}
    for clip in clips:  # of one content the first: the others are told of above
        if clip.path in content.fingerprints:
            seen.setdefault(content.sha256[clip.path], clip)
    once = list(seen.values())
    train = [clip for clip in once if clip.split == "train"]
    for kind, remedy, some, keys in (
        ("alike on both sides", "look at them: copies belong on one side", once, ("group", "split")),
        ("alike in groups of train", "look at them: copies belong into one group", train, ("group",)),
    ):
        if len(some) < 2:
            continue
        prints = np.stack([content.fingerprints[clip.path] for clip in some])
        pairs, count = near_pairs(prints, *([getattr(clip, key) for clip in some] for key in keys))
        items = [f"{some[pair.first].path}, {some[pair.second].path} ({pair.bits:g} bits of 64)" for pair in pairs]
        words = f"frames differ in at most {MOST_BITS} bits of 64; {remedy}"
        yield from _finding("warning", kind, words, items, count)


def _listed(same: list[Clip], what: Callable[[Clip], str]) -> str:
    return ", ".join(f"{clip.path} ({what(clip)})" for clip in same)


def _finding(level: Level, kind: str, words: str, items: list[str], count: int | None = None) -> Iterable[Finding]:
    """None where nothing was found."""
    if items:
        yield Finding(level, kind, words, items[:1000], len(items) if count is None else count)
