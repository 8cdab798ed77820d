"""The zygote: one thread, ready or refused, and gone with its service."""

from __future__ import annotations

import psutil
import pytest

from service.errors import NotReady
from service.video.errors import DecoderLost
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from service.video.zygote_client import ZygoteClient
from tests.drawn import Drawn
from tests.server import wait_until

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)


def test_it_starts_once_has_one_thread_and_ends() -> None:
    client = ZygoteClient()
    client.start()
    client.start()
    assert client.pid is not None
    zygote = psutil.Process(client.pid)
    assert (zygote.name(), zygote.num_threads()) == ("decode-zygote", 1)
    client.close()
    assert client.pid is None
    assert not zygote.is_running()


def test_one_that_does_not_come_up_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one thread, as an OpenBLAS without our variable has them: it refuses to fork."""
    monkeypatch.setattr("service.video.zygote_client._ONE_THREAD", {"OPENBLAS_NUM_THREADS": "2"})
    client = ZygoteClient()
    with pytest.raises(NotReady, match="do not start"):
        client.start()
    assert client.pid is None


def test_without_a_zygote_a_video_is_lost_and_not_stuck(clip: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.video.zygote_client._ONE_THREAD", {"OPENBLAS_NUM_THREADS": "2"})
    pool = DecodePool(1)
    with pytest.raises(DecoderLost), pool.open(clip.path, SPEC):
        pass
    pool.close()


def test_a_pool_that_was_never_started_starts_at_the_first_video(
    clip: Drawn, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = DecodePool(1)
    with pool.open(clip.path, SPEC) as video:
        next(video.chunks()).release()
    pool.close()
    assert capfd.readouterr() == ("", "")


def test_a_zygote_that_died_idle_is_started_again(clip: Drawn) -> None:
    with DecodePool(1) as pool:
        assert pool.zygote.pid is not None
        first = psutil.Process(pool.zygote.pid)
        first.kill()
        wait_until(lambda: first.status() == psutil.STATUS_ZOMBIE, "the end of the zygote")
        with pool.open(clip.path, SPEC) as video:
            next(video.chunks()).release()
        assert pool.zygote.pid != first.pid
