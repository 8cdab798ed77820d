"""A region is a part of the upright picture, however the picture is stored."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from service.errors import BadParameter
from service.video.decode import ClipReader
from service.video.errors import RegionOutside
from service.video.frames import prepare
from service.video.orientation import Orientation
from service.video.region import Region
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=5, frame_height=32, frame_width=48, resize="stretch")
ORIENTATIONS = [Orientation(turn, mirrored) for turn, mirrored in itertools.product((0, 90, 180, 270), (False, True))]


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_it_is_cut_from_the_stored_picture_as_from_the_upright_one(orientation: Orientation) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (14, 10, 3), np.uint8)
    upright = orientation.apply(stored)
    height, width = upright.shape[:2]
    for left, top in itertools.product(range(width), range(height)):
        for wide, high in {(width - left, height - top), (2, 3), (width - left, 2)}:
            if left + wide > width or top + high > height:
                continue
            part = Region(x=left, y=top, width=wide, height=high)
            if part.is_fraction:
                continue
            cut = part.of(stored, orientation)
            assert np.shares_memory(cut, stored)
            np.testing.assert_array_equal(orientation.apply(cut.copy()), upright[top : top + high, left : left + wide])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_region_is_seen_as_a_picture_that_is_no_more(orientation: Orientation, resize: str) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
    upright = orientation.apply(stored)
    height, width = upright.shape[:2]
    spec = SPEC.model_copy(update={"resize": resize})
    region = Region(x=width // 4, y=height // 3, width=width // 2, height=height // 3)
    out, wanted = np.empty((32, 48, 3), np.uint8), np.empty((32, 48, 3), np.uint8)
    prepare(stored, spec.model_copy(update={"region": region}), orientation, out)
    part = region.of(stored, orientation).copy()
    prepare(part, spec, orientation, wanted)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(
    ("text", "size", "pixels"),
    [
        ("8,4,16,20", (64, 48), (8, 4, 16, 20)),
        ("0,0,64,48", (64, 48), (0, 0, 64, 48)),
        ("0.25,0.5,0.5,0.5", (64, 48), (16, 24, 32, 24)),
        ("0,0,1,1", (64, 48), (0, 0, 64, 48)),
        (" .5, 0 ,.5, 1 ", (5, 4), (2, 0, 3, 4)),  # an odd half goes to the nearest pixel
        ("0.999,0.999,0.001,0.001", (64, 48), (63, 47, 1, 1)),
        ("1,0,1.0,2", (64, 48), (1, 0, 1, 2)),
    ],
)
def test_pixels_of_a_picture(text: str, size: tuple[int, int], pixels: tuple[int, int, int, int]) -> None:
    assert Region.parse(text).pixels(*size) == pixels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"region is ''; give four numbers x,y,width,height"),
        ("1,2,3", "give four numbers"),
        ("1,2,3,4,5", "give four numbers"),
        ("-1,0,5,5", "give four numbers"),
        ("0,0,1e2,5", "give four numbers"),
        ("a,b,c,d", "give four numbers"),
        ("9" * 400 + ",0,1,1", "give four numbers"),
        ("0,0,0,5", "region 0,0,0,5 is empty"),
        ("0.5,0,0.6,1", r"region 0\.5,0,0\.6,1 is in fractions, and goes beyond 1: x \+ width"),
        ("0.5,0,20,10", r"region 0\.5,0,20,10 is in pixels, as a number is above 1: give whole ones$"),
    ],
)
def test_what_is_no_region(text: str, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        Region.parse(text)


@pytest.mark.parametrize("text", ["60,0,5,5", "0,47,2,2", "0,0,65,48", "64,0,2,2"])
def test_a_region_outside_names_the_picture(text: str) -> None:
    with pytest.raises(RegionOutside, match=f"region {text} goes beyond the picture, which is 64 x 48 pixels upright"):
        Region.parse(text).pixels(64, 48)


def test_a_video_is_read_by_its_region_and_refused_before_a_frame_is_decoded(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.mp4", num_frames=6, width=64, height=48).path
    spec = SPEC.model_copy(update={"frame_height": 24, "frame_width": 32, "region": Region.parse("32,24,32,24")})
    whole = SPEC.model_copy(update={"frame_height": 48, "frame_width": 64})
    with ClipReader(path, spec) as part, ClipReader(path, whole) as everything:
        [seen], [all_of_it] = list(part.chunks(100)), list(everything.chunks(100))
    np.testing.assert_array_equal(seen.frames, all_of_it.frames[:, 24:, 32:])
    outside = spec.model_copy(update={"region": Region.parse("33,24,32,24")})
    with pytest.raises(RegionOutside):
        ClipReader(path, outside)


def test_a_spec_without_a_region_has_the_hash_that_it_always_had() -> None:
    """Stored features and certificates of before stay good."""
    assert SPEC.sha256 == "53c10c5b6a93719ca49ab273f96baac43dc1b820aeb9dfec4a48d5ff55b1b26f"
    assert SPEC.pixels_sha256 == "665c797b0a457332552af6ea5ee64bc84335b3c1f0d2ca21f90b177667b189d5"
    part = SPEC.model_copy(update={"region": Region.parse("0.25,0.5,0.5,0.5")})
    same = SPEC.model_copy(update={"region": Region.parse(".25,0.50,0.5,0.5")})
    assert part.pixels_sha256 == same.pixels_sha256 != SPEC.pixels_sha256
    assert ClipSpec.model_validate_json(part.model_dump_json()) == part
