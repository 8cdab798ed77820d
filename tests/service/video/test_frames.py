from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.video.frames import prepare
from service.video.orientation import UPRIGHT, Orientation
from service.video.spec import ClipSpec, ResizePolicy
from tests.drawn import paint, read_index

Image = NDArray[np.uint8]
POLICIES: tuple[ResizePolicy, ...] = ("crop", "stretch")
ORIENTATIONS = [Orientation(turn, mirrored=mirrored) for turn in (0, 90, 180, 270) for mirrored in (False, True)]


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), np.uint8)


def prepared(
    bgr: Image, height: int, width: int, resize: ResizePolicy = "crop", orientation: Orientation = UPRIGHT
) -> Image:
    out = np.zeros((height, width, 3), np.uint8)
    spec = ClipSpec(sample_fps=8, frame_height=height, frame_width=width, resize=resize)
    prepare(bgr, spec, orientation, out)
    return out


def largest_difference(one: Image, other: Image) -> int:
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max())


def seen(stored: Image, orientation: Orientation) -> Image:
    """By numpy alone: mirrored, then turned clockwise."""
    mirrored = stored[:, ::-1] if orientation.mirrored else stored
    return np.ascontiguousarray(np.rot90(mirrored, -orientation.rotation_degrees // 90))


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (81, 33)])
def test_same_size_only_swaps_bgr_to_rgb(resize: ResizePolicy, height: int, width: int) -> None:
    bgr = noise(height, width)
    np.testing.assert_array_equal(prepared(bgr, height, width, resize), bgr[:, :, ::-1])


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ((40, 80), (40, 40), np.s_[:, 20:60]),
        ((80, 40), (40, 40), np.s_[20:60, :]),
        ((48, 64), (48, 32), np.s_[:, 16:48]),
        ((64, 48), (24, 48), np.s_[20:44, :]),
    ],
)
def test_crop_keeps_the_centre(source: tuple[int, int], target: tuple[int, int], kept: tuple[slice, slice]) -> None:
    bgr = noise(*source)
    np.testing.assert_array_equal(prepared(bgr, *target), bgr[kept][:, :, ::-1])


@pytest.mark.parametrize("target", [(32, 32), (48, 64), (17, 90), (200, 150)])
def test_stretch_keeps_the_corners(target: tuple[int, int]) -> None:
    bgr = np.zeros((120, 200, 3), np.uint8)
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (200, 200, 20)]
    corners = [np.s_[:30, :50], np.s_[:30, 150:], np.s_[90:, :50], np.s_[90:, 150:]]
    for corner, colour in zip(corners, colours, strict=True):
        bgr[corner] = colour
    out = prepared(bgr, *target, "stretch")
    seen = [out[y, x].tolist()[::-1] for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
    assert seen == [list(colour) for colour in colours]


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize(("down", "across"), [(2, 2), (4, 4), (8, 8), (2, 1), (1, 4), (8, 2)])
def test_a_shrink_by_powers_of_two_is_the_mean_of_blocks(resize: ResizePolicy, down: int, across: int) -> None:
    """Crop: where the pixel aspect makes up for the difference."""
    bgr = noise(24 * down, 32 * across)
    blocks = bgr.reshape(24, down, 32, across, 3).mean(axis=(1, 3))[:, :, ::-1]
    halvings = max(down, across).bit_length() - 1
    out = np.empty((24, 32, 3), np.uint8)
    spec = ClipSpec(sample_fps=8, frame_height=24, frame_width=32, resize=resize)
    prepare(bgr, spec, UPRIGHT, out, down / across)
    assert np.abs(out - blocks).max() <= 0.5 * halvings + 1e-3, "each halving rounds once"


@pytest.mark.parametrize("factor", [3, 5, 7])
def test_a_shrink_by_any_other_factor_is_near_the_mean_of_blocks(factor: int) -> None:
    """Of a picture without the finest detail: halving to less than 2, then bilinearly, weighs neighbours otherwise."""
    smooth = cv2.GaussianBlur(noise(24 * factor, 32 * factor), (0, 0), factor)
    blocks = smooth.reshape(24, factor, 32, factor, 3).mean(axis=(1, 3))[:, :, ::-1]
    assert np.abs(prepared(smooth, 24, 32, "crop") - blocks).max() <= 3  # type: ignore[arg-type]


@pytest.mark.parametrize(("aspect", "kept"), [(2.0, np.s_[:, 20:40]), (0.5, np.s_[5:35, :]), (1.0, np.s_[:, 10:50])])
def test_a_crop_takes_the_centre_of_what_is_shown(aspect: float, kept: tuple[slice, slice]) -> None:
    """40 rows of 60 stored pixels, each `aspect` wide: shown 120, 30 or 60 wide."""
    bgr = noise(40, 60)
    out = np.empty((40, 40, 3), np.uint8)
    prepare(bgr, ClipSpec(sample_fps=8, frame_height=40, frame_width=40), UPRIGHT, out, aspect)
    part = np.ascontiguousarray(bgr[kept])
    expected = part if part.shape[:2] == (40, 40) else cv2.resize(part, (40, 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out, expected[:, :, ::-1])


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize("side", [64, 90, 94])
def test_fine_stripes_shrink_to_grey_not_to_moire(resize: ResizePolicy, side: int) -> None:
    """By 2 to 3 the mean over blocks of 2 comes first; bilinear alone would skip pixels."""
    bgr = np.zeros((side, side, 3), np.uint8)
    bgr[:, ::2] = 255
    assert set(np.unique(prepared(bgr, 32, 32, resize))) <= {127, 128}


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("source", [(240, 320), (97, 131), (20, 20)])
def test_the_turn_comes_last(resize: ResizePolicy, orientation: Orientation, source: tuple[int, int]) -> None:
    bgr, height, width = noise(*source), 36, 64
    sides = (width, height) if orientation.swaps_sides else (height, width)
    unturned = prepared(bgr, *sides, resize)
    np.testing.assert_array_equal(prepared(bgr, height, width, resize, orientation), seen(unturned, orientation))


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_turning_last_gives_the_picture_that_turning_first_gives(
    resize: ResizePolicy, orientation: Orientation
) -> None:
    """With sides that divide evenly; an odd remainder is cut off below or on the right, so a turn moves it."""
    bgr = noise(192, 288)
    first = prepared(seen(bgr, orientation), 32, 48, resize)
    assert largest_difference(first, prepared(bgr, 32, 48, resize, orientation)) <= 1  # the order of fixed-point sums


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.integers(16, 96), st.integers(16, 96)),
    st.sampled_from(POLICIES),
    st.sampled_from(ORIENTATIONS),
)
def test_a_plain_colour_fills_out_and_nothing_beside_it(
    source: tuple[int, int], target: tuple[int, int], resize: ResizePolicy, orientation: Orientation
) -> None:
    blue, green, red = 10, 130, 251
    bgr = np.full((*source, 3), (blue, green, red), np.uint8)
    canvas = np.full((3, *target, 3), 77, np.uint8)
    spec = ClipSpec(sample_fps=8, frame_height=target[0], frame_width=target[1], resize=resize)
    prepare(bgr, spec, orientation, canvas[1])
    assert (canvas[1] == (red, green, blue)).all()
    assert (canvas[0] == 77).all()
    assert (canvas[2] == 77).all()
    assert (bgr == (blue, green, red)).all(), "the decoder's frame is read only"


@pytest.mark.parametrize("resize", POLICIES)
@pytest.mark.parametrize("target", [(64, 64), (64, 112), (112, 64), (224, 224), (300, 300)])
def test_a_drawn_index_survives_every_fit(resize: ResizePolicy, target: tuple[int, int]) -> None:
    for index in (0, 1, 341, 682, 1023):
        bgr = np.ascontiguousarray(paint(index, width=320, height=240)[:, :, ::-1])
        assert read_index(prepared(bgr, *target, resize)) == index
