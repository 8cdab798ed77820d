"""The labels of clips as each task has them, to be counted before anything is decoded: `python -m models check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.data.manifests import Clip
from models.data.segments import Segment, read_segments, segment_labels, segments_file
from models.data.targets import labels_of as several_labels


@dataclass(frozen=True)
class Labelling:
    """What is to be learned of a clip, as a task has it.

    labels_of: a clip's labels, each once. least: labels that a model needs; 0: what is learned are numbers.
    segments: of ticks, by path; unused: those that name no clip, in words.
    """

    labels_of: Callable[[Clip], tuple[str, ...]] = lambda clip: (clip.label,)
    least: int = 2
    segments: Mapping[Path, Sequence[Segment]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: str, data: Path, clips: Sequence[Clip], named: Path | None) -> Labelling:
        """named: the file of segments, else the one beside the data. Raises DatasetError."""
        if task == "labels":
            return cls(several_labels)
        if task == "value":
            return cls(lambda clip: (), 0)
        if task == "label":
            return cls()
        unused: list[str] = []
        segments = read_segments(segments_file(data, named), clips, unused.append)

        def of_ticks(clip: Clip) -> tuple[str, ...]:
            return tuple(sorted(segment_labels({clip.path: segments[clip.path]})))

        return cls(of_ticks, 1, segments, tuple(unused))

    def same(self, clips: Sequence[Clip]) -> bool:
        """Whether all of them are to be learned as the same."""
        return len({(clip.label, tuple(self.segments.get(clip.path, ()))) for clip in clips}) == 1
