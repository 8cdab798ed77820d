"""Real clips, sampled and cut: our times and pixels against those of PyAV, with an FFmpeg of its own."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from service.video.decode import ClipReader
from service.video.spec import ClipSpec
from tests.drawn import serving_frames
from tests.real_clips import NAMES, real_clip
from tests.reference import Image, by_pyav, psnr_db

# 48.1 dB is an error of 1 level in every pixel: the rounding of YUV to RGB may differ between two builds of FFmpeg,
# nothing else may (measured: identical, with OpenCV 5.0.0 and PyAV 18.1.0).
MIN_PSNR_DB = 48.0


@lru_cache(maxsize=1)
def decoded(name: str) -> tuple[tuple[float, ...], list[Image]]:
    """Timestamps, seconds from the stream's start, and RGB pictures of every frame."""
    frames = list(by_pyav(real_clip(name)))
    return tuple(frame.pts_seconds or 0.0 for frame in frames), [frame.picture for frame in frames]


@pytest.mark.parametrize(("start", "end"), [(0.0, float("inf")), (1.05, 2.3)])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_frames_and_pixels_as_pyav(name: str, start: float, end: float) -> None:
    timestamps, pictures = decoded(name)
    height, width = pictures[0].shape[:2]
    spec = ClipSpec(sample_fps=8, frame_height=height, frame_width=width, resize="stretch")
    with ClipReader(real_clip(name), spec, start_seconds=start, end_seconds=end) as reader:
        chunks = list(reader.chunks(16))
        report = reader.report()
    serving = serving_frames(timestamps, spec.sample_fps, start, end)
    indices = sorted(set(serving))
    assert [n for chunk in chunks for n in chunk.ticks.tolist()] == [serving.count(i) for i in indices]
    for index, frame in zip(indices, np.concatenate([chunk.frames for chunk in chunks]), strict=True):
        here = psnr_db(frame, pictures[index])
        assert here >= MIN_PSNR_DB
        assert here >= max(psnr_db(frame, pictures[i]) for i in (index - 1, index + 1) if 0 <= i < len(pictures))
    assert report.first_seconds == pytest.approx(timestamps[indices[0]], abs=1e-6)
    assert report.last_seconds == pytest.approx(timestamps[indices[-1]], abs=1e-6)
    assert (report.width, report.height, report.time_base) == (width, height, "pts")
    if end == float("inf"):
        assert report.frames_walked == len(pictures)
