"""What is wrong with a video, and what is merely worth knowing. A pure function of its facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.video.cost import num_ticks
from service.video.facts import ProbeFacts, Walk
from service.video.hdr import became_of
from service.video.limits import DecodeLimits
from service.video.spec import ClipSpec

# A header's duration may be a rounded one, or that of a longer sound track.
_DURATION_SECONDS, _DURATION_SHARE = 0.5, 0.05
# A count is often made of duration and rate.
_COUNT_FRAMES, _COUNT_SHARE = 2, 0.02
# MPEG program streams lose the timestamp of their last frame; more than that is broken.
_LOST_TIMESTAMPS = 1
# Encoders put an I picture every 10 s or so by default (x264: 250 frames).
_SPARSE_SECONDS = 15.0

Severity = Literal["error", "warning", "info"]


class Finding(BaseModel):
    """One thing about a file. error: a prediction will be refused; warning: it works, look at it; info: no harm.

    code: of an error the `code` of the prediction's answer. message: the value, what was expected, what follows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    severity: Severity = Field(description="error: refused; warning: it works, but look; info: no harm.")
    message: str


def find(facts: ProbeFacts, limits: DecodeLimits, spec: ClipSpec | None = None) -> list[Finding]:
    """All there is to say, the gravest first; with a spec also what its model asks for. Nothing for a clean file."""
    found = [
        *_refused(facts),
        *_length(facts, limits),
        *(_model(facts, limits, spec) if spec else ()),
        *_damaged(facts),
        *_picture(facts),
        *_header(facts),
        *_timing(facts.walk),
    ]
    order = ("error", "warning", "info")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _error(code: str, message: str) -> Finding:
    return Finding(code=code, severity="error", message=message)


def _warning(code: str, message: str) -> Finding:
    return Finding(code=code, severity="warning", message=message)


def _info(code: str, message: str) -> Finding:
    return Finding(code=code, severity="info", message=message)


def _refused(facts: ProbeFacts) -> Iterator[Finding]:
    if facts.refusal:
        yield _error(facts.refusal.code, facts.refusal.detail)


def _length(facts: ProbeFacts, limits: DecodeLimits) -> Iterator[Finding]:
    """By the header; a walk that met a limit has it as its refusal."""
    promised = facts.header
    if facts.walk or _without_frames(facts):
        return
    if promised.duration_seconds and promised.duration_seconds > limits.max_duration_seconds:
        yield _warning(
            "too_long",
            f"the header promises {promised.duration_seconds:.0f} s, the limit is "
            f"{limits.max_duration_seconds:g} s: it will be refused if that is true; cut the video, or raise "
            "max_duration_seconds",
        )
    if promised.num_frames and promised.num_frames > limits.max_frames_walked:
        yield _warning(
            "too_many_frames",
            f"the header promises {promised.num_frames} frames, the limit is {limits.max_frames_walked}: it "
            "will be refused if that is true; cut the video, or raise max_frames_walked",
        )


def _model(facts: ProbeFacts, limits: DecodeLimits, spec: ClipSpec) -> Iterator[Finding]:
    """What the model's grid makes of the length; certain after a walk only."""
    ticks = num_ticks(facts, spec)
    if not facts.decodable or not ticks:
        return
    measured = facts.walk is not None and facts.walk.complete
    report = _error if measured else _warning
    says = "the clip gives" if measured else "by its header the clip gives"
    many = f"{ticks} frames" if spec.sample_fps is None else f"{ticks} samples at {spec.sample_fps:g} per second"
    if ticks < spec.min_frames:
        yield report(
            "too_short",
            f"{says} {many}, the model needs {spec.min_frames}; send a longer clip",
        )
    if ticks > limits.max_ticks:
        yield report(
            "too_many_frames",
            f"{says} {many}, the limit is {limits.max_ticks}; cut the video, or raise max_ticks",
        )
    if spec.sample_fps and facts.fps and facts.fps < spec.sample_fps * 0.99:
        yield _info(
            "low_rate",
            f"{facts.fps:.3g} frames a second, and the model samples {spec.sample_fps:g}: frames are repeated",
        )


def _damaged(facts: ProbeFacts) -> Iterator[Finding]:
    damage, walk = facts.damage, facts.walk
    # The end of a file that is cut short is a complaint too.
    if damage and facts.decodable and (damage.frames or damage.gaps or not _cut_short(facts)):
        of = f" of {walk.num_frames}" if walk else ""
        missing = f", and in {damage.gaps} places frames are missing" if damage.gaps else ""
        yield _warning(
            "damaged",
            f"after {damage.first_seconds:.3f} s ({damage.words}): {damage.frames}{of} frames{missing}; what is shown "
            "there is a guess, and strict predictions are refused",
        )
    promised = facts.header.duration_seconds
    if _cut_short(facts):
        came = f"{walk.duration_seconds:.2f} s came" if walk else "the file has fewer bytes than it promises"
        says = f"the header promises {promised:.2f} s" if promised else "the header promises more"
        yield _warning(
            "cut_short",
            f"{says}, {came}: the file is cut short{'' if facts.truncated else ', or its header is wrong'}; "
            "send the whole file, no tool brings back what is not there",
        )


def _picture(facts: ProbeFacts) -> Iterator[Finding]:
    if _without_frames(facts):
        return
    if facts.interlaced:
        yield _warning(
            "interlaced",
            f"the scan is {facts.scan}: each frame holds two moments, and motion shows as combs; the fields are not "
            "separated here",
        )
    if facts.hdr:
        yield _info(
            "hdr",
            f"the colours are {facts.hdr}: they {became_of(facts.hdr)}; models are trained on standard range",
        )
    if facts.pixel_aspect != 1:
        yield _info(
            "non_square_pixels",
            f"stored pixels are {facts.sample_aspect_ratio} and not square; a model that crops gets the true shape",
        )
    if facts.rotation_degrees:
        yield _info(
            "rotated",
            f"stored turned by {facts.rotation_degrees}°; it is set upright before the model sees it",
        )
    if facts.mirrored:
        yield _info("mirrored", "stored as in a mirror; left and right are exchanged before the model sees it")
    if facts.num_films > 1:
        listed = ", ".join(f"{number}: {found}" for number, found in enumerate(facts.video_streams))
        yield _warning(
            "several_streams",
            f"{len(facts.video_streams)} video streams ({listed}); {facts.stream} is taken, ask for another with "
            "stream",
        )
    if facts.second_file_byte is not None:
        yield _warning(
            "second_file",
            f"another file begins at byte {facts.second_file_byte}, and it may not be looked at; send each by itself",
        )


def _header(facts: ProbeFacts) -> Iterator[Finding]:
    if facts.index_first is False and facts.decodable:
        yield _info(
            "index_last",
            "the index lies behind the frames: a player can't begin before the whole file has come, and an "
            "upload that is cut off is lost entirely; predictions don't mind",
        )
    walk, promised = facts.walk, facts.header
    if not walk or not walk.complete or walk.jumps or _cut_short(facts):
        return
    wrong = []
    # Of a variable rate it is duration times nominal rate in most containers: no promise.
    frames = promised.num_frames if walk.rate != "variable" else None
    if frames and abs(frames - walk.num_frames) > max(_COUNT_FRAMES, _COUNT_SHARE * walk.num_frames):
        wrong.append(f"{frames} frames, there are {walk.num_frames}")
    seconds = promised.duration_seconds
    if seconds and _short(seconds, walk.duration_seconds):
        wrong.append(f"{seconds:.2f} s, there are {walk.duration_seconds:.2f} s")
    if wrong:
        yield _info(
            "header_wrong",
            f"the header promises {' and '.join(wrong)}; predictions count for themselves, other tools may not",
        )


def _timing(walk: Walk | None) -> Iterator[Finding]:
    if not walk:
        return
    if walk.frames_without_time:
        report = _warning if walk.frames_without_time > _LOST_TIMESTAMPS else _info
        yield report(
            "bad_timestamps",
            f"{walk.frames_without_time} of {walk.num_frames} frames have no timestamp that rises; the "
            "time before them, or the nominal step after it, takes its place",
        )
    if walk.jumps:
        yield _warning(
            "clock_jumps",
            f"in {walk.jumps} places the clock jumps, as where recordings were joined; predictions bridge it, and "
            "other tools may hold a picture for as long",
        )
    if walk.rate == "variable":
        yield _info(
            "variable_rate",
            f"steps of {_ms(walk.shortest_step_seconds)} to {_ms(walk.longest_step_seconds)} "
            f"ms, mostly {_ms(walk.commonest_step_seconds)}; predictions go by the timestamps",
        )
    if walk.keyframes and walk.keyframes.longest_seconds > _SPARSE_SECONDS:
        yield _info(
            "sparse_keyframes",
            f"up to {walk.keyframes.longest_seconds:.1f} s from one I picture to the next: seeking is slow; "
            "predictions decode every frame anyway",
        )


def _without_frames(facts: ProbeFacts) -> bool:
    """Whether nobody gets a frame out of it: what its headers say is then no matter."""
    return facts.refusal is not None and facts.refusal.code in ("no_video_stream", "no_decodable_frame")


def _cut_short(facts: ProbeFacts) -> bool:
    """Whether less of the video came than its header promises."""
    walk, promised = facts.walk, facts.header.duration_seconds
    if not facts.decodable or facts.truncated:
        return facts.decodable
    return bool(walk and walk.complete and promised and not walk.jumps and _short(walk.duration_seconds, promised))


def _short(seconds: float, promised: float) -> bool:
    """Whether one duration falls short of the other by more than headers round."""
    return seconds < min(promised * (1 - _DURATION_SHARE), promised - _DURATION_SECONDS)


def _ms(seconds: float | None) -> str:
    return f"{(seconds or 0.0) * 1e3:.4g}"
