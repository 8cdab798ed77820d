"""What a clip will cost, by its headers and by how fast clips like it were decoded before."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from service.engine.admission import Cost
from service.video.container import Container
from service.video.report import DecodeReport
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
# Of clips that don't tell their length: as real ones of 240p to 720p have it.
_FRAME_BYTES, _BYTES_WEIGHT = 2000.0, 0.05
_USUAL_FPS = 30.0
# Their length is the difference of their clock between end and start: where that jumps it is any.
_BY_CLOCK = ("MPEG-TS", "BDAV", "MPEG-PS")


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
        self._frame_bytes = _FRAME_BYTES

    def cost(
        self,
        container: Container,
        num_bytes: int,
        spec: ClipSpec,
        frame_seconds: float,
        *,
        span: tuple[float, float] = (0.0, math.inf),
        tick_seconds: float = 0.0,
    ) -> Cost:
        """Of a clip of so many bytes; a guess from them where its headers don't tell its length.

        frame_seconds: of one frame on one executor; tick_seconds: of one tick in the heads. span: start and end asked
        for, seconds.
        """
        duration, frames = container.duration_seconds, container.num_frames
        most = max(1, num_bytes // _LEAST_FRAME_BYTES)
        is_guess = not duration or not 0 < duration < math.inf
        if duration and container.format in _BY_CLOCK:
            is_guess = is_guess or duration * _USUAL_FPS > most
        if not duration or is_guess:
            frames = max(1, round(num_bytes / self._frame_bytes))
            duration = frames / _USUAL_FPS
        in_all = min(frames or math.ceil(duration * _USUAL_FPS), most)
        walked = in_all * min(1.0, span[1] / duration)
        rate = spec.sample_fps or in_all / duration
        ticks = math.floor(max(0.0, min(duration, span[1]) - span[0]) * rate) + 1
        encoded = min(ticks, walked)
        pixels = (container.width or 640) * (container.height or 480)
        decode = _START_SECONDS + walked * pixels * self._pixel_seconds
        return replace(self.of(decode, encoded * frame_seconds, encoded, ticks * tick_seconds), is_guess=is_guess)

    def of(self, decode_seconds: float, encode_seconds: float, frames: float, head_seconds: float = 0.0) -> Cost:
        """decode_seconds, head_seconds: on one core. encode_seconds: on one executor."""
        machine = self.machine
        if machine.shared:
            whole = (decode_seconds + encode_seconds + head_seconds) / machine.cores
        else:
            whole = max((decode_seconds + head_seconds) / machine.cores, encode_seconds / machine.executors)
        # One clip has one decoder, and one thread for its heads.
        alone = max(whole, decode_seconds, encode_seconds / machine.executors, head_seconds)
        return Cost(whole, alone, max(1.0, frames))

    def learn(self, report: DecodeReport, cpu_seconds: float, num_bytes: int) -> None:
        """What a whole clip has taken of one core."""
        pixels = report.frames_walked * report.width * report.height
        if pixels < _LEAST_PIXELS:
            return
        seen = max(0.0, cpu_seconds - _START_SECONDS) / pixels
        seen = min(max(seen, _PIXEL_SECONDS / _MOST_OFF), _PIXEL_SECONDS * _MOST_OFF)
        self._pixel_seconds += min(1.0, pixels / _MEMORY_PIXELS) * (seen - self._pixel_seconds)
        frame_bytes = min(max(num_bytes / report.frames_walked, _FRAME_BYTES / _MOST_OFF), _FRAME_BYTES * _MOST_OFF)
        self._frame_bytes += _BYTES_WEIGHT * (frame_bytes - self._frame_bytes)
