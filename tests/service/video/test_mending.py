"""The line that mends: its words, one finding at a time and together."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from service.video.facts import ProbeFacts
from service.video.findings import Finding, Severity
from service.video.limits import DecodeLimits
from service.video.mending import mend, mended_name
from service.video.spec import ClipSpec
from tests.service.video.test_findings import CASES, CLEAN, LIMITS, facts

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
H264 = "-c:v libx264 -pix_fmt yuv420p"
END = "-movflags +faststart OUTPUT.mp4"


def line(
    *codes: str, of: ProbeFacts = CLEAN, limits: DecodeLimits = LIMITS, severity: Severity = "warning"
) -> str | None:
    findings = [Finding(code=code, severity=severity, message="…") for code in codes]
    return mend(findings, of, limits, SPEC)


@pytest.mark.parametrize(
    ("code", "of", "expected"),
    [
        ("codec_not_supported", CLEAN, f"ffmpeg -i INPUT {H264} {END}"),
        ("damaged", CLEAN, f"ffmpeg -err_detect ignore_err -i INPUT {H264} {END}"),
        ("interlaced", CLEAN, f"ffmpeg -i INPUT -vf bwdif=mode=send_frame {H264} {END}"),
        ("bad_timestamps", CLEAN, f"ffmpeg -fflags +genpts -i INPUT {H264} {END}"),
        ("too_long", CLEAN, f"ffmpeg -i INPUT -c copy -t 14400 {END}"),
    ],
)
def test_one_finding(code: str, of: ProbeFacts, expected: str) -> None:
    assert line(code, of=of) == expected


@pytest.mark.parametrize("code", ["index_last", "header_wrong"])
def test_what_is_mended_by_writing_anew(code: str) -> None:
    assert line(code, severity="info") == f"ffmpeg -i INPUT -c copy {END}"
    assert line(code, severity="info", of=facts(container="Matroska")) == f"ffmpeg -i INPUT -c:v copy {END}"
    assert line(code, severity="info", of=facts(codec="vp8")) is None, "not worth another encoding"


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(3840, 2160, "1332:750"), (2160, 3840, "750:1332"), (100_000, 20, "100000:20")]
)
def test_too_many_pixels(width: int, height: int, scale: str) -> None:
    limits = DecodeLimits(max_frame_pixels=1_000_000 if height > 20 else 2_000_000)
    found = line("too_many_pixels", of=facts(width=width, height=height), limits=limits)
    assert found == f"ffmpeg -i INPUT -vf scale={scale},setsar=1 {H264} {END}"
    across, down = map(int, scale.split(":"))
    assert across * down <= limits.max_frame_pixels


def test_all_limits_of_length_hold() -> None:
    limits = DecodeLimits(max_ticks=101, max_frames_walked=60)
    found = line("too_long", "too_many_frames", limits=limits)
    assert found == f"ffmpeg -i INPUT -c copy -t 25 -frames:v 60 {END}"


def test_of_a_model_that_sees_every_frame_frames_are_counted() -> None:
    found, every = (
        [Finding(code="too_many_frames", severity="error", message="…")],
        SPEC.model_copy(update={"sample_fps": None}),
    )
    assert mend(found, CLEAN, DecodeLimits(max_ticks=40), every) == (
        f"ffmpeg -i INPUT -c copy -t 14400 -frames:v 40 {END}"
    )


def test_odd_sides_are_cropped_as_h264_needs() -> None:
    found = line("codec_not_supported", of=facts(width=321))
    assert found == f"ffmpeg -i INPUT -vf 'crop=trunc(iw/2)*2:trunc(ih/2)*2' {H264} {END}"


def test_options_compose_in_one_line() -> None:
    found = line(
        "damaged", "interlaced", "too_many_pixels", "bad_timestamps", limits=DecodeLimits(max_frame_pixels=400)
    )
    assert found is not None
    words = shlex.split(found)
    assert words[:5] == ["ffmpeg", "-err_detect", "ignore_err", "-fflags", "+genpts"]
    assert words[words.index("-vf") + 1] == "bwdif=mode=send_frame,scale=22:16,setsar=1"
    assert words.count("-c:v") == words.count("-vf") == 1


@pytest.mark.parametrize("code", ["no_video_stream", "no_decodable_frame", "too_short"])
def test_what_no_line_mends(code: str) -> None:
    assert line(code, "interlaced") is None


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("variable_rate", "info"), ("rotated", "info"), ("mirrored", "info"), ("non_square_pixels", "info"),
        ("low_rate", "info"), ("sparse_keyframes", "info"), ("bad_timestamps", "info"), ("hdr", "info"),
        ("clock_jumps", "warning"), ("several_streams", "warning"), ("second_file", "warning"),
    ],
)  # fmt: skip
def test_what_needs_no_mending(code: str, severity: Severity) -> None:
    assert line(code, severity=severity) is None


def test_nothing_found_nothing_mended() -> None:
    assert line() is None


def test_every_code_has_been_thought_of() -> None:
    """A finding is mended, or is one of those that can't or needn't be."""
    mended = {"codec_not_supported", "damaged", "bad_timestamps", "interlaced", "too_many_pixels", "too_long"}
    mended |= {"too_many_frames", "header_wrong", "index_last"}
    left = {"decode_anything", "too_short", "low_rate", "cut_short", "non_square_pixels", "rotated", "variable_rate"}
    left |= {"sparse_keyframes", "hdr", "mirrored", "several_streams", "second_file", "clock_jumps"}
    assert {name.split()[0] for name in CASES} | {"codec_not_supported", "too_many_pixels"} == mended | left


@pytest.mark.parametrize(
    ("source", "quoted"),
    [
        ("clip.mp4", "clip.mp4"),
        ("my clip.mp4", "'my clip.mp4'"),
        ("a'b;rm -rf $HOME.mp4", "'a'\"'\"'b;rm -rf $HOME.mp4'"),
        ("-y.mp4", "./-y.mp4"),
        ("12:30.mp4", "./12:30.mp4"),
        ("http://example.com/x.mp4", "./http://example.com/x.mp4"),
        ("/clips/12:30.mp4", "/clips/12:30.mp4"),
    ],
)
def test_names_are_safe_in_a_shell_and_in_ffmpeg(source: str, quoted: str) -> None:
    finding = Finding(code="damaged", severity="warning", message="…")
    found = mend([finding], CLEAN, LIMITS, source=source, target="-out.mp4")
    assert found is not None
    assert f" -i {quoted} " in found
    assert shlex.split(found)[-1] == "./-out.mp4"


def test_the_mended_file_lies_beside_and_never_over_the_other() -> None:
    assert mended_name(Path("a/clip.mp4")) == "a/clip.mended.mp4"
    assert mended_name(Path("clip.mended.mp4")) == "clip.mended.mended.mp4"
