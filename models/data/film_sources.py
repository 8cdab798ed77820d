"""Shots out of labelled clips, as serving decodes them: a part of a clip, seldom of the same source as the shot before.

A clip that can't be decoded is left out of the film and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.data.camera import Frames
from models.data.decode_ahead import FAULTS_OF_FILES, said
from models.data.manifests import Clip
from models.errors import DatasetError
from service.video.pool import DecodePool
from service.video.spec import ClipSpec

# Two neighbours of one source video: a jump cut.
SAME_GROUP = 0.04
# Where a part of a clip begins, evenly.
_SKIPPED_FRAMES = 60


class Sources:
    """The clips that a film is made of; its draws come from `generator`."""

    def __init__(
        self, clips: Sequence[Clip], spec: ClipSpec, decoding: DecodePool, generator: np.random.Generator
    ) -> None:
        if spec.sample_fps is None:
            raise ValueError("a film has a rate: sample_fps is None")
        self._fps = spec.sample_fps
        self._clips = list(clips)
        self._spec = spec
        self._decoding = decoding
        self._generator = generator
        self._before: Clip | None = None
        self._faults: list[str] = []

    @property
    def faults(self) -> tuple[str, ...]:
        """The clips that were left out, and why."""
        return tuple(self._faults)

    def take(self, num_frames: int) -> Frames:
        """At most so many neighbouring frames, at least one, of a clip drawn at random: (T, H, W, 3) uint8 RGB.

        Fewer where the clip has fewer. Raises DatasetError where the film has clips of fewer than two groups left.
        """
        while True:
            clip = self._draw()
            skip = int(self._generator.integers(0, _SKIPPED_FRAMES))
            try:
                frames = self._read(clip, skip, num_frames)
            except FAULTS_OF_FILES as error:
                self._clips.remove(clip)
                self._faults.append(f"{clip.path}: {said(error)}")
                continue
            self._before = clip
            return frames

    def _draw(self) -> Clip:
        if len({clip.group for clip in self._clips}) < 2:
            why = self._faults[0] if self._faults else "they have one group"
            raise DatasetError(
                f"the clips of a film come from fewer than 2 groups ({why}); mend or add clips, `python -m models "
                "check` names all that is wrong"
            )
        same = self._generator.random() < SAME_GROUP
        before = self._before
        chosen = [
            clip
            for clip in self._clips
            if before is None or (clip is not before and (clip.group == before.group) == same)
        ]
        # A clip alone in its group has no neighbour of its source.
        chosen = chosen or [clip for clip in self._clips if clip is not before]
        return chosen[int(self._generator.integers(len(chosen)))]

    def _read(self, clip: Clip, skip: int, num_frames: int) -> Frames:
        """Frames from `skip` on, or the last ones where the clip ends before."""
        end_seconds = (skip + num_frames) / self._fps
        with self._decoding.open(clip.path, self._spec, end_seconds=end_seconds) as video:
            frames = np.concatenate([batch.frames for batch in video.batches(skip + num_frames)])
        return frames[-num_frames:]
