from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=8, frame_height=112, frame_width=96, window_frames=16, stride_frames=4, min_frames=2)
FIELDS: dict[str, object] = {"sample_fps": 8, "frame_height": 112, "frame_width": 96}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_is_that_of_the_canonical_json() -> None:
    """Written out: certificates and stored features of older releases hold these hashes."""
    assert SPEC.sha256 == sha256(
        '{"frame_height":112,"frame_width":96,"min_frames":2,"resize":"crop","sample_fps":8.0,'
        '"stride_frames":4,"window_frames":16}'
    )
    assert SPEC.pixels_sha256 == sha256('{"frame_height":112,"frame_width":96,"resize":"crop","sample_fps":8.0}')


def test_the_hash_survives_json_and_the_order_of_fields() -> None:
    assert ClipSpec.model_validate_json(SPEC.model_dump_json()).sha256 == SPEC.sha256
    assert ClipSpec.model_validate(dict(reversed(SPEC.model_dump().items()))).sha256 == SPEC.sha256


@pytest.mark.parametrize(
    ("changed", "changes_pixels"),
    [
        ({"sample_fps": 8.5}, True),
        ({"sample_fps": None}, True),
        ({"frame_height": 113}, True),
        ({"frame_width": 97}, True),
        ({"resize": "stretch"}, True),
        ({"window_frames": 17}, False),
        ({"stride_frames": 5}, False),
        ({"window_frames": None, "stride_frames": None}, False),
        ({"min_frames": 3}, False),
    ],
)
def test_every_field_changes_the_hash_but_windows_leave_the_pixels(
    changed: dict[str, object], changes_pixels: bool
) -> None:
    other = SPEC.model_copy(update=changed)
    assert other.sha256 != SPEC.sha256
    assert (other.pixels_sha256 != SPEC.pixels_sha256) is changes_pixels


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window_frames": 16}, "window_frames and stride_frames are set together, or both null"),
        ({"stride_frames": 4}, "window_frames and stride_frames are set together, or both null"),
        (
            {"window_frames": 4, "stride_frames": 5},
            "stride_frames 5 > window_frames 4 leaves ticks that no window covers; lower the stride",
        ),
        ({"window_frames": 0, "stride_frames": 0}, r"window_frames\n.*greater than or equal to 1"),
        ({"sample_fps": "every"}, r"sample_fps\n.*valid number"),
        ({"sample_fps": 0}, r"sample_fps\n.*greater than 0"),
        ({"sample_fps": 241}, r"sample_fps\n.*less than or equal to 240"),
        ({"sample_fps": float("nan")}, "sample_fps"),
        ({"frame_height": 15}, r"frame_height\n.*greater than or equal to 16"),
        ({"frame_width": 4097}, r"frame_width\n.*less than or equal to 4096"),
        ({"min_frames": 0}, r"min_frames\n.*greater than or equal to 1"),
        ({"resize": "letterbox"}, r"resize\n.*'crop' or 'stretch'"),
        ({"fps": 8}, r"fps\n.*Extra inputs are not permitted"),
    ],
)
def test_a_bad_spec_names_the_field_and_the_limit(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClipSpec.model_validate({**FIELDS, **fields})


def test_frames_are_ticks_only_where_that_is_said() -> None:
    """A rate that was forgotten is no wish for every frame."""
    assert ClipSpec.model_validate_json('{"sample_fps":null,"frame_height":112,"frame_width":96}').sample_fps is None
    with pytest.raises(ValidationError, match=r"sample_fps\n.*required"):
        ClipSpec.model_validate({"frame_height": 112, "frame_width": 96})


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SPEC.sample_fps = 4.0  # type: ignore[misc]
