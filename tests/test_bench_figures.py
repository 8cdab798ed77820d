"""What the benchmarks make of what they measured: known answers in, known figures out."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.bench import overload, report, sweep
from tests.bench.cuts import FILM_FPS, cut, film, random_lengths
from tests.bench.load import Answer, clips_of
from tests.bench.mixes import Scores
from tests.bench.soak import SHARES
from tests.bench.summary import Quantiles, only_ok, outcomes, rate
from tests.bench.tree import Holdings, MemoryTrace
from tests.server import wait_until

ROOT = Path(__file__).resolve().parents[1]


def answer(
    at: float,
    seconds: float,
    status: int = 200,
    code: str = "",
    header_wait: float | None = None,
    body_wait: float | None = None,
    retry_after: str | None = None,
) -> Answer:
    """One that began `at` and took `seconds`."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Answer(
        "clip", "short", status, code, b"", at, at, seconds, header_wait, body_wait,
        "" if status else "ConnectionResetError", headers,
    )  # fmt: skip


def test_outcomes_rates_and_quantiles() -> None:
    answers = [answer(0.0, 1.0), answer(0.0, 2.0), answer(0.5, 0.1, 429, "busy"), answer(0.5, 0.1, 0)]
    assert outcomes(answers) == {"200": 2, "429 busy": 1, "lost ConnectionResetError": 1}
    assert rate(answers, 0.5, 2.0) == 1 / 1.5, "what ends at the edge belongs to what comes after"
    assert Quantiles.of([]) == Quantiles(0, 0.0, 0.0, 0.0, 0.0)
    quantiles = Quantiles.of(np.arange(101) / 1e3)
    assert (quantiles.p50_ms, quantiles.p95_ms, quantiles.p99_ms, quantiles.worst_ms) == (50.0, 95.0, 99.0, 100.0)
    with pytest.raises(RuntimeError, match=r"idle: not every answer is a 200.*429 busy"):
        only_ok(answers, "idle")


def test_refusals_are_told_apart_by_when_they_came() -> None:
    answers = [
        answer(0, 1, header_wait=0.9, body_wait=0.9),
        answer(0, 1, 429, "busy", header_wait=0.010),
        answer(0, 1, 503, "overloaded", header_wait=0.030),
        answer(0, 1, 429, "busy", header_wait=0.500, body_wait=0.004),
        answer(0, 1, 0),
    ]
    refusals = overload.Refusals.of(answers)
    assert (refusals.received, refusals.lost) == (3, 1)
    assert (refusals.before_body_end.count, refusals.before_body_end.worst_ms) == (2, 30.0)
    assert (refusals.after_body.count, refusals.after_body.worst_ms) == (1, 4.0)


def test_retry_after_is_held_against_the_next_that_was_let_in() -> None:
    answers = [
        answer(0.0, 9.0),
        answer(1.0, 0.0, 429, "busy", retry_after="3"),
        answer(2.0, 0.0, 429, "busy", retry_after="5"),
        answer(4.0, 8.5),
        answer(9.5, 0.0, 429, "busy", retry_after="8"),  # nothing was let in after it
    ]
    patience = overload.Patience.of(answers, ended=10.0)
    assert (patience.retry_after, patience.largest_retry_after, patience.last_retry_after) == (5.0, 8.0, 8.0)
    assert patience.next_accepted == 2.5  # (4 - 1 + 4 - 2) / 2
    assert patience.drained == 2.5


@pytest.mark.parametrize(
    ("probes", "recovered"),
    [
        ([(10.0, 3.0), (13.0, 0.1), (13.2, 0.1)], 3.0),
        ([(10.0, 0.1), (11.0, 3.0), (14.0, 0.1)], 4.0),  # a good one before a bad one is no recovery
        ([(10.0, 0.1), (11.0, 3.0)], None),
        ([(10.0, 0.1), (11.0, 0.2)], 0.0),
    ],
)
def test_recovery_lasts(probes: list[tuple[float, float]], recovered: float | None) -> None:
    found = overload.recovery([answer(at, seconds) for at, seconds in probes], ended=10.0, normal_seconds=0.2)
    assert found == recovered


def test_scores_differ_by_the_largest_of_labels_and_segments() -> None:
    def scores(score: float, segment_score: float, end_seconds: float = 2.0) -> Scores:
        segment = {"label": "a", "score": segment_score, "start_seconds": 0.0, "end_seconds": end_seconds}
        labels = [{"label": "a", "score": score}, {"label": "b", "score": 0.1}]
        return Scores.model_validate({"predictions": labels, "segments": [segment], "receipt": {"cache": "off"}})

    assert scores(0.5, 0.5).difference(scores(0.5, 0.5)) == 0.0
    assert scores(0.5, 0.5).difference(scores(0.25, 0.5)) == 0.25
    assert scores(0.5, 0.5).difference(scores(0.5, 0.75)) == 0.25
    assert scores(0.5, 0.5).difference(scores(0.5, 0.5, end_seconds=3.0)) == float("inf")


def test_cuts_are_as_long_as_asked(tmp_path: Path) -> None:
    [short, long] = cut(tmp_path, clips_of(tmp_path, seed=0, count=2), (0.5, 20.0))
    for clip, seconds in ((short, 0.5), (long, 20.0)):
        reader = cv2.VideoCapture(str(clip.path))
        frames, fps = reader.get(cv2.CAP_PROP_FRAME_COUNT), reader.get(cv2.CAP_PROP_FPS)
        assert seconds - 1e-6 <= frames / fps < seconds + 0.25  # B-frames may add a few
    clips = random_lengths(tmp_path / "many", tmp_path, seed=0, count=9, longest_seconds=1.0)
    assert [clip.name for clip in clips] == [f"short-{number}.mp4" for number in range(9)]


def test_a_film_is_one_video_of_many(tmp_path: Path) -> None:
    reader = cv2.VideoCapture(str(film(tmp_path / "film.mp4", tmp_path, 60.0, width=64, height=48)))
    size = (reader.get(cv2.CAP_PROP_FRAME_WIDTH), reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
    assert (*size, reader.get(cv2.CAP_PROP_FPS)) == (64, 48, FILM_FPS)
    assert 60 * FILM_FPS <= reader.get(cv2.CAP_PROP_FRAME_COUNT) <= 60 * FILM_FPS + 6


def test_what_is_left_behind_is_counted(tmp_path: Path) -> None:
    """A file in the spool, a segment open and mapped, a descriptor and a process."""
    pid = os.getpid()
    before = Holdings.of(pid, tmp_path)
    (tmp_path / "left").touch()
    descriptor = os.memfd_create("left")
    os.ftruncate(descriptor, mmap.PAGESIZE)
    with (
        mmap.mmap(descriptor, mmap.PAGESIZE),
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
    ):
        left = Holdings.of(pid, tmp_path).since(before)
        child.communicate(b"\n")
    os.close(descriptor)
    assert (left.processes, left.memfds, left.spool_files) == (1, 1, 1)
    # The memfd, its duplicate in the mapping, the pipe, and those of the child.
    assert left.descriptors >= 3
    (tmp_path / "left").unlink()
    after = Holdings.of(pid, tmp_path).since(before)
    assert (after.processes, after.memfds, after.spool_files, after.descriptors) == (0, 0, 0, 0)


def test_memory_is_sampled_over_the_tree() -> None:
    """A child that takes 64 MiB when it is told to."""
    script = "input(); grown = bytearray(b'x') * (64 << 20); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin
        with MemoryTrace(child.pid, period_seconds=0.01) as trace:
            wait_until(lambda: trace.samples > 0, "a sample of the child")
            print(file=child.stdin, flush=True)
            wait_until(lambda: trace.use().last_pss >= trace.use().first_pss + 60, "what it took to be seen")
        child.communicate("\n")
    use = trace.use()
    assert use.peak_pss >= use.last_pss
    assert use.peak_rss >= 64
    assert use.pss_per_hour > 0
    assert use.samples == trace.samples > 1


def test_a_rate_runs_from_one_completion_to_the_last() -> None:
    def work(done: Callable[[int], None]) -> None:
        time.sleep(0.01)
        done(5)

    assert 100.0 < sweep.steady([work, work], 0.5) <= 1000.0  # 2 x 5 / 0.01 s where nothing else runs
    with pytest.raises(RuntimeError, match="give no rate"):
        sweep.steady([lambda done: time.sleep(0.05)], 0.05)


def test_a_report_says_what_its_figures_depend_on(tmp_path: Path) -> None:
    found = json.loads(report.write("test", Quantiles.of([0.001]), {"seed": 1}, tmp_path).read_text())
    assert found["results"]["p50_ms"] == 1.0
    assert found["parameters"] == {"seed": 1}
    assert found["machine"]["cores"] >= 1
    assert {"python", "numpy"} <= found["versions"].keys()
    assert found["commit"]


def test_the_kinds_of_a_soak_are_shares() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)
