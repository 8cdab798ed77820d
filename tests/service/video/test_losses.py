"""Decode processes that crash, hang, overrun or are killed: one video pays, at most, and nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.video.credits import _SHORT_SECONDS, Credits, Share
from service.video.errors import DecodeMemory, DecoderCrashed, DecoderLost, DecodeTimeout
from service.video.limits import DecodeLimits
from service.video.open_video import OpenVideo
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.decoders import decoders, only_decoder, open_descriptors, wait_for_no_decoder
from tests.drawn import Drawn
from tests.long_clips import loop, moving
from tests.server import ROOT, wait_until
from tests.service.video.test_pool import read, read_here

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours."""
    folder = tmp_path_factory.mktemp("film")
    source = moving(folder / "source.mp4", 320, 240, crf=32)
    return loop(source, folder / "film.mp4", 7200.0)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1080p, 20 frames."""
    return moving(tmp_path_factory.mktemp("large") / "large.mp4", 1920, 1080, num_frames=20)


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    with DecodePool(num_credits=2) as opened:
        yield opened


def _limited(**limits: float) -> DecodePool:
    return DecodePool(2, replace(DecodeLimits(), **limits))  # type: ignore[arg-type]


def _exhaust(video: OpenVideo) -> None:
    for chunk in video.chunks():
        chunk.release()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_decode_seconds": 0.2}, "max_decode_seconds"),
        ({"max_decode_cpu_seconds": 1}, "max_decode_cpu_seconds"),
    ],
)
def test_a_film_overruns_its_time(film: Path, limits: dict[str, float], words: str) -> None:
    with _limited(**limits) as pool:
        with pytest.raises(DecodeTimeout, match=words) as caught, pool.open(film, SPEC) as video:
            _exhaust(video)
        wait_for_no_decoder(pool)
    assert (caught.value.status, caught.value.code) == (422, "decode_timeout")
    assert isinstance(caught.value.value, float)
    assert caught.value.value >= 0.9 * next(iter(limits.values()))  # the kernel counts in ticks


def test_waiting_for_the_consumer_is_no_overrun(long_clip: Drawn) -> None:
    """Only turns count: the clip is decoded in far less than it lies open."""
    with _limited(max_decode_seconds=30.0) as pool, pool.open(long_clip.path, SPEC) as video:
        chunks = video.chunks()
        next(chunks).release()
        before = video.busy_seconds
        wait_until(lambda: only_decoder(pool).status() == "sleeping", "a decoder without a turn")
        assert video.busy_seconds == before


def test_a_hang_is_killed(film: Path) -> None:
    with _limited(max_decode_stall_seconds=0.5) as pool:
        with pool.open(film, SPEC) as video:
            chunks = video.chunks()
            next(chunks).release()
            only_decoder(pool).suspend()
            with pytest.raises(DecodeTimeout, match="max_decode_stall_seconds"):
                next(chunks)
        wait_for_no_decoder(pool)


def test_memory_is_bounded(large: Path) -> None:
    with _limited(max_decode_memory_bytes=24 * 1024 * 1024) as pool:
        with pytest.raises(DecodeMemory, match="max_decode_memory_bytes") as caught, pool.open(large, SPEC) as video:
            _exhaust(video)
        wait_for_no_decoder(pool)
    assert caught.value.limit == 24 * 1024 * 1024


def test_the_bounds_of_a_decode_process(pool: DecodePool, film: Path) -> None:
    with pool.open(film, SPEC) as video:
        next(video.chunks()).release()
        decoder = only_decoder(pool)
        assert decoder.name() == "decoder"
        assert decoder.rlimit(psutil.RLIMIT_NOFILE)[0] == 0, "what is open stays, and that is all"
        assert decoder.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert decoder.rlimit(psutil.RLIMIT_CPU)[0] - DecodeLimits().max_decode_cpu_seconds in (0, 1)  # whole seconds
        assert decoder.rlimit(psutil.RLIMIT_AS)[0] > DecodeLimits().max_decode_memory_bytes
        wait_until(lambda: decoder.num_threads() == 1, "the end of FFmpeg's threads")  # joined, and still listed
        assert Path(f"/proc/{decoder.pid}/oom_score_adj").read_text() == "1000\n"
        names = {Path(f.path).name for f in decoder.open_files()}
        assert {name for name in names if name.endswith(".mp4")} == {"film.mp4"}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_a_crash_costs_one_video(pool: DecodePool, film: Path, long_clip: Drawn, number: signal.Signals) -> None:
    expected, _, _ = read_here(long_clip.path)
    with pool.open(film, SPEC) as video:
        chunks = video.chunks()
        next(chunks).release()
        victim = only_decoder(pool)
        with pool.open(long_clip.path, SPEC) as other:
            victim.send_signal(number)
            with pytest.raises(DecoderCrashed, match=number.name) as caught:
                _exhaust(video)
            np.testing.assert_array_equal(read(other)[0], expected)
    assert (caught.value.status, caught.value.code, caught.value.value) == (422, "decoder_crashed", number.name)
    wait_for_no_decoder(pool)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_one_loss_is_made_good(pool: DecodePool, long_clip: Drawn, after: int) -> None:
    """The one that takes its place gives the same frames, without those that were delivered already."""
    expected, ticks, report = read_here(long_clip.path)
    with pool.open(long_clip.path, SPEC) as video:
        chunks = video.chunks()
        frames, given = [], []
        for number, chunk in enumerate(chunks):
            frames.append(chunk.frames.copy())
            given += chunk.ticks.tolist()
            chunk.release()
            if number == after:
                only_decoder(pool).kill()
    np.testing.assert_array_equal(np.concatenate(frames), expected)
    assert (given, video.report()) == (ticks, report)
    wait_for_no_decoder(pool)


def test_a_second_loss_is_told(pool: DecodePool, film: Path) -> None:
    with pool.open(film, SPEC) as video:
        chunks = video.chunks()
        next(chunks).release()
        only_decoder(pool).kill()
        next(chunks).release()
        only_decoder(pool).kill()
        with pytest.raises(DecoderLost) as caught:
            _exhaust(video)
    assert (caught.value.status, caught.value.code) == (503, "decoder_lost")
    assert caught.value.retry_after_seconds
    wait_for_no_decoder(pool)


def test_the_loss_of_the_zygote_is_made_good(pool: DecodePool, long_clip: Drawn) -> None:
    expected, _, _ = read_here(long_clip.path)
    with pool.open(long_clip.path, SPEC) as video, pool.open(long_clip.path, SPEC) as other:
        chunks = video.chunks()
        first = next(chunks)
        lost = pool.zygote.pid
        assert lost is not None
        orphans = decoders(lost)
        psutil.Process(lost).kill()
        _, alive = psutil.wait_procs(orphans, timeout=60)
        assert not alive, "they end with their parent"
        frames = [first.frames.copy()]
        first.release()
        for chunk in chunks:
            frames.append(chunk.frames.copy())
            chunk.release()
        np.testing.assert_array_equal(np.concatenate(frames), expected)
        np.testing.assert_array_equal(read(other)[0], expected)
    assert pool.zygote.pid != lost


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_are_left_to_the_service(
    pool: DecodePool, long_clip: Drawn, number: signal.Signals
) -> None:
    """Ctrl-C reaches every process of the terminal; who drains requests needs his decoders until then."""
    expected, _, _ = read_here(long_clip.path)
    with pool.open(long_clip.path, SPEC) as video:
        only_decoder(pool).send_signal(number)
        assert pool.zygote.pid is not None
        psutil.Process(pool.zygote.pid).send_signal(number)
        np.testing.assert_array_equal(read(video)[0], expected)


_SERVICE = """
import sys, time
from pathlib import Path
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
pool = DecodePool(2)
videos = [pool.open(Path(sys.argv[1]), ClipSpec(sample_fps=8, frame_height=64, frame_width=64)) for _ in range(3)]
for video in videos:
    video.__enter__()
chunks = [video.chunks() for video in videos]
held = [next(each) for each in chunks]
print(pool.zygote.pid, flush=True)
while True:
    next(chunks[0]).release()
"""


def test_nothing_outlives_a_killed_service(film: Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", _SERVICE, str(film)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert service.stdout
    with service.stdout as out:
        zygote = psutil.Process(int(out.readline()))
        left = [zygote, *zygote.children()]
        assert len(left) == 4
        service.kill()
        service.wait()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive


def test_closing_the_pool_ends_everything(film: Path) -> None:
    before = open_descriptors()
    pool = DecodePool(1)
    with pool, pool.open(film, SPEC) as video:
        next(video.chunks())
        zygote = psutil.Process(pool.zygote.pid)
        left = [zygote, *zygote.children()]
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive
    del video
    assert open_descriptors() <= before


class _Counted(Credits):
    """Counts, for each turn of each video, the turns that others began while it waited."""

    def __init__(self, num_credits: int) -> None:
        super().__init__(num_credits)
        self.passed: dict[Share, list[int]] = {}
        self._begun = 0

    @contextmanager
    def turn(self, share: Share, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        before = self._begun
        with super().turn(share, check):
            self.passed.setdefault(share, []).append(self._begun - before)
            self._begun += 1
            yield


def test_a_newcomer_waits_for_one_turn_at_most(film: Path, clip: Drawn) -> None:
    """With four two-hour videos decoding on two cores, a two-second clip waits for what is running, not for the queue.

    Counted in turns, as time is the machine's; the median of tries, as the oldest video has a guaranteed share.
    """
    passed = []
    with DecodePool(num_credits=2) as pool:
        pool.credits = counted = _Counted(2)
        stop = threading.Event()

        def watch() -> None:
            with pool.open(film, SPEC) as video:
                for chunk in video.chunks():
                    chunk.release()
                    if stop.is_set():
                        return

        threads = [threading.Thread(target=watch) for _ in range(4)]
        for thread in threads:
            thread.start()
        # Until then they are as new as the newcomer, and came before.
        wait_until(
            lambda: (
                len(counted.passed) == 4
                and all(film.busy_seconds > 2 * _SHORT_SECONDS for film in list(counted.passed))
            ),
            "four films that have had their share",
        )
        films = list(counted.passed)
        for _ in range(9):
            with pool.open(clip.path, SPEC) as video:
                next(video.chunks()).release()
                passed += counted.passed[video._share]
        stop.set()
        for thread in threads:
            thread.join()
        waited = [turns for share in films for turns in counted.passed[share]]
    print(f"turns of others: newcomers {passed}; films on average {sum(waited) / len(waited):.1f}")
    assert sorted(passed)[len(passed) // 2] <= 1
    assert sum(waited) / len(waited) > 1  # else nobody had to wait, and nothing is shown
