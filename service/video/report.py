"""What a pass over a video has met: the temporal receipt's part that decoding knows, and what to tell its sender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.video.clock import Clock, TimeBase
from service.video.errors import PastTheEnd, TooShort
from service.video.source import DecoderName, Source
from service.video.spec import ClipSpec

# A hold of which the sender should know: it may decide the label.
_LONG_SECONDS = 60.0


@dataclass(frozen=True)
class DecodeReport:
    """What was walked and used: the temporal receipt's part that decoding knows. Times in seconds.

    duration_seconds: from the stream's start to the end of the last frame walked; stream_start_seconds: that start,
    after the file's; width, height: of the picture upright, stored pixels; origin_seconds: the grid's first tick;
    ticks_end_seconds: when the last one ends, 1 / sample_fps after it or with the stream; of frames that are ticks
    themselves with its frame.
    """

    duration_seconds: float
    stream_start_seconds: float
    width: int
    height: int
    sample_aspect_ratio: str
    codec: str
    decoder: DecoderName
    rotation_degrees: int
    mirrored: bool
    time_base: TimeBase
    frames_walked: int
    frames_decoded: int
    frames_used: int
    frames_repeated: int
    frames_dropped: int
    frames_damaged: int
    first_seconds: float
    last_seconds: float
    origin_seconds: float
    ticks: int
    ticks_end_seconds: float
    warnings: tuple[str, ...] = ()


def met(
    clock: Clock, source: Source, num_dropped: int, spec: ClipSpec, *, says_interlaced: bool = False
) -> Iterator[str]:
    """Warnings about times, fields and damage. num_dropped: sampled frames that could not be converted.
    says_interlaced: the container does, and so does its warning.
    """
    is_grid = spec.sample_fps is not None
    if clock.num_nominal:
        yield (
            f"{clock.num_nominal} of {clock.num_frames} frames had no rising timestamp; "
            f"they come at the time of the one before, or the nominal step of {clock.step_seconds:.4f} s after it"
        )
    if clock.first_jump:
        others = f", and {clock.num_jumps - 1} times more" if clock.num_jumps > 1 else ""
        yield (
            f"the clock jumps {clock.first_jump}{others}: bridged, as if the one frame followed the other "
            f"(max_hold_seconds is {clock.max_hold_seconds:g})"
        )
    if source.times_are_rounded:
        yield f"the stream does not say when it starts; times are rounded to the nominal {clock.step_seconds:.4f} s"
    if clock.longest_seconds > _LONG_SECONDS:
        yield (
            f"a frame is shown for {clock.longest_seconds:.1f} s, from {clock.longest_from_seconds:.3f} s on: it "
            f"{'fills all ticks of that time' if is_grid else 'is one tick, as any other'}"
        )
    if source.is_interlaced and not says_interlaced:
        yield "the video is interlaced; its fields were not separated"
    if num_dropped:
        became = "the next ones took their place" if is_grid else "they are no ticks"
        yield f"{num_dropped} sampled frames could not be decoded; {became}"
    if source.first_damage:
        at, words = source.first_damage
        lost = f", and in {source.gaps} places frames are missing" if source.gaps else ""
        yield f"corrupt at {at:.3f} s ({words}); {source.damaged} of {clock.num_frames} frames are damaged{lost}"


def check_enough(num_ticks: int, spec: ClipSpec, span: tuple[float, float], stream_end_seconds: float) -> None:
    """Raises TooShort when a clip has fewer ticks than the model needs, PastTheEnd when the stream ends before
    the start. span: the start and the end asked for.
    """
    if num_ticks >= spec.min_frames:
        return
    start, end = span
    if num_ticks == 0 and end > start >= stream_end_seconds:
        raise PastTheEnd(
            f"start_seconds is {start:g}, and the video ends at {stream_end_seconds:.2f} s; give an earlier start",
            value=start,
            limit=round(stream_end_seconds, 6),
        )
    remedies = ["an earlier start_seconds"] * (start > 0) + ["a later end_seconds"] * (end < stream_end_seconds)
    part = f" from {start:g} s to {min(end, stream_end_seconds):g} s" if remedies else ""
    remedy = f"give {' or '.join(remedies)}" if remedies else "send a longer clip"
    rate = "" if spec.sample_fps is None else f" at {spec.sample_fps:g} per second"
    raise TooShort(
        f"the clip{part} gives {num_ticks} frames{rate}, the model needs {spec.min_frames}; {remedy}",
        value=num_ticks,
        limit=spec.min_frames,
    )
