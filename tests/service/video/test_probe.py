"""`DecodePool.probe` and `Prober` over drawn, real and broken files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from service.errors import Cancelled, EmptyFile, ReelserveError
from service.video.container import identify
from service.video.errors import NotAVideo
from service.video.facts import ProbeFacts
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.probe import Prober
from tests.drawn import draw
from tests.real_clips import NAMES, real_clip

ODD = Path(__file__).parents[3] / "../shared/data/odd"
FILES = sorted(path.relative_to(ODD) for path in ODD.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(2) as running:
        yield running


def limited(path: Path, limits: DecodeLimits, *, full: bool = True) -> ProbeFacts:
    with DecodePool(1, limits) as pool:
        return pool.probe(path, full=full)


def test_the_header_of_a_clip(pool: DecodePool, tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mp4", num_frames=60, width=320, height=180, b_frames=2)
    facts = pool.probe(clip.path)
    assert (facts.container, facts.tracks, facts.codec) == ("MPEG-4", ("Video",), "h264")
    assert (facts.width, facts.height, facts.sample_aspect_ratio, facts.rotation_degrees) == (320, 180, "1:1", 0)
    assert (facts.pixel_format, facts.bit_depth, facts.scan, facts.hdr) == ("YUV 4:2:0", 8, "Progressive", None)
    assert (facts.header.num_frames, facts.header.duration_seconds, facts.header.fps) == (60, 2.4, 25.0)
    assert (facts.decodable, facts.refusal, facts.damage, facts.walk) == (True, None, None, None)
    assert facts.index_first is False
    assert facts.speed is not None
    assert facts.speed.frames >= 1
    assert facts.speed.decode_milliseconds > 0
    assert facts.speed.convert_milliseconds > 0


def test_a_full_walk_counts(pool: DecodePool, tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mp4", num_frames=200, options={"g": "30", "sc_threshold": "0"})
    walk = pool.probe(clip.path, full=True).walk
    assert walk is not None
    assert (walk.complete, walk.num_frames, walk.rate, walk.fps) == (True, 200, "constant", 25.0)
    assert (walk.first_seconds, walk.last_seconds, walk.duration_seconds) == (0.0, 7.96, 8.0)
    assert walk.keyframes is not None
    assert (walk.keyframes.count, walk.keyframes.longest_frames, walk.keyframes.longest_seconds) == (7, 30, 1.2)


def test_a_file_as_short_as_the_first_look_is_walked_at_once(pool: DecodePool, tmp_path: Path) -> None:
    walk = pool.probe(draw(tmp_path / "clip.mp4", num_frames=1).path).walk
    assert walk is not None
    assert (walk.num_frames, walk.complete, walk.rate) == (1, True, "unknown")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_variable_rate(pool: DecodePool, tmp_path: Path, suffix: str) -> None:
    timestamps = [i / 25 + (1.0 if i >= 20 else 0.0) for i in range(60)]
    walk = pool.probe(draw(tmp_path / f"clip.{suffix}", 60, timestamps=timestamps).path, full=True).walk
    assert walk is not None
    assert walk.rate == "variable"
    assert walk.longest_step_seconds == pytest.approx(1.04, abs=2e-3)
    assert walk.commonest_step_seconds == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("fps", [23.976, 29.97, 59.94])
@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_a_container_that_rounds_keeps_a_constant_rate(
    pool: DecodePool, tmp_path: Path, suffix: str, fps: float
) -> None:
    clip = draw(tmp_path / f"clip.{suffix}", 60, fps=fps, encoder="libvpx" if suffix == "webm" else "libx264")
    walk = pool.probe(clip.path, full=True).walk
    assert walk is not None
    assert walk.rate == "constant"
    assert walk.fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize(("degrees", "size"), [(0, (320, 180)), (90, (320, 180)), (180, (320, 180)), (270, (320, 180))])
def test_the_size_is_upright(pool: DecodePool, tmp_path: Path, degrees: int, size: tuple[int, int]) -> None:
    facts = pool.probe(draw(tmp_path / "clip.mp4", 5, width=320, height=180, rotation_degrees=degrees).path)
    assert (facts.rotation_degrees, (facts.width, facts.height)) == (degrees, size)


def test_the_shape_of_pixels(pool: DecodePool, tmp_path: Path) -> None:
    facts = pool.probe(draw(tmp_path / "clip.mp4", 5, sample_aspect_ratio=Fraction(16, 11)).path)
    assert (facts.sample_aspect_ratio, facts.pixel_aspect) == ("16:11", Fraction(16, 11))


@pytest.mark.parametrize("name", NAMES)
def test_real_clips(pool: DecodePool, name: str) -> None:
    facts = pool.probe(real_clip(name), full=True)
    assert facts.decodable
    assert facts.walk is not None
    assert facts.walk.complete
    assert facts.walk.num_frames == facts.header.num_frames
    assert facts.damage is None


def test_av1_is_decoded(pool: DecodePool, tmp_path: Path) -> None:
    facts = pool.probe(draw(tmp_path / "clip.mp4", 10, encoder="libsvtav1").path)
    assert (facts.decodable, facts.refusal, facts.decoder) == (True, None, "opencv")
    assert (facts.codec, facts.container, facts.width, facts.height) == ("av1", "MPEG-4", 320, 240)


def test_a_lost_index_is_an_answer(pool: DecodePool, tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4").path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    facts = pool.probe(path)
    assert facts.refusal is not None
    assert facts.refusal.code == "no_decodable_frame"
    assert "moov atom not found" in facts.refusal.detail
    assert facts.truncated


def test_a_cut_file_gives_what_is_left(pool: DecodePool, tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mkv").path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    facts = pool.probe(path, full=True)
    assert (facts.decodable, facts.truncated, facts.header.num_frames) == (True, True, 50)
    assert facts.walk is not None
    assert 0 < facts.walk.num_frames < 50


@pytest.mark.parametrize(
    ("content", "error"), [(b"", EmptyFile), (b"This is not a video.", NotAVideo), (bytes(5000), NotAVideo)]
)
def test_a_file_that_nobody_knows_is_an_error(
    pool: DecodePool, tmp_path: Path, content: bytes, error: type[ReelserveError]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(error):
        pool.probe(path)


def test_too_many_pixels_is_an_answer_and_nothing_is_decoded(tmp_path: Path) -> None:
    facts = limited(draw(tmp_path / "clip.mp4").path, DecodeLimits(max_frame_pixels=320 * 240 - 1))
    assert facts.refusal is not None
    assert (facts.refusal.code, facts.refusal.value, facts.refusal.limit) == ("too_many_pixels", 76800, 76799)
    assert (facts.decodable, facts.speed, facts.walk) == (False, None, None)
    assert (facts.width, facts.height) == (320, 240)


@pytest.mark.parametrize(
    ("limits", "code", "frames"),
    [
        (DecodeLimits(max_frames_walked=40), "too_many_frames", 41),
        (DecodeLimits(max_duration_seconds=1.5), "too_long", 39),
    ],
)
def test_a_limit_ends_the_walk_and_says_so(tmp_path: Path, limits: DecodeLimits, code: str, frames: int) -> None:
    facts = limited(draw(tmp_path / "clip.mp4", 100).path, limits)
    assert facts.refusal is not None
    assert facts.refusal.code == code
    assert facts.walk is not None
    assert (facts.walk.complete, facts.walk.num_frames) == (False, frames)
    assert facts.decodable


def test_within_the_limits_the_first_look_is_content(tmp_path: Path) -> None:
    assert (
        limited(draw(tmp_path / "clip.mp4", 100).path, DecodeLimits(max_frames_walked=40), full=False).refusal is None
    )


def test_a_probe_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled("the client went away")

    path = draw(tmp_path / "clip.mp4", 10).path
    with DecodePool(1) as other, other.credits.turn(other.credits.share()), pytest.raises(Cancelled):
        other.probe(path, check=check)


def test_a_probe_of_a_colon_and_a_relative_name(
    pool: DecodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(draw(tmp_path / "clip.mp4", 10).path, tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert pool.probe(Path("12:30.mp4")).decodable


def test_in_this_process(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 100).path
    prober = Prober(path, DecodeLimits())
    prober.measure(10.0)
    measured = prober.facts()
    assert measured.speed is not None
    assert (measured.speed.frames, measured.walk) == (24, None)
    while not prober.ended:
        prober.walk(0.0001)
    walk = prober.facts().walk
    assert walk is not None
    assert walk.num_frames == 100


@pytest.mark.skipif(not FILES, reason="the folder of odd files, ../shared/data/odd, is not here")
@pytest.mark.parametrize("file", FILES or [Path("absent")], ids=str)
def test_odd_files_are_answered_or_unknown(pool: DecodePool, file: Path) -> None:
    try:
        facts = pool.probe(ODD / file, full=True)
    except NotAVideo:
        assert identify(ODD / file).codec is None
        return
    assert facts.container
    assert facts.decodable == (facts.refusal is None)
    if facts.walk:
        walk = facts.walk
        assert walk.complete
        assert 0 <= walk.first_seconds <= walk.last_seconds < walk.duration_seconds
        assert walk.num_frames > walk.frames_without_time or walk.rate == "unknown"
