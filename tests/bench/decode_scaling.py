"""Two clients at once with two credits, against one client with one: what the second core adds, at 1280 x 720.

Beside it what the machine itself gives: two threads that only grab, against one.
Run: `python -m tests.bench decode-scaling [--rounds N] [--seconds S] [--sides ours,grab]`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import cv2

from tests.bench.decode import grab, make_clip, ours
from tests.bench.slices import Side, alternate, ratio

WIDTH, HEIGHT = 1280, 720
NUM_CLIPS = 2


def at_once(run: Callable[[], int], num_clients: int, num_clips: int) -> Callable[[], int]:
    """A pass in which the clients share `num_clips` clips evenly, so that they end at about the same time."""

    def together() -> int:
        with ThreadPoolExecutor(num_clients) as clients:
            shares = [clients.submit(_several, run, num_clips // num_clients) for _ in range(num_clients)]
            return sum(share.result() for share in shares)

    return together


def main(arguments: list[str]) -> None:
    """Print one line for each side."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench decode-scaling")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a slice; whole passes of two clips")
    parser.add_argument("--sides", default="ours,grab")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    names = options.sides.split(",")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        clip = make_clip(Path(folder), WIDTH, HEIGHT)
        sides = []
        for name in names:
            for num_clients in (1, 2):
                run = stack.enter_context(ours(clip, num_clients)) if name == "ours" else lambda: grab(clip)
                sides.append(Side(f"{name} x {num_clients}", at_once(run, num_clients, NUM_CLIPS)))
        rates = alternate(sides, options.rounds, options.seconds)
    print(f"{WIDTH}x{HEIGHT}: {options.rounds} rounds of slices of {options.seconds:g} s; median ratio [quartiles]")
    for name in names:
        one, two = rates[f"{name} x 1"], rates[f"{name} x 2"]
        print(
            f"{name:<6}{statistics.median(one):>6.0f} frames/s with one client, {statistics.median(two):.0f} with two: "
            f"{ratio(two, one)}"
        )


def _several(run: Callable[[], int], times: int) -> int:
    return sum(run() for _ in range(times))
