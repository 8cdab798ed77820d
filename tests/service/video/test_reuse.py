"""A decode process takes another video only after one that left no trace in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.errors import Cancelled
from service.video.decoder import _MAX_VIDEOS
from service.video.errors import DecoderCrashed, NotAVideo, TooManyFrames
from service.video.limits import DecodeLimits
from service.video.open_video import OpenVideo
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.decoders import idle_decoders, open_descriptors
from tests.drawn import Drawn, draw
from tests.server import wait_until
from tests.service.video.test_pool import read, read_here

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
OTHER_SPEC = ClipSpec(sample_fps=4, frame_height=48, frame_width=32, resize="stretch")


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    with DecodePool(num_credits=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Drawn]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        draw(folder / f"{number}.mp4", num_frames=frames, width=width, height=height)
        for number, (frames, width, height) in enumerate([(40, 160, 120), (90, 320, 240), (12, 64, 64), (60, 240, 320)])
    ]


def decoder_of(pool: DecodePool) -> psutil.Process:
    """The one process there is, at work or waiting: a short clip may be done when its pool's `open` returns."""
    assert pool.zygote.pid is not None
    zygote = psutil.Process(pool.zygote.pid)
    found: list[psutil.Process] = []

    def is_alone() -> bool:
        found[:] = zygote.children()  # looked at once: the next look may come between one's end and another's start
        return len(found) == 1

    wait_until(is_alone, "the end of other processes")
    return found[0]


def pid_of(pool: DecodePool, path: Path, spec: ClipSpec = SPEC) -> int:
    """Read a whole video, hold it against one decoded in this process; returns its decoder's pid."""
    with pool.open(path, spec) as video:
        pid = decoder_of(pool).pid
        frames, ticks = read(video)
    expected, expected_ticks, report = read_here(path, spec)
    np.testing.assert_array_equal(frames, expected)
    assert (ticks, video.report()) == (expected_ticks, report)
    return pid


def test_clean_videos_share_a_process_and_nothing_else(pool: DecodePool, clips: list[Drawn]) -> None:
    pids = {pid_of(pool, clip.path, spec) for clip in clips * 3 for spec in (SPEC, OTHER_SPEC)}
    assert len(pids) == 1


def test_a_damaged_video_ends_its_process(pool: DecodePool, clips: list[Drawn], tmp_path: Path) -> None:
    content = bytearray(clips[1].path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = os.urandom(400)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    before = pid_of(pool, clips[0].path)
    with pool.open(damaged, SPEC) as video:
        assert decoder_of(pool).pid == before
        read(video)
    assert video.report().warnings
    assert pid_of(pool, clips[0].path) != before


def test_a_refused_video_ends_its_process(pool: DecodePool, clips: list[Drawn], tmp_path: Path) -> None:
    before = pid_of(pool, clips[0].path)
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"no video" * 1000)
    with pytest.raises(NotAVideo), pool.open(nothing, SPEC):
        pass
    assert pid_of(pool, clips[0].path) != before


def test_an_aborted_video_ends_its_process(pool: DecodePool, clips: list[Drawn]) -> None:
    before = pid_of(pool, clips[0].path)
    gone = Cancelled("the client went away")
    with pytest.raises(Cancelled), pool.open(clips[1].path, SPEC):
        raise gone
    assert pid_of(pool, clips[0].path) != before
    assert pool.probe(clips[0].path).decodable


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_waiting_process_that_is_killed_costs_no_video(
    pool: DecodePool, clips: list[Drawn], number: signal.Signals
) -> None:
    before = pid_of(pool, clips[0].path)
    wait_until(lambda: len(idle_decoders(pool.zygote.pid)) == 1, "the process that waits")
    os.kill(before, number)
    assert pid_of(pool, clips[1].path) != before


def test_limits_are_each_video_s_own(clips: list[Drawn]) -> None:
    limits = replace(DecodeLimits(), max_frames_walked=50, max_decode_cpu_seconds=7)
    with DecodePool(1, limits) as pool:
        for _ in range(3):  # 120 frames in all
            pid = pid_of(pool, clips[0].path)
        with pool.open(clips[2].path, SPEC) as video:
            decoder = decoder_of(pool)
            assert decoder.pid == pid
            used = sum(decoder.cpu_times()[:2])
            assert used + 6 < decoder.rlimit(psutil.RLIMIT_CPU)[0] <= used + 9
            read(video)
        with pytest.raises(TooManyFrames), pool.open(clips[1].path, SPEC) as video:
            read(video)


def test_a_process_is_not_kept_for_ever(pool: DecodePool, clips: list[Drawn]) -> None:
    """What a decoder leaks is bounded."""
    pids = {pid_of(pool, clips[2].path) for _ in range(_MAX_VIDEOS - 1)}
    assert len(pids) == 1
    with pool.open(clips[2].path, SPEC) as last:
        read(last)  # its process ends, maybe before anybody can look at it
    assert pid_of(pool, clips[2].path) not in pids


def test_no_descriptor_is_left_on_either_side(pool: DecodePool, clips: list[Drawn]) -> None:
    pid_of(pool, clips[0].path)
    wait_until(lambda: len(idle_decoders(pool.zygote.pid)) == 1, "the process that waits")
    [waiting] = idle_decoders(pool.zygote.pid)
    ours, theirs = open_descriptors(), waiting.num_fds()
    for clip in clips * 4:
        pid_of(pool, clip.path)
    wait_until(lambda: len(idle_decoders(pool.zygote.pid)) == 1, "the process that waits")
    assert idle_decoders(pool.zygote.pid) == [waiting]
    assert (open_descriptors(), waiting.num_fds()) == (ours, theirs)


def test_no_more_wait_than_may_work(clips: list[Drawn]) -> None:
    with DecodePool(num_credits=2) as pool:
        videos = [pool.open(clips[0].path, SPEC) for _ in range(5)]
        for video in videos:
            video.__enter__()
        for video in videos:
            read(video)
            video.__exit__(None, None, None)
        wait_until(lambda: len(idle_decoders(pool.zygote.pid)) == 2, "two processes that wait")
        pool.end_idle()
        wait_until(lambda: not idle_decoders(pool.zygote.pid), "their end")


def test_a_crash_in_a_process_that_had_another_video_is_not_this_video_s(pool: DecodePool, clips: list[Drawn]) -> None:
    """It is decoded once more, in a fresh process; there a crash is its own."""
    film = clips[1].path
    before = pid_of(pool, clips[0].path)
    slow = ClipSpec(sample_fps=25, frame_height=64, frame_width=64)  # more than one turn's frames
    expected, _, _ = read_here(film, slow)
    with pool.open(film, slow) as video:
        assert decoder_of(pool).pid == before
        os.kill(before, signal.SIGSEGV)
        frames, _ = read(video)
        np.testing.assert_array_equal(frames, expected)
    with pool.open(film, slow) as video, pytest.raises(DecoderCrashed):
        _read_while_it_is_killed(video, pool)


def _read_while_it_is_killed(video: OpenVideo, pool: DecodePool) -> None:
    for chunk in video.chunks():
        chunk.release()
        os.kill(decoder_of(pool).pid, signal.SIGSEGV)
