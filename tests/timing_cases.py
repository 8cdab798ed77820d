"""Files of variable rate for `tests.timings` to judge: what people have, in all containers that hold it.

Times are drawn at random from the file's own name and a seed, so each is the same in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.drawn import Drawn, draw
from tests.edits import write_edits

Times = list[float]
Rng = np.random.Generator
Edits = Sequence[tuple[float, float | None]]
WIDTH, HEIGHT = 96, 160
# These say how long the last frame is shown; of others its end is anybody's guess, from one step up to what was meant.
SAY_LAST = ("mp4", "mov", "m4v", "3gp", "mkv", "webm", "gif", "apng")
# A fine clock leaves rate control no bits for a frame.
_FINE_QUANTISER, _BY_BIT_RATE = {"qmin": "2", "qmax": "6"}, ("mpeg4", "flv", "mpeg2video", "mjpeg")
_CENTISECONDS, _FRAMES = Fraction(1, 100), Fraction(1, 25)


def holds(rng: Rng) -> Times:
    """20 ms to 3 s, any step as likely as its half or double."""
    return _at(np.exp(rng.uniform(np.log(0.02), np.log(3.0), 29)))


def phone(rng: Rng) -> Times:
    """30 a second with the jitter of a phone's clock, and now and then a frame that came late."""
    steps = 1 / 30 + rng.normal(0, 4e-3, 59).clip(-0.012, 0.012)
    return _at(steps + 0.05 * (rng.random(59) < 0.05))


def drops(rng: Rng) -> Times:
    """25 a second, of which a third was dropped."""
    return [0.0, *(float(i / 25) for i in range(1, 80) if rng.random() > 0.35)]


def pulldown(_: Rng) -> Times:
    """Film on a 60 Hz screen: pictures for 2 and 3 refreshes in turn."""
    return _at(np.tile([2 / 60, 3 / 60], 24))


def bursts(rng: Rng) -> Times:
    """Five frames 4 ms apart, several to a tick, then a rest."""
    return _at(np.concatenate([[0.004] * 4 + [float(rng.uniform(0.2, 1.5))] for _ in range(6)]))


def timelapse(_: Rng) -> Times:
    """0.2 a second."""
    return [5.0 * i for i in range(9)]


def slides(rng: Rng) -> Times:
    """10 to 60 s a picture."""
    return _at(rng.uniform(10, 60, 6))


def screen(_: Rng) -> Times:
    """A screen recording."""
    return [0.0, 6.0, 12.0, 12.2, 13.0]


def long_first(rng: Rng) -> Times:
    """A title for half a minute, then film."""
    film = float(rng.uniform(15, 30))
    return [0.0, *(film + i / 25 for i in range(20))]


def steady(_: Rng) -> Times:
    """Two seconds at 25 a second: what is not variable."""
    return [i / 25 for i in range(50)]


def single(_: Rng) -> Times:
    """One picture."""
    return [0.0]


def _at(steps: np.ndarray[Any, Any]) -> Times:
    return [0.0, *np.cumsum(steps).tolist()]


@dataclass(frozen=True)
class Case:
    """One file. offset_seconds: of all times. sound_seconds: of silence that begins at 0, whatever the video does.
    more: of `draw`. edits: an edit list to write into it."""

    pattern: Callable[[Rng], Times]
    suffix: str
    encoder: str = "libx264"
    b_frames: int = 0
    last_seconds: float = 0.5
    offset_seconds: float = 0.0
    sound_seconds: float = 0.0
    edits: Edits = ()
    clock: Fraction = Fraction(1, 60_000)
    more: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    seed: int = 0

    def __str__(self) -> str:
        b = f"-b{self.b_frames}" if self.b_frames else ""
        return f"{self.pattern.__name__}-{self.suffix}-{self.encoder}{b}{self.note and '-' + self.note}"

    def rng(self, purpose: str = "") -> Rng:
        """The same in every run."""
        return np.random.default_rng(zlib.crc32(f"{self} {purpose} {self.seed}".encode()))

    @property
    def says_last(self) -> bool:
        """Whether the file tells how long its last frame is shown; fragments only tell it of the last one decoded."""
        return self.suffix in SAY_LAST and not (self.more is _FRAGMENTS and self.b_frames)

    def draw(self, folder: Path) -> Drawn:
        """Write it; `timestamps` are those that were meant, before any edit."""
        times = [seconds + self.offset_seconds for seconds in self.pattern(self.rng())]
        path = folder / f"{self}.{self.suffix}"
        more = {"options": _FINE_QUANTISER if self.encoder in _BY_BIT_RATE else {}, **self.more}
        drawn = draw(
            path, len(times), 25, WIDTH, HEIGHT, encoder=self.encoder, b_frames=self.b_frames,  # type: ignore[arg-type]
            timestamps=times, last_seconds=self.last_seconds, clock=self.clock, **more,
        )  # fmt: skip
        if self.edits:
            write_edits(path, self.edits)
        if self.sound_seconds:
            add_sound(path, self.sound_seconds, self.more.get("muxer_options"))
        return drawn


def add_sound(path: Path, seconds: float, muxer_options: dict[str, str] | None = None) -> None:
    """Copy the video beside a track of silence from 0 on."""
    plain = path.rename(path.with_stem("plain"))
    with av.open(plain) as reader, av.open(path, "w", options=muxer_options or {}) as writer:
        video = writer.add_stream_from_template(reader.streams.video[0])
        sound = writer.add_stream("aac", rate=16_000)
        sound.codec_context.layout = "mono"
        for packet in reader.demux(video=0):  # FFmpeg interleaves what comes
            if packet.size:
                packet.stream = video
                writer.mux(packet)
        for start in range(0, int(seconds * 16_000), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
            writer.mux(sound.encode(frame))
        writer.mux(sound.encode(None))
    plain.unlink()


_EDITED: Any = {
    "last_seconds": 0.04, "more": {"muxer_options": {"use_editlist": "0"}, "options": {"g": "12"}}
}  # fmt: skip
_FRAGMENTS = {"muxer_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, "options": {"g": "10"}}
_AS_THEY_ARE = {"muxer_options": {"avoid_negative_ts": "disabled"}}

CASES = (
    # Holds at random, everywhere.
    Case(holds, "mp4", b_frames=3),
    Case(holds, "mp4", "libx265", b_frames=3),
    Case(holds, "mp4", "libsvtav1"),
    Case(holds, "mp4", "mpeg4", b_frames=2, clock=Fraction(1, 1000)),
    Case(holds, "mov", b_frames=2),
    Case(holds, "mov", "prores_ks"),
    Case(holds, "mov", "png"),
    Case(holds, "mkv", b_frames=3),
    Case(holds, "mkv", "libx265", b_frames=2),
    Case(holds, "mkv", "ffv1"),
    Case(holds, "webm", "libvpx-vp9"),
    Case(holds, "webm", "libvpx"),
    Case(holds, "webm", "libsvtav1"),
    Case(holds, "3gp", "mpeg4", clock=Fraction(1, 1000)),
    Case(holds, "ts", b_frames=2),
    Case(holds, "ts", "libx265", b_frames=2),
    Case(holds, "flv", b_frames=2),
    Case(holds, "flv", "flv", clock=Fraction(1, 1000)),
    Case(holds, "nut", b_frames=2),
    Case(holds, "gif", "gif", clock=_CENTISECONDS),
    Case(holds, "apng", "apng", clock=_CENTISECONDS),
    Case(holds, "mp4", b_frames=2, more=_FRAGMENTS, note="fragmented"),
    # Steps of a constant clock, some of them missing: what AVI, program streams and MPEG-2 can hold.
    Case(drops, "avi", "mjpeg", clock=_FRAMES, last_seconds=0.04),
    Case(drops, "avi", "mpeg4", clock=_FRAMES, last_seconds=0.04),
    Case(drops, "mpg", "mpeg2video", b_frames=2, clock=_FRAMES, last_seconds=0.04),
    Case(drops, "ts", "mpeg2video", b_frames=2, clock=_FRAMES, last_seconds=0.04),
    Case(drops, "mkv", "mpeg2video", b_frames=2, clock=_FRAMES, last_seconds=0.04),
    Case(drops, "mp4", b_frames=2, last_seconds=0.04),
    Case(drops, "asf", "mpeg4", clock=_FRAMES, last_seconds=0.04),
    # Cameras, screens, films.
    Case(phone, "mp4", last_seconds=0.03),
    Case(phone, "mp4", "libx265", b_frames=3, last_seconds=0.03),
    Case(phone, "mov", b_frames=2, last_seconds=0.03),
    Case(phone, "webm", "libvpx", last_seconds=0.03),
    Case(phone, "ts", b_frames=2, last_seconds=0.03),
    Case(pulldown, "mp4", b_frames=2, last_seconds=0.05),
    Case(pulldown, "mkv", last_seconds=0.05),
    Case(bursts, "mp4", b_frames=2),
    Case(bursts, "webm", "libvpx-vp9"),
    Case(bursts, "mkv", b_frames=3),
    Case(timelapse, "mp4", b_frames=2, last_seconds=5.0),
    Case(timelapse, "mkv", "mjpeg", last_seconds=5.0),
    Case(timelapse, "ts", last_seconds=5.0),
    # H.264 in Matroska: FFmpeg knows no start where frames come seldom, or are few.
    Case(timelapse, "mkv", last_seconds=5.0),
    Case(slides, "mkv", last_seconds=33.0),
    Case(slides, "mkv", b_frames=2, last_seconds=33.0),
    Case(screen, "mkv", b_frames=2, last_seconds=5.0),
    Case(single, "mkv", last_seconds=7.0),
    Case(slides, "mp4", b_frames=2, last_seconds=33.0),
    Case(slides, "webm", "libvpx-vp9", last_seconds=33.0),
    Case(slides, "gif", "gif", clock=_CENTISECONDS, last_seconds=33.0),
    Case(screen, "mp4", b_frames=2, last_seconds=5.0),
    Case(screen, "webm", "libvpx-vp9", last_seconds=5.0),
    Case(screen, "mp4", more=_FRAGMENTS, last_seconds=5.0, note="fragmented"),
    # Long holds at either end.
    Case(long_first, "mp4", b_frames=2, last_seconds=0.04),
    Case(long_first, "mkv", last_seconds=0.04),
    Case(long_first, "ts", b_frames=2, last_seconds=0.04),
    Case(steady, "mp4", last_seconds=30.0, note="long-last"),
    Case(steady, "mp4", b_frames=3, last_seconds=30.0, note="long-last"),
    Case(steady, "mov", "libx265", b_frames=2, last_seconds=12.0, note="long-last"),
    Case(steady, "mkv", last_seconds=12.0, note="long-last"),
    Case(steady, "gif", "gif", clock=_CENTISECONDS, last_seconds=7.5, note="long-last"),
    Case(single, "mp4", last_seconds=7.0),
    Case(single, "webm", "libvpx-vp9", last_seconds=7.0),
    Case(single, "gif", "gif", clock=_CENTISECONDS, last_seconds=7.0),
    Case(single, "ts", last_seconds=0.04),
    Case(steady, "mxf", "mpeg2video", b_frames=2, clock=_FRAMES, last_seconds=0.04),
    # A clock that does not begin at 0, or before it.
    Case(holds, "mp4", b_frames=2, offset_seconds=3.7, note="late"),
    Case(holds, "mkv", b_frames=2, offset_seconds=3.7, note="late"),
    Case(holds, "ts", b_frames=2, offset_seconds=3.7, note="late"),
    Case(holds, "flv", b_frames=2, offset_seconds=3.7, note="late"),
    Case(phone, "webm", "libvpx-vp9", offset_seconds=1.234, last_seconds=0.03, note="late"),
    Case(steady, "mp4", b_frames=2, offset_seconds=-0.2, last_seconds=0.04, more=_AS_THEY_ARE, note="early"),
    Case(holds, "mkv", b_frames=2, offset_seconds=-0.25, note="early"),
    Case(holds, "ts", b_frames=2, offset_seconds=-0.25, note="early"),
    # Video that begins after the sound, or ends before or after it.
    Case(steady, "mp4", b_frames=2, offset_seconds=3.0, sound_seconds=6.0, last_seconds=0.04, note="after-sound"),
    Case(steady, "mkv", b_frames=2, offset_seconds=3.0, sound_seconds=5.0, last_seconds=0.04, note="after-sound"),
    Case(holds, "mp4", b_frames=2, sound_seconds=3.0, note="short-sound"),
    Case(steady, "mp4", sound_seconds=9.0, last_seconds=0.04, note="long-sound"),
    Case(steady, "mp4", sound_seconds=3.0, last_seconds=5.0, more=_FRAGMENTS, note="fragments-and-sound"),
    Case(steady, "mkv", sound_seconds=9.0, last_seconds=0.04, note="long-sound"),
    Case(steady, "ts", b_frames=2, offset_seconds=1.5, sound_seconds=4.0, last_seconds=0.04, note="after-sound"),
    # Edit lists: composition time of frame 0 is 0.08 with two B-frames.
    Case(steady, "mp4", b_frames=2, **_EDITED, edits=[(1.0, 0.48)], note="cut"),
    Case(steady, "mp4", b_frames=2, **_EDITED, edits=[(0.6, 0.08), (1.0, 1.0)], note="two-edits"),
    Case(steady, "mp4", **_EDITED, edits=[(0.4, 0.0), (0.4, 0.8), (0.4, 1.6)], note="three-edits"),
    # Parts in another order: a B-frame of the first is shown past its end, at the time of the second's first.
    Case(steady, "mp4", b_frames=2, **_EDITED, edits=[(0.4, 1.0), (0.4, 0.08)], note="reverse"),
    Case(steady, "mp4", b_frames=2, **_EDITED, edits=[(3.0, None), (2.0, 0.08)], note="pause"),
    Case(steady, "mov", b_frames=2, **_EDITED, edits=[(1.5, None), (0.8, 0.68)], note="pause-cut"),
    Case(holds, "mp4", b_frames=2, more=_EDITED["more"], edits=[(4.0, 3.0)], note="cut"),
)
