"""Heavy work has a lower priority than whoever answers."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from service.give_way import give_way
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool

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
