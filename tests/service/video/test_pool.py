"""Videos in processes of their own: the same frames as in this process, bounded, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import Cancelled, EmptyFile, ReelserveError
from service.video.decode import ClipReader
from service.video.errors import (
    CodecNotSupported,
    CorruptVideo,
    NotAVideo,
    TooLong,
    TooManyFrames,
    TooManyPixels,
    TooShort,
)
from service.video.limits import DecodeLimits
from service.video.open_video import CHUNKS_HELD, OpenVideo
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from tests.decoders import decoders, only_decoder, open_descriptors, wait_for_no_decoder
from tests.drawn import Drawn, animated_webp, draw
from tests.real_clips import NAMES, real_clip
from tests.server import wait_until

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(num_credits=2) as opened:
        yield opened


def read(video: OpenVideo) -> tuple[Frames, list[int]]:
    """All frames, copied, and their ticks."""
    frames, ticks = [], []
    for chunk in video.chunks():
        frames.append(chunk.frames.copy())
        ticks += chunk.ticks.tolist()
        chunk.release()
    return np.concatenate(frames), ticks


def read_here(path: Path, spec: ClipSpec = SPEC, **how: float) -> tuple[Frames, list[int], DecodeReport]:
    """The same by `ClipReader` in this process."""
    with ClipReader(path, spec, **how) as reader:  # type: ignore[arg-type]
        chunks = list(reader.chunks(16))
    ticks = list(itertools.chain.from_iterable(chunk.ticks.tolist() for chunk in chunks))
    return np.concatenate([chunk.frames for chunk in chunks]), ticks, reader.report()


@pytest.mark.parametrize("how", [{}, {"start_seconds": 1.3, "end_seconds": 4.05}])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_in_this_process(pool: DecodePool, name: str, how: dict[str, float]) -> None:
    path = real_clip(name)
    expected_frames, expected_ticks, expected_report = read_here(path, SPEC, **how)
    with pool.open(path, SPEC, **how) as video:  # type: ignore[arg-type]
        frames, ticks = read(video)
    np.testing.assert_array_equal(frames, expected_frames)
    assert ticks == expected_ticks
    assert video.report() == expected_report


def test_what_the_headers_say(pool: DecodePool, clip: Drawn) -> None:
    with pool.open(clip.path, SPEC) as video:
        container = video.container
    assert (container.format, container.codec, container.scan) == ("MPEG-4", "AVC", "Progressive")


def test_frames_are_read_only_shared_memory_that_outlives_the_video(pool: DecodePool, clip: Drawn) -> None:
    with pool.open(clip.path, SPEC) as video:
        chunk = next(video.chunks())
        before = chunk.frames.copy()
        assert not chunk.frames.flags.writeable
    wait_for_no_decoder(pool)
    np.testing.assert_array_equal(chunk.frames, before)


def test_a_held_chunk_is_never_written_again(pool: DecodePool, long_clip: Drawn) -> None:
    with pool.open(long_clip.path, SPEC) as video:
        chunks = video.chunks()
        held = [next(chunks) for _ in range(CHUNKS_HELD)]
        copies = [chunk.frames.copy() for chunk in held]
        for chunk in chunks:  # the one segment that is left serves all the others
            chunk.release()
        for chunk, copy in zip(held, copies, strict=True):
            np.testing.assert_array_equal(chunk.frames, copy)


def test_to_hold_them_all_is_an_error_and_not_a_deadlock(pool: DecodePool, long_clip: Drawn) -> None:
    with pool.open(long_clip.path, SPEC) as video, pytest.raises(RuntimeError, match="release"):
        list(video.chunks())
    wait_for_no_decoder(pool)


def test_nothing_is_decoded_ahead_of_the_consumer(pool: DecodePool, long_clip: Drawn) -> None:
    with pool.open(long_clip.path, SPEC) as video:
        next(video.chunks())
        decoder = only_decoder(pool)
        wait_until(lambda: decoder.status() == "sleeping", "a decoder without a turn")
        used = decoder.cpu_times()
        time.sleep(0.3)
        assert decoder.cpu_times() == used


def test_a_report_before_the_end_is_refused(pool: DecodePool, long_clip: Drawn) -> None:
    with pool.open(long_clip.path, SPEC) as video, pytest.raises(ValueError, match="not ended"):
        video.report()


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(bytes(range(256)) * 64)
    return path


def _webp(path: Path) -> Path:
    """An animated one, of which nobody here reads the frames."""
    path.write_bytes(animated_webp())
    return path


def _drawn(path: Path) -> Path:
    return draw(path.with_suffix(".mp4")).path


NO_LIMIT = DecodeLimits()


@pytest.mark.parametrize(
    ("make", "limits", "error"),
    [
        (_empty, NO_LIMIT, EmptyFile),
        (_noise, NO_LIMIT, NotAVideo),
        (_webp, NO_LIMIT, CodecNotSupported),
        (_drawn, replace(NO_LIMIT, max_frame_pixels=100), TooManyPixels),
        (_drawn, replace(NO_LIMIT, max_frames_walked=20), TooManyFrames),
        (_drawn, replace(NO_LIMIT, max_ticks=5), TooManyFrames),
        (_drawn, replace(NO_LIMIT, max_duration_seconds=1.0), TooLong),
    ],
)
def test_errors_cross_the_border_with_all_they_carry(
    tmp_path: Path, make: object, limits: DecodeLimits, error: type[ReelserveError]
) -> None:
    path = make(tmp_path / "upload")  # type: ignore[operator]
    with DecodePool(1, limits) as pool:
        with pytest.raises(error) as caught, pool.open(path, SPEC) as video:
            read(video)
        wait_for_no_decoder(pool)
    assert caught.type is error
    assert 400 <= caught.value.status < 500
    assert caught.value.detail
    assert (caught.value.limit is not None) == (limits is not NO_LIMIT)


def test_too_short_names_both_numbers(pool: DecodePool, clip: Drawn) -> None:
    spec = SPEC.model_copy(update={"min_frames": 17})
    with pytest.raises(TooShort) as caught, pool.open(clip.path, spec) as video:
        read(video)
    assert (caught.value.value, caught.value.limit) == (16, 17)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real clip with every 97th byte of some stretches of its second half turned over."""
    blob = bytearray(real_clip("bikes.mp4").read_bytes())
    for share in (0.55, 0.7, 0.8):
        for at in range(int(len(blob) * share), int(len(blob) * share) + 2000, 97):
            blob[at] ^= 0xFF
    path = tmp_path_factory.mktemp("damaged") / "damaged.mp4"
    path.write_bytes(blob)
    return path


def test_damage_is_a_warning_with_its_time(pool: DecodePool, damaged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pool.open(damaged, SPEC) as video:
        frames, _ = read(video)
    report = video.report()
    assert len(frames) == report.frames_used == 80
    assert 0 < report.frames_damaged < 25
    [warning] = report.warnings
    assert warning.startswith("corrupt at ")
    assert capfd.readouterr() == ("", ""), "what FFmpeg prints is ours to tell"


def test_strict_refuses_damage(pool: DecodePool, damaged: Path) -> None:
    with pytest.raises(CorruptVideo) as caught, pool.open(damaged, SPEC, strict=True) as video:
        read(video)
    assert isinstance(caught.value.value, float)
    assert 3.0 < caught.value.value < 9.0
    assert f"{caught.value.value:.3f} s" in caught.value.detail


def test_strict_passes_what_is_sound(pool: DecodePool) -> None:
    with pool.open(real_clip("bikes.mp4"), SPEC, strict=True) as video:
        read(video)
    assert video.report().frames_damaged == 0


def test_cancelling_ends_the_process_and_frees_the_memory(pool: DecodePool, long_clip: Drawn) -> None:
    cancelled = False

    def check() -> None:
        if cancelled:
            raise Cancelled("enough")

    gc.collect()
    segments = open_descriptors("memfd:frames")
    with pool.open(long_clip.path, SPEC, check=check) as video:
        chunks = video.chunks()
        next(chunks).release()
        decoder = only_decoder(pool)
        decoder.suspend()  # so that its turn does not end by itself
        cancelled = True
        with pytest.raises(Cancelled):
            next(chunks)
    wait_for_no_decoder(pool)
    del video, chunks
    gc.collect()
    assert open_descriptors("memfd:frames") == segments


def _abandoned(pool: DecodePool, path: Path) -> None:
    with pool.open(path, SPEC) as video:
        next(video.chunks())


def _read_whole(pool: DecodePool, path: Path) -> None:
    with pool.open(path, SPEC) as video:
        read(video)


def _refused(pool: DecodePool, path: Path) -> None:
    with pytest.raises(NotAVideo), pool.open(path.with_name("text.txt"), SPEC):
        pass


@pytest.mark.parametrize("use", [_read_whole, _abandoned, _refused])
def test_no_descriptor_and_no_process_is_left(pool: DecodePool, long_clip: Drawn, use: object) -> None:
    long_clip.path.with_name("text.txt").write_text("not a video")
    use(pool, long_clip.path)  # type: ignore[operator]
    gc.collect()
    before = open_descriptors()
    for _ in range(8):
        use(pool, long_clip.path)  # type: ignore[operator]
    gc.collect()
    assert open_descriptors() == before
    wait_for_no_decoder(pool)


def test_many_are_open_at_once_and_each_has_its_own_process(pool: DecodePool, long_clip: Drawn) -> None:
    expected, _, _ = read_here(long_clip.path)
    videos = [pool.open(long_clip.path, SPEC) for _ in range(6)]
    readers = []
    for video in videos:
        video.__enter__()
        readers.append(video.chunks())
    assert len({decoder.pid for decoder in decoders(pool.zygote.pid)}) == 6
    parts: list[list[Frames]] = [[] for _ in videos]
    for chunks in itertools.zip_longest(*readers):
        for chunk, part in zip(chunks, parts, strict=True):
            if chunk is not None:
                part.append(chunk.frames.copy())
                chunk.release()
    for video, part in zip(videos, parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), expected)
        video.__exit__(None, None, None)
    wait_for_no_decoder(pool)
