"""The `ffmpeg` line that mends what was found. A pure function: nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.names import shell_word
from service.video.facts import ProbeFacts
from service.video.findings import Finding
from service.video.limits import DecodeLimits
from service.video.spec import ClipSpec

# Codecs that an MP4 file can hold as they are.
_IN_MP4 = {"h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg"}


@dataclass(frozen=True)
class Remedy:
    """Options that one finding asks for. filters: a video that is filtered is encoded anew."""

    encode: bool = False
    before: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    facts: ProbeFacts
    limits: DecodeLimits
    spec: ClipSpec | None


def mend(
    findings: list[Finding],
    facts: ProbeFacts,
    limits: DecodeLimits,
    spec: ClipSpec | None = None,
    *,
    source: str = "INPUT",
    target: str = "OUTPUT.mp4",
) -> str | None:
    """One line for all findings that can be mended; None where nothing is to be, or nothing can.

    A file that gives no frame to FFmpeg gives none to `ffmpeg` either: cut off, encrypted, without video.
    """
    codes = {finding.code for finding in findings if finding.severity != "info"}
    if codes & {"no_video_stream", "no_decodable_frame", "too_short"} or facts.container == "WebP":
        return None
    case = _Case(facts, limits, spec)
    remedies = [remedy(case) for names, remedy in _REMEDIES.items() if codes & set(names)]
    copied = facts.codec in _IN_MP4 and not any(remedy.encode or remedy.filters for remedy in remedies)
    if not remedies and not (copied and any(finding.code in _REWRITTEN for finding in findings)):
        return None
    before = [option for remedy in remedies for option in remedy.before]
    filters = [name for remedy in remedies for name in remedy.filters]
    after = [option for remedy in remedies for option in remedy.after]
    if not copied:
        if (facts.width or 0) % 2 or (facts.height or 0) % 2:
            filters.append("crop=trunc(iw/2)*2:trunc(ih/2)*2")  # H.264 of 4:2:0 has even sides
        video = [*(["-vf", ",".join(filters)] if filters else []), "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    else:
        video = ["-c", "copy"] if facts.container == "MPEG-4" else ["-c:v", "copy"]
    words = ["ffmpeg", *before, "-i", _name(source), *video, *after, "-movflags", "+faststart", _name(target)]
    return " ".join(map(shell_word, words))


def mended_name(path: Path) -> str:
    """Where the mended file goes: beside the other, never over it."""
    return str(path.with_name(f"{path.stem}.mended.mp4"))


def _scale(case: _Case) -> Remedy:
    """Down to the limit, to even sides, the shape kept."""
    width, height = case.facts.width or 0, case.facts.height or 0
    factor = math.sqrt(case.limits.max_frame_pixels / max(width * height, 1))
    across, down = (max(2, int(side * min(factor, 1.0)) // 2 * 2) for side in (width, height))
    square = ("setsar=1",) if case.facts.pixel_aspect == 1 else ()  # even sides are not quite the shape
    return Remedy(filters=(f"scale={across}:{down}", *square))


def _cut(case: _Case) -> Remedy:
    """To what all limits of length allow."""
    seconds, most = case.limits.max_duration_seconds, case.limits.max_frames_walked
    if case.spec and case.spec.sample_fps:
        seconds = min(seconds, (case.limits.max_ticks - 1) / case.spec.sample_fps)
    elif case.spec:
        most = min(most, case.limits.max_ticks)
    count = ("-frames:v", str(most)) if (case.facts.num_frames or 0) > most else ()
    return Remedy(after=("-t", f"{seconds:.10g}", *count))


# In the order of their filters: fields, then size.
_REMEDIES: dict[tuple[str, ...], Callable[[_Case], Remedy]] = {
    ("codec_not_supported",): lambda case: Remedy(encode=True),
    ("damaged",): lambda case: Remedy(encode=True, before=("-err_detect", "ignore_err")),
    # No -r: it drops and doubles frames where the header's rate is wrong too.
    ("bad_timestamps",): lambda case: Remedy(encode=True, before=("-fflags", "+genpts")),
    ("interlaced",): lambda case: Remedy(filters=("bwdif=mode=send_frame",)),
    ("too_many_pixels",): _scale,
    ("too_long", "too_many_frames"): _cut,
}
# What writing the file anew mends; not worth another encoding.
_REWRITTEN = {"header_wrong", "index_last"}


def _name(name: str) -> str:
    """A file's name that ffmpeg takes for one: neither an option nor a protocol."""
    return f"./{name}" if name.startswith("-") or (":" in name and not name.startswith(("/", "./"))) else name
