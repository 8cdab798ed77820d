"""What a model is said to have said of clips, without clips and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import Checkpoint
from models.data.loading import Loaded
from models.data.manifests import Clip
from models.data.segments import Segment
from models.data.targets import Targets
from models.data.windowed import windowed
from models.head_settings import HeadSettings
from models.report.tested import Tested
from models.tasks import TASKS
from service.video.spec import ClipSpec

TICKS = 8  # of a clip, four a second


def made(
    task: str,
    labels: tuple[str, ...],
    truths: Sequence[str],
    scores: Sequence[Sequence[float]] | NDArray[np.floating],
    *,
    groups: Sequence[str] = (),
    segments: Sequence[Sequence[Segment]] = (),
    background: str = "none",
    every_frame: bool = False,
) -> Tested:
    """truths: of each clip as a manifest has them. groups: each clip's own where there are none."""
    every_tick = task == "tick_label"
    spec = ClipSpec(
        sample_fps=None if every_frame else 4, frame_height=64, frame_width=64, window_frames=TICKS, stride_frames=TICKS
    )
    names = [Path(f"{number}.mp4") for number in range(len(truths))]
    clips = [
        Clip(path, truth, group, "test")
        for path, truth, group in zip(names, truths, groups or map(str, names), strict=True)
    ]
    features: dict[Path, NDArray[Any]] = {path: np.zeros((TICKS, 2), np.float32) for path in names}
    times = {path: np.arange(TICKS) / 4 for path in names}
    targets = Targets(TASKS[task], labels, dict(zip(names, segments, strict=False)), background)
    head = HeadSettings(hidden_size=2).build(2, len(labels), every_tick=every_tick)
    held = Checkpoint("made", labels, spec, "small-16", {}, head.dims, head.state_dict(), {}, task)
    windows = windowed(list(features.values()), targets.of(clips, times), spec)
    return Tested(
        held, head, targets, Loaded(clips, features, times, [], {}), clips, windows, np.array(scores, np.float32),
        f"{len(clips)} test clips", False,
    )  # fmt: skip
