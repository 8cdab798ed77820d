"""The looped clips are what they claim: length, rising times over every seam, and the source's pictures anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.drawn import draw, read_index
from tests.long_clips import loop, moving

NUM_FRAMES, FPS = 50, 25
STEP = 1 / FPS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds whose frames carry their index, with B-frames."""
    return draw(tmp_path_factory.mktemp("loop") / "source.mp4", NUM_FRAMES, FPS, 160, 120, b_frames=3).path


def decoded(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    """Times in seconds and RGB pictures, by PyAV."""
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    return [frame.time for frame in frames], [picture(frame) for frame in frames]


def picture(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(height, width, 3), RGB."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def packet_times(path: Path) -> tuple[list[int], list[int]]:
    """PTS and DTS of an MP4, in the order of the file."""
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    pts, dts = [packet.pts for packet in packets], [packet.dts for packet in packets]
    assert None not in (*pts, *dts)
    return cast(list[int], pts), cast(list[int], dts)


def test_the_source_has_b_frames(source: Path) -> None:
    pts, _ = packet_times(source)
    assert pts != sorted(pts)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_whole_passes(source: Path, suffix: str, tmp_path: Path) -> None:
    path = loop(source, tmp_path / f"long{suffix}", 8.0)
    times, pictures = decoded(path)
    assert [read_index(shown) for shown in pictures] == 4 * list(range(NUM_FRAMES))
    # Matroska counts milliseconds.
    np.testing.assert_allclose(times, np.arange(200) * STEP, atol=0.0011)
    with av.open(path) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(8.0, abs=STEP)


def test_decoding_times_rise_over_every_seam(source: Path, tmp_path: Path) -> None:
    pts, dts = packet_times(loop(source, tmp_path / "long.mp4", 8.0))
    assert np.all(np.diff(dts) > 0)
    assert np.all(np.array(pts) >= dts)


@pytest.mark.parametrize("seconds", [0.04, 1.5, 2.0, 2.04, 3.96, 5.3])
def test_cut_where_no_frame_is_missing(source: Path, seconds: float, tmp_path: Path) -> None:
    times, pictures = decoded(loop(source, tmp_path / "cut.mp4", seconds))
    np.testing.assert_allclose(times, np.arange(len(times)) * STEP, atol=1e-6)
    assert [read_index(shown) for shown in pictures] == [index % NUM_FRAMES for index in range(len(times))]
    assert seconds - 1e-6 <= times[-1] + STEP <= seconds + 4.5 * STEP  # at most a mini-GOP: 3 B-frames and a P


def test_opencv_walks_over_every_seam(source: Path, tmp_path: Path) -> None:
    path = loop(source, tmp_path / "long.mp4", 60.0)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    times: list[float] = []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if len(times) % NUM_FRAMES in (1, 7, 0):  # both sides of each seam, and between them
            bgr = capture.retrieve()[1]
            assert read_index(np.asarray(bgr[:, :, ::-1], np.uint8)) == (len(times) - 1) % NUM_FRAMES
    capture.release()
    np.testing.assert_allclose(times, np.arange(1500) * STEP, atol=1e-6)


def test_hours_are_cheap_and_can_be_sought(source: Path, tmp_path: Path) -> None:
    path = loop(source, tmp_path / "hours.mp4", 7200.0)
    assert path.stat().st_size < 200_000_000
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.frames, len(container.streams)) == (7200 * FPS, 1)
        tick = float(stream.time_base or 0)
        assert (stream.duration or 0) * tick == pytest.approx(7200.0)
        for second in (2, 3600, 7198):  # each the start of a pass: a key frame
            container.seek(round(second / tick), stream=stream)
            frame = next(container.decode(stream))
            assert (frame.time, read_index(picture(frame))) == (second, 0)


def test_moving_writes_the_same_bytes_whatever_the_memory_held(tmp_path: Path) -> None:
    paths = [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    for path in paths:
        code = f"from pathlib import Path; from tests.long_clips import moving; moving(Path({str(path)!r}), 320, 240)"
        # glibc: what malloc hands out is filled with the complement of this byte, not where it is 0.
        environment = {**os.environ, "MALLOC_PERTURB_": path.stem}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_moving_is_real_content_at_any_size(tmp_path: Path) -> None:
    path = moving(tmp_path / "clip.mp4", 320, 240, 140)
    times, pictures = decoded(path)
    np.testing.assert_allclose(times, np.arange(140) / 25, atol=1e-6)  # 132 of the clip, then its first 8 again
    assert {shown.shape for shown in pictures} == {(240, 320, 3)}
    assert pictures[60].std() > 20
    assert np.abs(pictures[100].astype(int) - pictures[60]).mean() > 2
    pts, _ = packet_times(path)
    assert pts != sorted(pts)
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]
