"""The real clips that a certificate is proven on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.dataset import VIDEO_SUFFIXES, DatasetError, read_manifest


@dataclass(frozen=True)
class ProofClip:
    """A video file, and its label where a manifest or its folder names it."""

    path: Path
    label: str | None = None


def find_clips(source: Path, most: int) -> list[ProofClip]:
    """Video files of a manifest or below a folder, at most `most`, evenly spread. Raises DatasetError."""
    if source.suffix == ".csv":
        clips = [ProofClip(clip.path, clip.label) for clip in read_manifest(source, None)]
    elif source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        clips = [ProofClip(path, path.parent.name) for path in paths]
    else:
        clips = [ProofClip(source)]
    if not clips:
        raise DatasetError(f"{source} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    step = max(1, len(clips) / most)
    return [clips[int(i * step)] for i in range(min(most, len(clips)))]
