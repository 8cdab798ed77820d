"""What a clip will cost, by its headers and by how fast clips like it were decoded before."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.engine.admission import Cost
from service.video.container import Container
from service.video.decode import DecodeReport
from service.video.spec import ClipSpec

# Measured for H.264 from 320 × 240 (3.5) to 1080p (2.8), on one core; real clips put it right.
_PIXEL_SECONDS = 3.2e-9
_START_SECONDS = 0.015
# A second of video of 320 × 240. What is smaller tells how long a process takes to start, and nothing of pixels.
_LEAST_PIXELS = 2e6
# Remembered: about ten seconds of decoding. No codec is further off than this factor.
_MEMORY_PIXELS = 3e9
_MOST_OFF = 8.0
# No coded frame is smaller: a header that promises more frames than that lies.
_LEAST_FRAME_BYTES = 8


@dataclass(frozen=True)
class Machine:
    """cores: for decoding. executors: of the encoder. shared: they run on the same cores (a CPU)."""

    cores: int
    executors: int
    shared: bool


class Forecast:
    """Learns the decoding speed of one machine; a race between two lessons loses one of them, and nothing else."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._pixel_seconds = _PIXEL_SECONDS

    def cost(
        self,
        container: Container,
        num_bytes: int,
        spec: ClipSpec,
        frame_seconds: float,
        span: tuple[float, float] = (0.0, math.inf),
    ) -> Cost | None:
        """Of a clip of so many bytes; None where its headers don't tell its length.

        frame_seconds: of one frame on one executor. span: start and end asked for, seconds.
        """
        duration, frames = container.duration_seconds, container.num_frames
        if not duration or not math.isfinite(duration) or duration < 0:
            return None
        most = max(1, num_bytes // _LEAST_FRAME_BYTES)
        walked_share = min(1.0, span[1] / duration)
        walked = min(frames or math.ceil(duration * 30.0), most) * walked_share
        used = max(0.0, min(duration, span[1]) - span[0])
        encoded = min(math.floor(used * spec.sample_fps) + 1, walked)
        pixels = (container.width or 640) * (container.height or 480)
        decode = _START_SECONDS + walked * pixels * self._pixel_seconds
        return self.of(decode, encoded * frame_seconds, encoded)

    def of(self, decode_seconds: float, encode_seconds: float, frames: float) -> Cost:
        """decode_seconds: on one core. encode_seconds: on one executor."""
        machine = self.machine
        if machine.shared:
            whole = (decode_seconds + encode_seconds) / machine.cores
        else:
            whole = max(decode_seconds / machine.cores, encode_seconds / machine.executors)
        alone = max(whole, decode_seconds, encode_seconds / machine.executors)  # one clip, one decoder
        return Cost(whole, alone, max(1.0, frames))

    def learn(self, report: DecodeReport, cpu_seconds: float) -> None:
        """What a whole clip has taken of one core."""
        pixels = report.frames_walked * report.width * report.height
        if pixels < _LEAST_PIXELS:
            return
        seen = max(0.0, cpu_seconds - _START_SECONDS) / pixels
        seen = min(max(seen, _PIXEL_SECONDS / _MOST_OFF), _PIXEL_SECONDS * _MOST_OFF)
        self._pixel_seconds += min(1.0, pixels / _MEMORY_PIXELS) * (seen - self._pixel_seconds)
