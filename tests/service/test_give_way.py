"""Heavy work has a lower priority than whoever answers."""

from __future__ import annotations

import os
import sys
import threading

import psutil
import pytest

from service.fairness import Priority
from service.give_way import JOB_NICE, NICE, give_way
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import Drawn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a nice value for each thread")


def _nice(task: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, task)


def test_only_the_calling_thread_gives_way() -> None:
    before, found = _nice(0), []

    def work() -> None:
        give_way()
        found.append(_nice(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [5]
    assert _nice(os.getpid()) == before


def test_the_decoders_give_way() -> None:
    with DecodePool(1, DecodeLimits()) as pool:
        assert pool.zygote.pid is not None
        assert _nice(pool.zygote.pid) >= 5


def test_decoders_of_jobs_give_way_to_all_others(long_clip: Drawn) -> None:
    spec = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
    with DecodePool(2, DecodeLimits()) as pool:
        zygote = psutil.Process(pool.zygote.pid)
        for _ in range(2):  # the second time by those that are there already
            with (
                pool.open(long_clip.path, spec, priority=Priority.JOB) as job,
                pool.open(long_clip.path, spec) as clip,
            ):
                assert sorted(_nice(decoder.pid) for decoder in zygote.children()) == [NICE, JOB_NICE]
                for opened in (job, clip):
                    for chunk in opened.chunks():
                        chunk.release()
        assert JOB_NICE == 19


def test_nobody_waits_for_a_turn_of_a_job_s_decoder(long_clip: Drawn) -> None:
    """At its nice value it may hold one for long."""
    spec = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
    with (
        DecodePool(1, DecodeLimits()) as pool,
        pool.open(long_clip.path, spec, priority=Priority.JOB) as job,
        job._credits.turn(job._share),
        pool.open(long_clip.path, spec) as clip,
    ):
        num_frames = 0
        for chunk in clip.chunks():
            num_frames += len(chunk.frames)
            chunk.release()
        assert num_frames > 0
