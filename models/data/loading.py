"""Clips and their features: a broken clip is left out and named, but not many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from models.data.features import CPU, FeatureStore, LeftOut
from models.data.manifests import Clip
from models.encoders import ImageEncoder
from models.errors import FeatureError
from service.names import visible
from service.video.chunk import Times
from service.video.spec import ClipSpec

# Some files of any large collection are broken. Where more are, something else is wrong: the copy, the codec, a limit.
MOST_LEFT_OUT = 0.1
LabelsOf = Callable[[Clip], Iterable[str]]


@dataclass(frozen=True)
class Loaded:
    """The clips that have features, those by path, and the clips that have none.

    features: (T, D), or maps (T, C, H, W); times: of their ticks, seconds (T); sha256: hex, of the bytes that they are
    of; all by path.
    """

    clips: list[Clip]
    features: dict[Path, NDArray[Any]]
    times: dict[Path, Times]
    left_out: list[LeftOut]
    sha256: dict[Path, str]

    def left_out_rows(self) -> list[dict[str, str]]:
        """For a checkpoint: names of files, without the machine's folders."""
        return [
            {"path": visible(clip.path.name), "why": visible(clip.why.replace(str(clip.path), clip.path.name))}
            for clip in self.left_out
        ]

    def of(self, clips: list[Clip]) -> list[Clip]:
        """Those of other clips of the same files that have features, for another split."""
        return [clip for clip in clips if clip.path in self.features]


def load_clips(
    clips: list[Clip],
    spec: ClipSpec,
    encoder: ImageEncoder,
    store: Path,
    console: Console,
    until: str | None = None,
    labels_of: LabelsOf = lambda clip: (clip.label,),
    device: torch.device = CPU,
) -> Loaded:
    """Features of the clips, extracted where they are not stored yet; each clip that has none is said in yellow.

    until: a stage of the encoder; the maps before it then. labels_of: a clip's, where it is not its one label; '' where
    it has none, as of numbers. device: what the encoder computes on. A label of test that has no clip left is said too.
    Raises FeatureError where more than a tenth of the clips has none, or all clips of a label, in train or in all, or
    all of test.
    """
    rows, left_out, sha256 = FeatureStore(store, encoder, spec, until, device).load([clip.path for clip in clips])
    for clip in left_out:
        console.print(Text(visible(f"left out: {clip.path}: {clip.why}"), "yellow"), soft_wrap=True)
    loaded = Loaded(
        [clip for clip in clips if clip.path in rows],
        {path: each.features for path, each in rows.items()},
        {path: each.times for path, each in rows.items()},
        left_out,
        sha256,
    )
    if left_out:
        _refuse_losses(clips, loaded, labels_of)
        for label, number in _labels_lost(clips, loaded, "test", labels_of).items():
            of_label = label and f" of label {label}"
            said = f"no test clip{of_label} is left ({number} left out): the figures on test say nothing of it"
            console.print(Text(visible(said), "yellow"), soft_wrap=True)
        console.print(Text(f"{len(left_out)} of {len(clips)} clips are left out", "yellow"))
    return loaded


def _refuse_losses(clips: list[Clip], loaded: Loaded, labels_of: LabelsOf) -> None:
    remedy = "mend or replace the files; `python -m models check` names all that is wrong"
    first = visible(f"{loaded.left_out[0].path}: {loaded.left_out[0].why}")
    sides: tuple[Literal["all", "train"], ...] = ("all", "train")
    for side in sides:
        if lost := _labels_lost(clips, loaded, side, labels_of):
            label, number = next(iter(lost.items()))
            raise FeatureError(
                f"no clip{label and f' of label {label}'} can be used ({side}: {number} left out); {remedy}. "
                f"First: {first}"
            )
    num_test = sum(clip.split == "test" for clip in clips)
    if num_test and all(clip.split != "test" for clip in loaded.clips):
        raise FeatureError(f"no test clip can be used ({num_test} left out); {remedy}. First: {first}")
    if len(loaded.left_out) > MOST_LEFT_OUT * len(clips):
        raise FeatureError(
            f"{len(loaded.left_out)} of {len(clips)} clips can't be used, more than {MOST_LEFT_OUT:.0%}; {remedy}. "
            f"First: {first}"
        )


def _labels_lost(
    clips: list[Clip], loaded: Loaded, side: Literal["all", "train", "test"], labels_of: LabelsOf
) -> dict[str, int]:
    """The labels of which no clip of the side is left, in order, and how many there were."""
    before = Counter(label for clip in clips if side in ("all", clip.split) for label in labels_of(clip))
    after = Counter(label for clip in loaded.clips if side in ("all", clip.split) for label in labels_of(clip))
    return {label: before[label] for label in sorted(before.keys() - after.keys())}
