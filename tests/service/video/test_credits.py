"""Turns: never more at once than credits, fair among videos, and a newcomer is next."""

from __future__ import annotations

import threading
import time

import pytest

from service.fairness import Priority
from service.video.credits import Credits, Share
from tests.server import wait_until


def _hold(cores: Credits, share: Share, started: threading.Event, end: threading.Event) -> threading.Thread:
    def run() -> None:
        with cores.turn(share):
            started.set()
            end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _take(cores: Credits, share: Share, order: list[str], name: str) -> threading.Thread:
    def run() -> None:
        with cores.turn(share):
            order.append(name)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("num_credits", [1, 2, 3])
def test_never_more_turns_at_once_than_credits(num_credits: int) -> None:
    cores = Credits(num_credits)
    lock = threading.Lock()
    at_once, most = 0, 0

    def run() -> None:
        nonlocal at_once, most
        share = cores.share()
        for _ in range(20):
            with cores.turn(share):
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                time.sleep(0.001)
                with lock:
                    at_once -= 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == num_credits


def test_the_next_turn_goes_to_the_one_that_has_had_least() -> None:
    cores = Credits(1)
    order: list[str] = []
    shares = {name: cores.share() for name in ("film", "series", "clip")}
    for name, seconds in (("film", 90.0), ("series", 30.0), ("clip", 0.5)):
        shares[name].account.attained = seconds
    started, end = threading.Event(), threading.Event()
    holder = _hold(cores, cores.share(), started, end)
    started.wait()
    threads = [_take(cores, share, order, name) for name, share in shares.items()]
    wait_until(lambda: len(cores._waiting) == 3, "three videos that wait")
    end.set()
    for thread in (holder, *threads):
        thread.join()
    assert order == ["clip", "series", "film"]


def test_a_job_waits_for_what_is_interactive() -> None:
    cores = Credits(1)
    order: list[str] = []
    started, end = threading.Event(), threading.Event()
    holder = _hold(cores, cores.share(), started, end)
    started.wait()
    threads = [_take(cores, cores.share(Priority.JOB), order, "job")]
    wait_until(lambda: len(cores._waiting) == 1, "the job")
    threads.append(_take(cores, cores.share(), order, "clip"))
    wait_until(lambda: len(cores._waiting) == 2, "the clip")
    end.set()
    for thread in (holder, *threads):
        thread.join()
    assert order == ["clip", "job"]


def test_turns_and_waits_are_counted() -> None:
    cores = Credits(1)
    share, other = cores.share(), cores.share()
    started, end = threading.Event(), threading.Event()
    holder = _hold(cores, other, started, end)
    started.wait()
    taker = _take(cores, share, [], "taker")
    wait_until(lambda: len(cores._waiting) == 1, "one video that waits")
    end.set()
    holder.join()
    taker.join()
    assert (share.num_turns, other.num_turns) == (1, 1)
    assert share.waited_seconds > 0
    assert other.busy_seconds > 0


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    cores = Credits(1)
    started, end = threading.Event(), threading.Event()
    holder = _hold(cores, cores.share(), started, end)
    started.wait()

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), cores.turn(cores.share(), cancelled):
        pass
    assert cores._waiting == []
    end.set()
    holder.join()
    with cores.turn(cores.share()):
        assert cores._free == 0
    assert cores._free == 1


def test_a_turn_that_fails_gives_its_credit_back() -> None:
    cores = Credits(1)
    with pytest.raises(ZeroDivisionError), cores.turn(cores.share()):
        _ = 1 / 0
    assert cores._free == 1
