"""What a single video may cost. Errors name the limit and the setting of the same name."""

from __future__ import annotations

from dataclasses import dataclass

from service.video.errors import TooLong, TooManyFrames, TooManyPixels


@dataclass(frozen=True)
class DecodeLimits:
    """Each is a setting of the service.

    The four of `max_decode_` bind only where a video has a process of its own; seconds of wall time are those
    in which it decodes, not those in which it waits for a core or for its consumer.
    """

    max_frame_pixels: int = 4096 * 2304
    max_duration_seconds: float = 4 * 3600.0
    max_frames_walked: int = 1_000_000
    max_ticks: int = 200_000
    max_hold_seconds: float = 600.0
    max_decode_stall_seconds: float = 20.0
    max_decode_seconds: float = 3600.0
    max_decode_cpu_seconds: int = 3600
    max_decode_memory_bytes: int = 1024 * 1024 * 1024

    def check_pixels(self, width: int, height: int) -> None:
        """Raises TooManyPixels."""
        if width * height > self.max_frame_pixels:
            raise TooManyPixels(
                f"a frame has {width} x {height} pixels, the limit is {self.max_frame_pixels}; "
                "scale the video down, or raise max_frame_pixels",
                value=width * height,
                limit=self.max_frame_pixels,
            )

    def check_walk(self, num_frames: int, pts_seconds: float) -> None:
        """Raises TooManyFrames, TooLong, for the frame grabbed last."""
        if num_frames > self.max_frames_walked:
            raise TooManyFrames(
                f"the video has more than {self.max_frames_walked} frames; cut it, or raise max_frames_walked",
                value=num_frames,
                limit=self.max_frames_walked,
            )
        if pts_seconds > self.max_duration_seconds:
            raise TooLong(
                f"a frame is at {pts_seconds:.3f} s, the limit is {self.max_duration_seconds:g}; cut the video, or "
                "raise max_duration_seconds",
                value=round(pts_seconds, 3),
                limit=self.max_duration_seconds,
            )

    def check_ticks(self, num_ticks: int, sample_fps: float | None) -> None:
        """Raises TooManyFrames: timestamps are the file's word, and one frame may claim to stand for a year."""
        if num_ticks > self.max_ticks and sample_fps is None:
            raise TooManyFrames(
                f"the model sees every frame, and there are more than {self.max_ticks}; cut the video, or raise "
                "max_ticks",
                value=num_ticks,
                limit=self.max_ticks,
            )
        if num_ticks > self.max_ticks:
            raise TooManyFrames(
                f"the timestamps ask for {num_ticks} samples at {sample_fps:g} per second, the limit is "
                f"{self.max_ticks}; cut the video, or raise max_ticks",
                value=num_ticks,
                limit=self.max_ticks,
            )
