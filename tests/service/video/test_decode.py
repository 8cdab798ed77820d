from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import EmptyFile, ReelserveError
from service.video.chunk import FrameChunk
from service.video.decode import ClipReader
from service.video.errors import NoDecodableFrame, NotAVideo, PastTheEnd, TooManyFrames, TooManyPixels, TooShort
from service.video.limits import DecodeLimits
from service.video.report import DecodeReport
from service.video.source import Source
from service.video.spec import ClipSpec
from tests.drawn import BLUE, ORANGE, Drawn, Encoder, draw, read_index, serving_frames

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
# Constant gaps, bursts, 30 fps in whole milliseconds, and stalls of many ticks.
UNEVEN = tuple(float(t) for t in np.cumsum([0.0, *[0.01, 0.04, 0.033, 0.2, 0.5, 0.033, 0.034, 0.125, 1.1] * 6]))


@dataclass(frozen=True)
class Sampled:
    """All that one pass over a clip gave."""

    chunks: list[FrameChunk]
    report: DecodeReport

    @property
    def frames(self) -> NDArray[np.uint8]:
        return np.concatenate([chunk.frames for chunk in self.chunks])

    @property
    def ticks(self) -> list[int]:
        return [int(count) for chunk in self.chunks for count in chunk.ticks]

    @property
    def serving(self) -> list[int]:
        """The index of the frame that serves each tick."""
        return [read_index(frame) for frame, count in zip(self.frames, self.ticks, strict=True) for _ in range(count)]


def sample(
    path: Path,
    spec: ClipSpec = SPEC,
    *,
    max_frames: int = 16,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    limits: DecodeLimits | None = None,
    num_threads: int = 1,
) -> Sampled:
    with ClipReader(
        path, spec, start_seconds=start_seconds, end_seconds=end_seconds, limits=limits, num_threads=num_threads
    ) as reader:
        chunks = list(reader.chunks(max_frames))
        return Sampled(chunks, reader.report())


@pytest.fixture
def clip(tmp_path: Path) -> Drawn:
    """50 frames at 25 per second, 320 × 240, H.264 in MP4."""
    return draw(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("encoder", "b_frames", "suffix", "codec"),
    [
        ("libx264", 0, "mp4", "h264"),
        ("libx264", 3, "mp4", "h264"),
        ("libx264", 3, "mov", "h264"),
        ("libx264", 3, "mkv", "h264"),
        ("libx264", 2, "ts", "h264"),
        ("libx264", 0, "avi", "h264"),
        ("libx264", 0, "flv", "h264"),
        ("libx265", 3, "mp4", "hevc"),
        ("libx265", 0, "mkv", "hevc"),
        ("mpeg4", 0, "avi", "mpeg4"),
        ("mpeg4", 2, "mp4", "mpeg4"),
        ("mpeg2video", 2, "mp4", "mpeg2video"),
        ("mpeg2video", 0, "mpg", "mpeg2video"),
        ("mjpeg", 0, "avi", "mjpeg"),
        ("mjpeg", 0, "mp4", "mjpeg"),
        ("libvpx", 0, "webm", "vp8"),
        ("libvpx-vp9", 0, "webm", "vp9"),
        ("libvpx-vp9", 0, "mp4", "vp9"),
        ("libsvtav1", 0, "mp4", "av1"),
        ("libsvtav1", 0, "mkv", "av1"),
        ("libsvtav1", 0, "webm", "av1"),
    ],
)
def test_codecs_and_containers(tmp_path: Path, encoder: Encoder, b_frames: int, suffix: str, codec: str) -> None:
    drawn = draw(tmp_path / f"clip.{suffix}", encoder=encoder, b_frames=b_frames)
    sampled = sample(drawn.path)
    assert sampled.serving == serving_frames(drawn.timestamps, SPEC.sample_fps)
    assert sampled.report == DecodeReport(
        duration_seconds=2.0,
        stream_start_seconds=0.0,
        width=320,
        height=240,
        sample_aspect_ratio="1:1",
        codec=codec,
        decoder="opencv",
        rotation_degrees=0,
        mirrored=False,
        time_base="pts",
        frames_walked=50,
        frames_decoded=16,
        frames_used=16,
        frames_repeated=0,
        frames_dropped=0,
        frames_damaged=0,
        first_seconds=0.0,
        last_seconds=1.84,
        origin_seconds=0.0,
        ticks=16,
        ticks_end_seconds=2.0,
    )


@pytest.mark.parametrize("sample_fps", [1.0, 8.0, 12.5, 30.0])
@pytest.mark.parametrize("fps", [2.0, 10.0, 23.976, 29.97, 60.0])
def test_constant_rates(tmp_path: Path, fps: float, sample_fps: float) -> None:
    drawn = draw(tmp_path / "clip.mp4", num_frames=40, fps=fps, b_frames=2)
    sampled = sample(drawn.path, SPEC.model_copy(update={"sample_fps": sample_fps}))
    assert sampled.serving == serving_frames(drawn.timestamps, sample_fps)
    assert sampled.report.frames_walked == 40
    assert sampled.report.duration_seconds == pytest.approx(40 / fps, abs=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("sample_fps", [4.0, 8.0, 30.0])
def test_variable_rates(tmp_path: Path, suffix: str, b_frames: int, sample_fps: float) -> None:
    drawn = draw(tmp_path / f"clip.{suffix}", num_frames=len(UNEVEN), timestamps=UNEVEN, b_frames=b_frames)
    sampled = sample(drawn.path, SPEC.model_copy(update={"sample_fps": sample_fps}))
    end = drawn.timestamps[-1] + 1 / 25  # as the encoder's last packet says
    serving = serving_frames(drawn.timestamps, sample_fps, shown_until=end)
    assert sampled.serving == serving
    # Of B-frames at uneven times the muxer writes a step of decoding: within a frame.
    assert sampled.report.duration_seconds == pytest.approx(end, abs=1 / 25)
    assert sampled.report.ticks_end_seconds == pytest.approx(min(end, len(serving) / sample_fps), abs=1 / 25)
    assert sampled.report.frames_used == len(set(serving))
    assert sampled.report.frames_repeated == len(serving) - len(set(serving))
    assert sampled.report.last_seconds == pytest.approx(drawn.timestamps[serving[-1]], abs=1e-3)
    assert sampled.report.time_base == "pts"


def test_a_slow_clip_repeats_its_frames(tmp_path: Path) -> None:
    sampled = sample(draw(tmp_path / "clip.mp4", num_frames=6, fps=2).path)
    assert sampled.ticks == [4, 4, 4, 4, 4, 4]
    assert (sampled.report.frames_used, sampled.report.frames_repeated) == (6, 18)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_times_are_relative_to_the_start_of_the_stream(tmp_path: Path, suffix: str) -> None:
    late = [3.0 + i / 25 for i in range(30)]
    sampled = sample(draw(tmp_path / f"clip.{suffix}", num_frames=30, timestamps=late).path)
    assert sampled.serving == serving_frames([i / 25 for i in range(30)], SPEC.sample_fps)
    assert (sampled.report.first_seconds, sampled.report.last_seconds) == pytest.approx((0.0, 1.12), abs=1e-3)


@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 1.0), (0.5, math.inf), (0.52, 1.2), (0.73, 0.86), (1.9, 5.0), (0.0, 0.01), (-1.0, 2.0)]
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_start_and_end_trim(tmp_path: Path, b_frames: int, start: float, end: float) -> None:
    drawn = draw(tmp_path / "clip.mp4", b_frames=b_frames)
    sampled = sample(drawn.path, start_seconds=start, end_seconds=end)
    assert sampled.serving == serving_frames(drawn.timestamps, SPEC.sample_fps, start, end)
    assert sampled.report.first_seconds == pytest.approx(drawn.timestamps[sampled.serving[0]], abs=1e-6)
    assert sampled.report.last_seconds == pytest.approx(drawn.timestamps[sampled.serving[-1]], abs=1e-6)
    assert sampled.report.origin_seconds == max(start, 0.0)


def test_the_walk_stops_at_the_end_of_the_cut(clip: Drawn) -> None:
    """Its last tick, at 0.375 s, is frame 9's; frame 10 tells that this one's showing is over."""
    assert sample(clip.path, end_seconds=0.5).report.frames_walked == 11


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("max_frames", [1, 3, 16, 1000])
def test_chunks_and_threads_do_not_change_the_result(tmp_path: Path, max_frames: int, num_threads: int) -> None:
    path = draw(tmp_path / "clip.mp4", num_frames=len(UNEVEN), timestamps=UNEVEN, b_frames=2).path
    reference = sample(path)
    sampled = sample(path, max_frames=max_frames, num_threads=num_threads)
    np.testing.assert_array_equal(sampled.frames, reference.frames)
    assert sampled.ticks == reference.ticks
    assert sampled.report == reference.report
    assert all(len(chunk.frames) == len(chunk.ticks) == max_frames for chunk in sampled.chunks[:-1])
    assert 1 <= len(sampled.chunks[-1].frames) <= max_frames


def test_a_chunk_owns_its_memory_and_has_the_promised_type(clip: Drawn) -> None:
    with ClipReader(clip.path, SPEC) as reader:
        chunks = reader.chunks(4)
        first = next(chunks)
        before = first.frames.copy()
        rest = list(chunks)
    np.testing.assert_array_equal(first.frames, before)
    assert not any(np.shares_memory(first.frames, chunk.frames) for chunk in rest)
    assert first.frames.shape == (4, 64, 64, 3)
    assert (str(first.frames.dtype), str(first.ticks.dtype)) == ("uint8", "int64")


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_pictures_are_upright_and_rgb(tmp_path: Path, suffix: str, turn: int) -> None:
    drawn = draw(tmp_path / f"clip.{suffix}", width=320, height=240, rotation_degrees=turn)
    sampled = sample(drawn.path)
    assert sampled.serving == serving_frames(drawn.timestamps, SPEC.sample_fps)
    assert (sampled.report.rotation_degrees, sampled.report.width, sampled.report.height) == (turn, 320, 240)
    for frame in sampled.frames:
        np.testing.assert_allclose(frame[2].mean(axis=0), ORANGE, atol=8)
        np.testing.assert_allclose(frame[-3].mean(axis=0), BLUE, atol=8)


def test_frames_without_a_timestamp_get_the_nominal_step(tmp_path: Path) -> None:
    """AVI holds no presentation times: the last B-frames, flushed from the decoder, come without one."""
    sampled = sample(draw(tmp_path / "clip.avi", b_frames=2).path)
    assert sampled.report.time_base == "nominal"
    assert sampled.report.frames_walked == 50
    assert sampled.report.warnings == (
        "2 of 50 frames had no rising timestamp; they come at the time of the one before, or the nominal step of "
        "0.0400 s after it",
    )
    assert sampled.serving == serving_frames([i / 25 for i in range(50)], SPEC.sample_fps)


class _FailsToRetrieve:
    """A source that gives no picture of some frames: a fake, as no file makes FFmpeg do so on demand."""

    def __init__(self, source: Source, failing: set[int]) -> None:
        self._source, self._failing, self._frame = source, failing, -1

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def grab(self) -> bool:
        self._frame += 1
        return self._source.grab()

    def retrieve(self) -> NDArray[np.uint8] | None:
        return None if self._frame in self._failing else self._source.retrieve()


def test_the_next_frame_takes_the_place_of_a_dropped_one(clip: Drawn) -> None:
    with ClipReader(clip.path, SPEC) as reader:
        reader._source = _FailsToRetrieve(reader._source, {3, 6, 7})  # type: ignore[assignment]
        sampled = Sampled(list(reader.chunks(3)), reader.report())
    assert sampled.serving == [0, 4, 8, *serving_frames(clip.timestamps, SPEC.sample_fps)[3:]]
    assert (sampled.report.frames_used, sampled.report.frames_dropped) == (16, 3)
    assert sampled.report.warnings == ("3 sampled frames could not be decoded; the next ones took their place",)


def test_no_decodable_frame_when_every_frame_is_dropped(clip: Drawn) -> None:
    with ClipReader(clip.path, SPEC) as reader:
        reader._source = _FailsToRetrieve(reader._source, set(range(50)))  # type: ignore[assignment]
        with pytest.raises(NoDecodableFrame):
            list(reader.chunks(16))


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda blob: blob[: int(len(blob) * share)]


def _zeroed_media(blob: bytes) -> bytes:
    """The MP4 with its header intact and the media data (`mdat`) zeroed."""
    start = blob.index(b"mdat") + 4
    size = int.from_bytes(blob[start - 8 : start - 4], "big") - 8
    return blob[:start] + bytes(size) + blob[start + size :]


@pytest.mark.parametrize(
    ("suffix", "damage", "error"),
    [
        ("mp4", lambda _: b"", EmptyFile),
        ("mp4", lambda _: b"\0", NotAVideo),
        ("mp4", lambda _: b"This is not a video.\n" * 100, NotAVideo),
        ("", lambda _: b"This is not a video.\n" * 100, NotAVideo),
        ("mp4", lambda _: np.random.default_rng(0).bytes(5000), NotAVideo),
        ("mp4", _cut(0.001), NotAVideo),
        ("mp4", _cut(0.5), NotAVideo),
        ("mp4", _zeroed_media, NoDecodableFrame),
        ("mkv", _cut(0.01), NotAVideo),
        ("mkv", _cut(0.05), NoDecodableFrame),
    ],
    ids=["empty", "byte", "text", "no-suffix", "noise", "cut-mp4", "half-mp4", "zeroed-mp4", "cut-mkv", "header-mkv"],
)
def test_broken_files(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes], error: type[ReelserveError]
) -> None:
    whole = draw(tmp_path / f"whole.{suffix or 'mp4'}").path
    broken = tmp_path / ("broken." + suffix).rstrip(".")
    broken.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(error) as caught:
        sample(broken)
    assert caught.type is error
    assert str(tmp_path) not in caught.value.detail, "a path of the server is none of the client's business"


def test_a_file_cut_short_gives_the_frames_that_it_has(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "clip.mkv")
    drawn.path.write_bytes(_cut(0.5)(drawn.path.read_bytes()))
    sampled = sample(drawn.path)
    assert 10 < sampled.report.frames_walked < 40
    assert sampled.serving == serving_frames(drawn.timestamps[: sampled.report.frames_walked], SPEC.sample_fps)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(
        b"RIFF" + (36 + 8000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        + b"\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data" + (8000).to_bytes(4, "little") + bytes(8000)
    )  # fmt: skip
    with pytest.raises(NotAVideo):
        sample(path)


def test_too_many_pixels(clip: Drawn) -> None:
    sample(clip.path, limits=DecodeLimits(max_frame_pixels=320 * 240))
    with pytest.raises(TooManyPixels, match=r"320 x 240 pixels, the limit is 76799.*max_frame_pixels") as caught:
        sample(clip.path, limits=DecodeLimits(max_frame_pixels=320 * 240 - 1))
    assert (caught.value.value, caught.value.limit) == (320 * 240, 320 * 240 - 1)


def test_too_many_frames(clip: Drawn) -> None:
    assert sample(clip.path, limits=DecodeLimits(max_frames_walked=50)).report.frames_walked == 50
    with pytest.raises(TooManyFrames, match=r"more than 49 frames.*max_frames_walked") as caught:
        sample(clip.path, limits=DecodeLimits(max_frames_walked=49))
    assert (caught.value.value, caught.value.limit) == (50, 49)


def test_the_limit_of_frames_counts_what_the_cut_walks(clip: Drawn) -> None:
    assert sample(clip.path, end_seconds=0.5, limits=DecodeLimits(max_frames_walked=11)).report.frames_used == 4


def test_too_short(clip: Drawn) -> None:
    assert len(sample(clip.path, SPEC.model_copy(update={"min_frames": 16})).frames) == 16
    with pytest.raises(TooShort, match="16 frames at 8 per second, the model needs 17") as caught:
        sample(clip.path, SPEC.model_copy(update={"min_frames": 17}))
    assert (caught.value.value, caught.value.limit) == (16, 17)


def test_too_short_counts_ticks_not_frames(tmp_path: Path) -> None:
    """A slow clip's repeated frames count: the model sees them."""
    path = draw(tmp_path / "clip.mp4", num_frames=6, fps=2).path
    assert sum(sample(path, SPEC.model_copy(update={"min_frames": 24})).ticks) == 24


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (2.0, math.inf, "^start_seconds is 2, and the video ends at 2.00 s; give an earlier start$"),
        (50.0, 60.0, "^start_seconds is 50, and the video ends at 2.00 s; give an earlier start$"),
    ],
)
def test_a_start_past_the_end_is_an_error_of_its_own(clip: Drawn, start: float, end: float, words: str) -> None:
    with pytest.raises(PastTheEnd, match=words):
        sample(clip.path, start_seconds=start, end_seconds=end)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (
            1.0,
            0.5,
            "^the clip from 1 s to 0.5 s gives 0 frames .* give an earlier start_seconds or a later end_seconds$",
        ),
        (0.0, 0.0, "^the clip from 0 s to 0 s gives 0 frames .* give a later end_seconds$"),
    ],
)
def test_a_cut_without_frames_is_too_short(clip: Drawn, start: float, end: float, words: str) -> None:
    with pytest.raises(TooShort, match=words):
        sample(clip.path, start_seconds=start, end_seconds=end)


def test_the_report_of_a_cut_knows_no_end_of_the_stream(clip: Drawn) -> None:
    """Its last tick lasts for a whole one, as far as anybody has looked; of the whole clip it ends with the stream."""
    report = sample(clip.path, start_seconds=0.4, end_seconds=1.0).report
    assert (report.origin_seconds, report.ticks, report.ticks_end_seconds) == (0.4, 5, 1.025)
    tail = sample(clip.path, start_seconds=1.7).report
    assert (tail.origin_seconds, tail.ticks, tail.ticks_end_seconds) == (1.7, 3, 2.0)


def test_a_missing_file_is_not_the_videos_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sample(tmp_path / "gone.mp4")


@pytest.mark.parametrize("name", ["a%03d.mp4", "a b.mp4", "ü 片.mp4", "12:30.mp4", "-i.mp4", "a|b.mp4", "a*?.mp4"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    drawn = draw(tmp_path / "clip.mp4", num_frames=10)
    path = drawn.path.rename(tmp_path / name)
    assert sample(path).serving == serving_frames(drawn.timestamps, SPEC.sample_fps)


def _open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def _abandon(path: Path) -> None:
    with ClipReader(path, SPEC) as reader:
        next(reader.chunks(2))


def _refuse(path: Path) -> None:
    with pytest.raises(TooManyPixels):
        ClipReader(path, SPEC, limits=DecodeLimits(max_frame_pixels=1))


def _fail(path: Path) -> None:
    text = path.with_name("text.mp4")
    text.write_text("This is not a video.\n" * 100)
    with pytest.raises(NotAVideo):
        ClipReader(text, SPEC)


@pytest.mark.parametrize("use", [sample, _abandon, _refuse, _fail])
def test_no_descriptor_leaks(clip: Drawn, use: Callable[[Path], object]) -> None:
    use(clip.path)
    before = _open_descriptors()
    for _ in range(10):
        use(clip.path)
    assert _open_descriptors() == before


def test_leaving_the_block_closes_the_file(clip: Drawn) -> None:
    before = _open_descriptors()
    with ClipReader(clip.path, SPEC) as reader:
        next(reader.chunks(2))
        assert _open_descriptors() > before
    assert _open_descriptors() == before, "the file is still open"
