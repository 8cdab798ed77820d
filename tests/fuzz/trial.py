"""One file through the decode pool: what it is answered, and what no file may ever cause."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from service.errors import ReelserveError
from service.video.errors import DecodeMemory, DecoderCrashed, DecodeTimeout, TooManyFrames, TooShort
from service.video.facts import ProbeFacts
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=25, frame_height=64, frame_width=64)
LIMITS = DecodeLimits(
    max_decode_stall_seconds=10,
    max_decode_seconds=20,
    max_decode_cpu_seconds=20,
    max_decode_memory_bytes=512 * 1024 * 1024,
)
T = TypeVar("T")
OK, OK_DAMAGED, NONE = "ok", "ok, damaged", "none"
# Far beyond what the limits above let a file take, on a machine with other things to do.
_HUNG_SECONDS = 300.0


class Hung(Exception):
    """The limits did not end it."""


@dataclass(frozen=True)
class Answer:
    """result: `ok`, `ok, damaged`, the code of the error, or `none` where a promise is broken.

    pixels: SHA-256 of frames and ticks.
    """

    result: str
    detail: str = ""
    report: DecodeReport | None = None
    pixels: str = ""

    @property
    def depends_on_time(self) -> bool:
        """Whether another run may differ, as the machine was slower or faster."""
        return self.result == DecodeTimeout.code

    @property
    def ended_the_process(self) -> bool:
        """Whether the decode process crashed, or was stopped by a limit of its own."""
        return self.result in (DecoderCrashed.code, DecodeTimeout.code, DecodeMemory.code)


@dataclass(frozen=True)
class Trial:
    """One file's answer, and what is wrong with it: nothing, if all is well."""

    answer: Answer
    seconds: float
    probe: str | None = None
    troubles: tuple[str, ...] = ()


def attempt(pool: DecodePool, path: Path, *, again: bool = False, probe: bool = False) -> Trial:
    """Decode a file; `again` for a second time, which must give the same; `probe` it, which must not contradict."""
    troubles: list[str] = []
    started = time.monotonic()
    answer = _noting(troubles, lambda: decode(pool, path)) or Answer(NONE)
    seconds = time.monotonic() - started
    if again:
        second = _noting(troubles, lambda: decode(pool, path))
        if second and second != answer and not (answer.depends_on_time or second.depends_on_time):
            troubles.append(f"decoded twice, differs: {answer} and {second}")
    found = None
    if probe:
        facts = _noting(troubles, lambda: probed(pool, path))
        found = "none" if facts is None else facts if isinstance(facts, str) else "facts"
        if isinstance(facts, ProbeFacts):
            troubles += _contradictions(answer, facts)
    return Trial(answer, seconds, found, tuple(troubles))


def decode(pool: DecodePool, path: Path, spec: ClipSpec = SPEC) -> Answer:
    """Raises AssertionError for an answer that breaks a promise, Hung, and whatever should never come."""
    digest, ticks = hashlib.sha256(), list[int]()
    frames = 0
    try:
        with pool.open(path, spec, check=_bounded()) as video:
            for chunk in video.chunks():
                assert (chunk.ticks >= 1).all(), "a frame serves no tick"
                digest.update(chunk.frames.tobytes())  # where one chunk ends and the next begins is a matter of time
                frames += len(chunk.frames)
                ticks += chunk.ticks.tolist()
                chunk.release()
            report = video.report()
    except ReelserveError as error:
        return Answer(error.code, _checked(error, path).detail)
    assert (report.frames_used, report.ticks) == (frames, sum(ticks)), "the receipt counts wrongly"
    assert report.frames_used <= report.frames_decoded <= report.frames_walked, "more used than walked"
    assert report.first_seconds <= report.last_seconds < report.duration_seconds, "time runs backwards"
    json.dumps(asdict(report), allow_nan=False)
    digest.update(repr(ticks).encode())
    return Answer(OK_DAMAGED if report.frames_damaged else OK, "", report, digest.hexdigest())


def probed(pool: DecodePool, path: Path) -> ProbeFacts | str:
    """A full probe's facts, or the code of its error. Raises as `decode`."""
    try:
        facts = pool.probe(path, full=True, check=_bounded())
    except ReelserveError as error:
        return _checked(error, path).code
    json.dumps(facts.model_dump(), allow_nan=False)
    return facts


def _contradictions(answer: Answer, facts: ProbeFacts) -> Iterator[str]:
    """What prediction and probe say of the same file."""
    refused = facts.refusal.code if facts.refusal else None
    if answer.report and refused:
        yield f"it decodes, but the probe says {refused}"
    elif answer.report and facts.walk and facts.walk.num_frames != answer.report.frames_walked:
        yield f"{answer.report.frames_walked} frames are walked, the probe says {facts.walk.num_frames}"
    elif not answer.report and refused != answer.result and answer.result not in _NOT_COMPARED:
        yield f"the answer is {answer.result}, the probe says {refused}"


# What the spec asks for, and the probe does not know; what may end one of two; what is a finding already.
_NOT_COMPARED = (TooManyFrames.code, TooShort.code, DecodeTimeout.code, NONE)


def _checked(error: ReelserveError, path: Path) -> ReelserveError:
    assert 400 <= error.status < 500, f"{error.status} {error.code}: {error.detail}"
    assert error.detail, f"{error.code} says nothing"
    assert str(path.parent) not in error.detail, f"the detail names a path: {error.detail}"
    json.dumps([error.detail, error.value, error.limit], allow_nan=False)
    return error


def _bounded() -> Callable[[], None]:
    started = time.monotonic()

    def check() -> None:
        if time.monotonic() - started > _HUNG_SECONDS:
            raise Hung(f"no answer in {_HUNG_SECONDS:g} s")

    return check


def _noting(troubles: list[str], work: Callable[[], T]) -> T | None:
    """Run it; whatever it raises is a finding of the fuzzer."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  (a fuzzer's whole purpose)
        troubles.append(f"{type(error).__name__}: {error}")
        return None


@contextmanager
def written(folder: Path, name: str, data: bytes) -> Iterator[Path]:
    """A file without a suffix, as in the spool; it is gone afterwards."""
    path = folder / name
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()
