"""Our frames at each tick against the one that FFmpeg shows at that time: `python -m tests.timings`.

Each of `tests.timing_cases` is drawn, with its number in every frame, decoded by PyAV, which gives frames and times,
and sampled by us: at a rate drawn at random, whole, and from and to times drawn at random. A tick t_k = origin +
k / sample_fps is right with the last frame at or before t_k + 1 ms, times counting from the first frame that is shown;
the last one is shown until its end.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from service.errors import ReelserveError
from service.video.decode import ClipReader
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.drawn import read_index
from tests.timing_cases import CASES, HEIGHT, WIDTH, Case

TOLERANCE_SECONDS = 1e-3
# A tick so near to the time at which the next frame takes over belongs to either.
_TIE_SECONDS = 1e-5
_SAMPLE_FPS = (1.0, 2.0, 4.0, 5.0, 8.0, 12.5, 24.0, 30.0)


@dataclass(frozen=True)
class Truth:
    """By PyAV: times of frames from the first one's, and the number that each bears; when the last one's showing ends,
    at the earliest and at the latest; how long the stream is by `ffprobe`'s rules, nan where that is no length."""

    seconds: tuple[float, ...]
    indices: tuple[int, ...]
    earliest_end: float
    latest_end: float
    duration_seconds: float

    @property
    def step_seconds(self) -> float:
        """From one frame to the next, in the mean."""
        return self.seconds[-1] / max(len(self.seconds) - 1, 1)

    def is_as_long(self, seconds: float) -> bool:
        """Within a frame; where `ffprobe` counts from the first decoding time, or drops a hold, the end will do."""
        may_be = [
            self.earliest_end,
            self.latest_end,
            *([] if math.isnan(self.duration_seconds) else [self.duration_seconds]),
        ]
        return min(may_be) - self.step_seconds <= seconds <= max(may_be) + self.step_seconds

    def at(self, tick_seconds: float) -> set[int]:
        """The numbers of the frames that may be shown: one, but for ties and what lies between two ends."""
        latest = tick_seconds + TOLERANCE_SECONDS
        if latest >= self.latest_end + _TIE_SECONDS:
            return set()
        around = (bisect_right(self.seconds, latest + shift) - 1 for shift in (-_TIE_SECONDS, _TIE_SECONDS))
        return {self.indices[max(each, 0)] for each in around}


@dataclass(frozen=True)
class Sampled:
    """The number that each tick's frame bears, and the report."""

    indices: tuple[int, ...]
    report: DecodeReport


@dataclass(frozen=True)
class Judged:
    """wrong: ticks that got another frame, were missing or too many. faults: in words."""

    case: Case
    ticks: int
    wrong: int
    is_long_wrong: bool
    faults: tuple[str, ...]


def truth(case: Case, path: Path) -> Truth:
    """Decode with PyAV."""
    seconds, indices, lasting = [], [], {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            lasting[packet.pts] = float((packet.duration or 0) * packet.time_base)
            for frame in packet.decode():
                assert frame.pts is not None
                assert frame.time_base is not None
                seconds.append(float(frame.pts * frame.time_base))
                indices.append(read_index(frame.to_ndarray(format="rgb24")))  # type: ignore[arg-type]
                last = lasting.get(frame.pts, 0.0)
        nominal = 1 / float(stream.average_rate or stream.base_rate or 25)
        duration = _duration(container, stream, seconds[0])
    times = tuple(each - seconds[0] for each in seconds)
    if case.says_last:
        # MP4 has durations in the order of decoding: where frames change places, the last one's may be another's. An
        # edit may end before its last frame does.
        ends = [times[-1] + last, *[duration] * bool(stream.duration and (case.edits or case.b_frames))]
    else:
        steps = (case.last_seconds, nominal, 2 * times[-1] / max(len(times) - 1, 1))
        ends = [times[-1] + TOLERANCE_SECONDS, times[-1] + max(steps), duration + nominal / 2]
    ends = [end for end in ends if end > times[-1]]
    return Truth(times, tuple(indices), min(ends), max(ends), duration)


def _duration(container: av.container.InputContainer, stream: av.VideoStream, first: float) -> float:
    """The stream's own, where the file has it; else the file's, from the first frame on."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None:
        return math.nan
    counts_from_zero = container.format.name in ("flv", "matroska,webm")
    start = 0.0 if counts_from_zero else (container.start_time or 0) / av.time_base
    return container.duration / av.time_base + start - first


def sample(path: Path, sample_fps: float, start: float = 0.0, end: float = math.inf) -> Sampled:
    """By us."""
    spec = ClipSpec(sample_fps=sample_fps, frame_height=HEIGHT, frame_width=WIDTH, resize="stretch")
    indices: list[int] = []
    with ClipReader(path, spec, start_seconds=start, end_seconds=end) as reader:
        for chunk in reader.chunks(16):
            for frame, ticks in zip(chunk.frames, chunk.ticks, strict=True):
                indices += [read_index(frame)] * int(ticks)
        return Sampled(tuple(indices), reader.report())


def compare(true: Truth, sampled: Sampled, sample_fps: float, start: float, end: float) -> tuple[int, int, list[str]]:
    """Ticks that ought to be, those that are wrong, and what is wrong with the first one, in words."""
    origin = sampled.report.origin_seconds
    if abs(origin - start) > TOLERANCE_SECONDS:
        return len(sampled.indices), len(sampled.indices), [f"the grid begins at {origin:.3f} s, not at {start:.3f}"]
    wrong, faults = 0, []
    for tick, index in enumerate(sampled.indices):
        at = start + tick / sample_fps
        right = true.at(at) if at < end else set()
        if index not in right:
            wrong += 1
            faults.append(f"at {at:.3f} s frame {index}, not {', '.join(map(str, right)) or 'none'}")
    until = min(true.earliest_end, end) - TOLERANCE_SECONDS - _TIE_SECONDS
    due = max(0, math.ceil((until - start) * sample_fps))
    if missing := max(0, due - len(sampled.indices)):
        faults.append(f"{missing} ticks are missing from {start + len(sampled.indices) / sample_fps:.3f} s on")
    return max(due, len(sampled.indices)), wrong + missing, faults[:1]


def judge(case: Case, folder: Path, parts: int = 1) -> Judged:
    """Draw, decode, sample whole and in parts, compare."""
    path = case.draw(folder).path
    true = truth(case, path)
    rng = case.rng("rates")
    ticks = wrong = 0
    faults: list[str] = []
    is_long_wrong = False
    for part in range(1 + parts):
        sample_fps = float(rng.choice(_SAMPLE_FPS))
        start, end = (0.0, math.inf) if part == 0 else _part(rng, true, sample_fps)
        try:
            sampled = sample(path, sample_fps, start, end)
        except ReelserveError as error:
            return Judged(case, 1, 1, True, (f"refused, {error.code}: {error.detail}",))
        due, off, words = compare(true, sampled, sample_fps, start, end)
        ticks, wrong = ticks + due, wrong + off
        faults += [f"{each} ({sample_fps:g} a second, from {start:.2f} to {end:.2f})" for each in words]
        if part == 0:
            said = sampled.report.duration_seconds
            is_long_wrong = not true.is_as_long(said)
            if is_long_wrong:
                faults.append(f"{said:.3f} s long, ffprobe says {true.duration_seconds:.3f}")
            faults += [f"warning: {each}" for each in sampled.report.warnings if "cut short" in each]
    return Judged(case, ticks, wrong, is_long_wrong, tuple(faults))


def _part(rng: np.random.Generator, true: Truth, sample_fps: float) -> tuple[float, float]:
    """Long enough for a tick, and off all frames."""
    whole = true.earliest_end
    start = round(float(rng.uniform(0, 0.7 * whole)), 3)
    return start, round(min(start + 1.5 / sample_fps + float(rng.uniform(0, 0.6)) * whole, whole + 1.0), 3)


def report(found: Sequence[Judged]) -> str:
    """All figures in words."""
    lines = [
        f"{len(found)} files of variable rate, {sum(each.ticks for each in found)} ticks; "
        f"{sum(each.wrong for each in found)} got another frame than FFmpeg shows then, "
        f"in {sum(each.wrong > 0 for each in found)} files",
        f"{sum(each.is_long_wrong for each in found)} files with a duration that is off ffprobe's by more than a frame",
    ]
    for each in found:
        if each.faults:
            lines.append(f"  {each.case}: {each.wrong} of {each.ticks} ticks")
            lines += [f"    {words}" for words in each.faults]
    return "\n".join(lines)


def main() -> None:
    """Judge all and print; the exit status says whether all is right."""
    flags = argparse.ArgumentParser(prog="python -m tests.timings", description=__doc__)
    flags.add_argument("--only", default="", help="those with this word in their name")
    flags.add_argument("--parts", type=int, default=3, help="cuts at random, of each file")
    flags.add_argument("--rounds", type=int, default=1, help="of all files, each with times of its own")
    options = flags.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = [
            judge(replace(case, seed=seed), Path(folder), options.parts)
            for seed in range(options.rounds)
            for case in CASES
            if options.only in str(case)
        ]
    print(report(found))
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(any(each.wrong or each.is_long_wrong for each in found))


if __name__ == "__main__":
    main()
