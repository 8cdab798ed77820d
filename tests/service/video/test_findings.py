"""What is found in facts, one by one, and what is found in files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from service.video.facts import Damage, Keyframes, ProbeFacts, Promise, Refusal, Walk
from service.video.findings import Finding, find
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import draw

LIMITS = DecodeLimits()
SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64, min_frames=2)

EVERY_FRAME = SPEC.model_copy(update={"sample_fps": None})
WALK = Walk(
    complete=True, num_frames=100, duration_seconds=4.0, first_seconds=0.0, last_seconds=3.96, rate="constant",
    fps=25.0, shortest_step_seconds=0.04, commonest_step_seconds=0.04, longest_step_seconds=0.04,
    frames_without_time=0, keyframes=Keyframes(count=1, longest_frames=100, longest_seconds=4.0, mean_seconds=4.0),
)  # fmt: skip
CLEAN = ProbeFacts(
    container="MPEG-4", tracks=("Video",), codec="h264", width=320, height=240, sample_aspect_ratio="1:1",
    scan="Progressive", index_first=True, header=Promise(num_frames=100, duration_seconds=4.0, fps=25.0),
    decodable=True, walk=WALK,
)  # fmt: skip


def facts(**changes: Any) -> ProbeFacts:
    return CLEAN.model_copy(update=changes)


def walked(**changes: Any) -> ProbeFacts:
    return facts(walk=WALK.model_copy(update=changes))


def by_header(**promise: Any) -> ProbeFacts:
    return facts(walk=None, header=CLEAN.header.model_copy(update=promise))


@dataclass(frozen=True)
class Case:
    facts: ProbeFacts
    severity: str
    says: tuple[str, ...]
    limits: DecodeLimits = LIMITS
    spec: ClipSpec | None = field(default=SPEC)


REFUSAL = Refusal(code="decode_anything", detail="the reason")
CASES: dict[str, Case] = {
    "decode_anything": Case(facts(refusal=REFUSAL), "error", ("the reason",)),
    "too_long": Case(by_header(duration_seconds=20_000.0, num_frames=500_000), "warning", ("20000 s", "14400 s")),
    "too_many_frames": Case(by_header(num_frames=2_000_000), "warning", ("2000000", "1000000", "max_frames_walked")),
    "too_many_frames by ticks": Case(CLEAN, "error", ("16 samples", "10", "max_ticks"), DecodeLimits(max_ticks=10)),
    "too_many_frames of every one": Case(
        CLEAN, "error", ("100 frames, the limit", "max_ticks"), DecodeLimits(max_ticks=99), EVERY_FRAME
    ),
    "too_short of every frame": Case(
        walked(num_frames=1, last_seconds=0.0, duration_seconds=0.6).model_copy(
            update={"header": Promise(num_frames=1, duration_seconds=0.6, fps=25.0)}
        ),
        "error", ("1 frames, the model needs 2",), spec=EVERY_FRAME,
    ),
    "too_short": Case(
        walked(num_frames=5, last_seconds=0.16, duration_seconds=0.2).model_copy(
            update={"header": Promise(num_frames=5, duration_seconds=0.2, fps=25.0)}
        ),
        "error",
        ("1 samples", "needs 2"),
    ),
    "too_short by header": Case(by_header(duration_seconds=0.2, num_frames=5), "warning", ("by its header", "needs 2")),
    "low_rate": Case(walked(fps=2.0), "info", ("2 frames a second", "samples 4")),
    "damaged": Case(
        facts(damage=Damage(first_seconds=1.5, words="no frame!", frames=3, gaps=1)), "warning",
        ("1.500 s", "no frame!", "3 of 100", "strict"),
    ),
    "cut_short": Case(
        facts(header=Promise(num_frames=250, duration_seconds=10.0, fps=25.0)), "warning",
        ("10.00 s", "4.00 s came", "or its header is wrong", "whole file"),
    ),
    "cut_short and surely": Case(facts(truncated=True, walk=None), "warning", ("fewer bytes", "whole file")),
    "interlaced": Case(facts(scan="MBAFF"), "warning", ("MBAFF", "combs")),
    "hdr": Case(facts(hdr="PQ"), "info", ("PQ", "mapped to standard range")),
    "hdr that FFmpeg can't map": Case(facts(hdr="Dolby Vision"), "info", ("Dolby Vision", "taken as stored")),
    "non_square_pixels": Case(facts(sample_aspect_ratio="16:11"), "info", ("16:11",)),
    "rotated": Case(facts(rotation_degrees=90), "info", ("90°", "upright")),
    "mirrored": Case(facts(mirrored=True), "info", ("mirror", "exchanged")),
    "several_streams": Case(
        facts(num_films=2, stream=1, video_streams=("AVC 160 x 120", "AVC 640 x 480")), "warning",
        ("2 video streams", "0: AVC 160 x 120, 1: AVC 640 x 480", "1 is taken", "stream"),
    ),
    "second_file": Case(facts(second_file_byte=4711), "warning", ("byte 4711", "send each by itself")),
    "index_last": Case(facts(index_first=False), "info", ("behind the frames",)),
    "header_wrong": Case(
        facts(header=Promise(num_frames=60, duration_seconds=4.0, fps=25.0)), "info", ("60 frames", "100")
    ),
    "header_wrong of duration": Case(
        facts(header=Promise(num_frames=100, duration_seconds=1.0, fps=25.0)), "info", ("1.00 s", "4.00 s")
    ),
    "bad_timestamps": Case(walked(frames_without_time=15), "warning", ("15 of 100", "nominal")),
    "bad_timestamps of one": Case(walked(frames_without_time=1), "info", ("1 of 100",)),
    "clock_jumps": Case(walked(jumps=2), "warning", ("in 2 places", "recordings were joined", "bridge")),
    "clock_jumps of a header that tells the clock's difference": Case(
        facts(walk=WALK.model_copy(update={"jumps": 1}), header=Promise(duration_seconds=1804.0, fps=25.0)), "warning",
        ("in 1 places",),
    ),
    "variable_rate": Case(
        walked(rate="variable", longest_step_seconds=0.5), "info", ("40 to 500 ms", "mostly 40", "timestamps")
    ),
    "sparse_keyframes": Case(
        walked(keyframes=Keyframes(count=1, longest_frames=500, longest_seconds=20.0, mean_seconds=20.0)), "info",
        ("20.0 s", "seeking"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_is_found_alone(name: str) -> None:
    case = CASES[name]
    [found] = find(case.facts, case.limits, case.spec)
    assert found.code == name.split()[0]
    assert found.severity == case.severity
    for words in case.says:
        assert words in found.message


def test_a_clean_file_has_none() -> None:
    assert find(CLEAN, LIMITS, SPEC) == []
    assert find(facts(walk=None), LIMITS, SPEC) == []


def test_the_gravest_comes_first() -> None:
    found = find(facts(rotation_degrees=90, scan="MBAFF", refusal=REFUSAL), LIMITS)
    assert [finding.severity for finding in found] == ["error", "warning", "info"]


@pytest.mark.parametrize("code", ["no_video_stream", "no_decodable_frame"])
def test_of_a_file_without_a_frame_nothing_else_is_said(code: str) -> None:
    broken = facts(
        refusal=Refusal(code=code, detail="why"), decodable=False, walk=None, hdr="PQ", index_first=False,
        damage=Damage(first_seconds=0, words="words", frames=0, gaps=0), truncated=True,
    )  # fmt: skip
    assert [finding.code for finding in find(broken, LIMITS, SPEC)] == [code]


def test_a_refused_file_that_can_be_mended_is_looked_at_further() -> None:
    large = facts(
        refusal=Refusal(code="too_many_pixels", detail="why"), decodable=False, walk=None, hdr="PQ",
        header=Promise(duration_seconds=20_000.0),
    )  # fmt: skip
    assert [finding.code for finding in find(large, LIMITS, SPEC)] == ["too_many_pixels", "too_long", "hdr"]


def test_a_thumbnail_beside_the_film_is_not_worth_a_word() -> None:
    assert find(facts(num_films=1, video_streams=("JPEG 160 x 120", "AVC 640 x 480"), stream=1), LIMITS) == []


def test_a_walk_that_a_limit_ended_judges_no_length() -> None:
    stopped = walked(complete=False, num_frames=1, last_seconds=0.0, duration_seconds=0.04)
    refused = stopped.model_copy(update={"refusal": Refusal(code="too_long", detail="why")})
    assert [(found.code, found.severity) for found in find(refused, LIMITS, SPEC)] == [
        ("too_long", "error"),
        ("too_short", "warning"),
    ]


@pytest.mark.parametrize("count", [98, 99, 101, 102])
def test_a_count_made_of_duration_and_rate_is_no_lie(count: int) -> None:
    assert find(facts(header=Promise(num_frames=count, duration_seconds=4.0, fps=25.0)), LIMITS) == []


def test_the_count_of_a_variable_rate_is_no_promise() -> None:
    jumpy = walked(rate="variable").model_copy(
        update={"header": Promise(num_frames=500, duration_seconds=4.0, fps=25.0)}
    )
    assert [found.code for found in find(jumpy, LIMITS)] == ["variable_rate"]


def test_the_complaint_at_the_end_of_a_cut_file_is_not_told_twice() -> None:
    cut = facts(truncated=True, damage=Damage(first_seconds=3.9, words="File ended prematurely", frames=0, gaps=0))
    assert [found.code for found in find(cut, LIMITS)] == ["cut_short"]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as running:
        yield running


def codes(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def unknown_codec(path: Path) -> Path:
    """Of the codec `REEL`, which nobody has a decoder for."""
    draw(path, 10, encoder="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"REEL"))
    return path


def test_files(pool: DecodePool, tmp_path: Path) -> None:
    fast = {"movflags": "+faststart"}
    files = {
        draw(tmp_path / "clean.mp4", muxer_options=fast).path: set[str](),
        draw(tmp_path / "plain.mp4").path: {"index_last"},
        draw(tmp_path / "av1.mp4", encoder="libsvtav1", muxer_options=fast).path: set(),
        unknown_codec(tmp_path / "unknown.avi"): {"codec_not_supported"},
        draw(tmp_path / "turned.mp4", rotation_degrees=90).path: {"index_last", "rotated"},
        draw(tmp_path / "wide.mkv", sample_aspect_ratio=Fraction(4, 3)).path: {"non_square_pixels"},
        draw(tmp_path / "slow.mkv", 10, fps=2.0).path: {"low_rate"},
        draw(tmp_path / "one.mp4", 1, muxer_options=fast).path: {"too_short"},
        draw(tmp_path / "vfr.mkv", 30, timestamps=[i / 25 + 0.5 * (i > 15) for i in range(30)]).path: {"variable_rate"},
        draw(tmp_path / "long.mkv", 450, options={"g": "1000"}, width=64, height=48).path: {"sparse_keyframes"},
        draw(tmp_path / "fields.mpg", 50, encoder="mpeg2video", options={"flags": "+ilme+ildct"}).path: {"interlaced"},
    }
    for path, expected in files.items():
        assert codes(find(pool.probe(path, full=True), LIMITS, SPEC)) == expected, path.name


def test_damage_in_the_middle(pool: DecodePool, tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 100, options={"g": "20"}, muxer_options={"movflags": "+faststart"}).path
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    [found] = [found for found in find(pool.probe(path, full=True), LIMITS, SPEC) if found.severity != "info"]
    assert found.code == "damaged"
