"""The real clips that a certificate is proven on: those that training wrote scores of, and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.errors import ExportError
from models.data.manifests import VIDEO_SUFFIXES, DatasetError, has_column, read_manifest
from models.data.training_clips import TrainingClip
from service.bundle import LEAST_CLIPS, file_sha256


@dataclass(frozen=True)
class ProofClip:
    """A video file, its label where a manifest or its folder names it, and what training said of it where it did."""

    path: Path
    label: str | None = None
    trained: TrainingClip | None = None


def find_clips(source: Path, most: int, trained: Sequence[TrainingClip] = ()) -> list[ProofClip]:
    """Video files of a manifest or below a folder, at most `most`: those in `trained`, then others, evenly spread.

    Raises DatasetError.
    """
    if source.suffix == ".csv":
        columns = ("label",) if has_column(source, "label") else ()  # of ticks and of numbers there is none
        clips = [
            ProofClip(clip.path, clip.label or None) for clip in read_manifest(source, None, columns, empty_labels=True)
        ]
    elif source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        clips = [ProofClip(path, path.parent.name) for path in paths]
    else:
        clips = [ProofClip(source)]
    if not clips:
        raise DatasetError(f"{source} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    known = matched(clips, trained)[:most]
    others = [clip for clip in clips if clip.path not in {found.path for found in known}]
    wanted = min(most - len(known), len(others))
    return known + [others[int(i * len(others) / wanted)] for i in range(wanted)]


def matched(clips: Sequence[ProofClip], trained: Sequence[TrainingClip]) -> list[ProofClip]:
    """Clips whose bytes are those of a clip in `trained`, each with it; in the order of `trained`.

    Files of the same name are looked at first. Only where too few of them are the same bytes, all others are read too.
    """
    if len(already := [clip for clip in clips if clip.trained in trained]) == len(trained):
        return already
    by_hash = {clip.sha256: clip for clip in trained}
    names = {clip.name for clip in trained}
    found: dict[str, ProofClip] = {}
    for same_name in (True, False):
        if len(found) >= min(LEAST_CLIPS, len(by_hash)):
            break
        for clip in clips:
            if (clip.path.name in names) == same_name and (content := file_sha256(clip.path)) in by_hash:
                known = by_hash[content]
                found.setdefault(content, replace(clip, label=known.label or clip.label, trained=known))
    return [found[clip.sha256] for clip in trained if clip.sha256 in found]


def with_training(
    clips: Sequence[ProofClip], trained: Sequence[TrainingClip], labels: Sequence[str]
) -> list[ProofClip]:
    """The clips, those of `trained` with what training said of them. Raises ExportError where too few are."""
    if len(trained) < LEAST_CLIPS:
        raise ExportError(
            f"training wrote down its scores of {len(trained)} clips, and the certificate holds what is served against "
            f"at least {LEAST_CLIPS}: train again with more clips, or, for networks of your own, give --scores a table "
            "that `export.scores.write_scores` wrote where they were trained"
        )
    there = matched(clips, trained)
    if len(there) < LEAST_CLIPS:
        raise ExportError(
            f"of the {len(clips)} clips to prove it on, {len(there)} are such as training wrote its scores of, and at "
            f"least {LEAST_CLIPS} are needed: name the folder or manifest that it was trained on with --clips (files "
            f"of the same bytes as {trained[0].name} and {len(trained) - 1} others)"
        )
    for clip in trained:
        if other := sorted(set(labels) ^ set(clip.scores)):
            raise ExportError(
                f"training's scores of {clip.name} are of other labels than the model's: {', '.join(other)} "
                "in one of the two alone; export with the labels of the training"
            )
    by_path = {clip.path: clip for clip in there}
    return [by_path.get(clip.path, clip) for clip in clips]
