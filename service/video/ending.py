"""How long the last frame is shown, and whether a file is cut short: what is promised against what came."""

from __future__ import annotations

from collections.abc import Iterator

from service.video.clock import Clock
from service.video.container import Container
from service.video.source import Header

# A header's duration may be a rounded one, or that of a longer sound track.
_SECONDS, _SHARE = 0.5, 0.95
# Formats whose own clock has no constant step: each picture says how long it is shown.
_OF_PICTURES = ("GIF", "PNG", "WebP")
# Their tracks say how long they are, each by itself.
_BY_TRACK = ("Matroska", "WebM", "AVI")
# Their duration is the file's, and counts from where its clock began, or nobody knows which tracks they have.
_OF_THE_FILE = ("Flash Video", "Nut")
# A last frame is as long as others are, within the rounding of a duration: of more the warning tells.
_USUAL_STEPS = 1.5


class Ending:
    """Of one stream, by its headers."""

    def __init__(self, container: Container, header: Header) -> None:
        self._container = container
        self._header = header

    @property
    def holds_pictures(self) -> bool:
        """Whether it is of a format of pictures that are held, each as long as it says."""
        return self._container.format in _OF_PICTURES

    @property
    def stream_seconds(self) -> float | None:
        """The stream's own length, from its start; None where only that of the whole file is known, or nothing."""
        container = self._container
        is_by_track = container.last_frame_seconds is not None or container.format in _BY_TRACK
        if is_by_track and container.duration_seconds:
            return container.duration_seconds
        whole = "Audio" in container.kinds or container.format in _OF_THE_FILE
        return None if whole else self._header.duration_seconds

    def seconds(self, clock: Clock, *, is_damaged: bool = False) -> float:
        """When the last frame's showing ends. is_damaged: packets were lost, maybe at the end.

        By the last sample's own duration, where all samples have come, as FFmpeg shows it (of B-frames at uneven times
        a muxer may have written a decoding step there, and an edit list that ends sooner); else by the stream's length,
        where that can be true: not of a file that is cut off, and of samples that say how long they are shown not for
        longer, unless edits leave out the later ones.
        """
        container = self._container
        if container.truncated or is_damaged:
            return clock.end_seconds()
        longest = container.last_frame_seconds
        if longest is None:
            # Of recordings that were joined the length is none's, or that of the longest.
            return clock.end_seconds(None if clock.num_jumps else self.stream_seconds)
        if longest and self._all_came(clock):
            return clock.end_seconds_held(longest)
        hold = clock.hold_seconds(container.duration_seconds or 0.0)
        usual = max(clock.step_seconds, clock.last_step) * _USUAL_STEPS
        believed = 0.0 < hold <= longest + usual or (container.is_trimmed and hold > 0.0)
        return clock.end_seconds_held(hold) if believed else clock.end_seconds()

    def warnings(self, clock: Clock, *, is_damaged: bool = False) -> Iterator[str]:
        """Of a walk to the end."""
        end = self.seconds(clock, is_damaged=is_damaged)
        promised = self.stream_seconds
        if promised is None and self._container.truncated:
            yield f"the file has fewer bytes than it promises, {end:.2f} s of video came: it is cut short"
        if promised is None or clock.num_jumps or (self._container.last_frame_seconds and self._all_came(clock)):
            return
        if _short(end, promised):
            yield (
                f"the header promises {promised:.2f} s of video, {end:.2f} s came: the file is cut short, or its "
                "header is wrong"
            )
        elif self._container.last_frame_seconds is None and _short(clock.last_seconds + clock.step_seconds, end):
            yield (
                f"the last frame, at {clock.last_seconds:.3f} s, is held to the end that the header promises, "
                f"{end:.3f} s, unless the file is cut short"
            )

    def _all_came(self, clock: Clock) -> bool:
        """Of samples that are counted in a table; edits may leave some out."""
        return clock.num_frames >= (self._header.num_frames or 0)


def _short(seconds: float, promised: float) -> bool:
    """Whether it falls short by more than headers round."""
    return seconds < min(promised * _SHARE, promised - _SECONDS)
