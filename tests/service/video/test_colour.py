"""The YCbCr matrix: charts encoded here by their own formula, decoded by us, against the chart and against PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from service.video.colour import bgr_to_rgb
from tests.reference import Image, by_pyav
from tests.service.video.test_against_pyav import by_us, headers

# Kr and Kb of ITU-T H.273, table 4, by x264's names and MediaInfo's.
WEIGHTS = {
    "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593), "smpte240m": (0.212, 0.087), "fcc": (0.30, 0.11),
    "smpte170m": (0.299, 0.114), "bt470bg": (0.299, 0.114),
}  # fmt: skip
NAMES = {
    "bt709": "BT.709", "bt2020nc": "BT.2020 non-constant", "smpte240m": "SMPTE 240M", "fcc": "FCC 73.682",
    "smpte170m": "BT.601", "bt470bg": "BT.470 System B/G",
}  # fmt: skip
CORRECTED = sorted(set(NAMES.values()) - {"BT.601", "BT.470 System B/G"})
# Levels. Chart to chart is three roundings (to YCbCr, out of it, and through the map); ours to PyAV the last two.
TRUTH_LEVELS, PYAV_LEVELS = 2, 1
# Out of BT.601's gamut what OpenCV clips is lost: full saturation (measured: 37 levels, and 2.6 in the mean, where
# the wrong matrix has 6.7).
CLIPPED_LEVELS, CLIPPED_MEAN = 40, 3.0


def chart(saturation: float) -> Image:
    """216 colours in blocks of 16 x 16 pixels: (192, 288, 3)."""
    levels = np.linspace(0, 255, 6)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(12, 18, 3)
    grey = colours.mean(axis=-1, keepdims=True)
    return np.kron(np.rint(grey + (colours - grey) * saturation), np.ones((16, 16, 1))).astype(np.uint8)


def encode(path: Path, rgb: Image, matrix: str, tag: str | None = None) -> None:
    """One frame of lossless 4:4:4 in H.264, converted by `matrix` and tagged so (or as `tag`)."""
    kr, kb = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    planes = np.stack([16 + 219 * y, 128 + 112 * (b - y) / (1 - kb), 128 + 112 * (r - y) / (1 - kr)])
    frame = av.VideoFrame.from_ndarray(np.rint(planes).astype(np.uint8), format="yuv444p")
    options = {"crf": "0", "preset": "ultrafast", "x264-params": f"colormatrix={tag or matrix}"}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = rgb.shape[:2]
        stream.pix_fmt = "yuv444p"
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decoded(path: Path, rgb: Image) -> Image:
    (ours,) = by_us(path, rgb.shape[0], rgb.shape[1])
    return ours.picture


def levels_off(one: Image, other: Image) -> NDArray[np.int16]:
    return np.abs(one.astype(np.int16) - other.astype(np.int16))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_colours_come_out_as_they_went_in(tmp_path: Path, matrix: str, suffix: str) -> None:
    path, rgb = tmp_path / f"chart.{suffix}", chart(saturation=0.75)
    encode(path, rgb, matrix)
    assert headers(path).matrix == NAMES[matrix]
    ours = decoded(path, rgb)
    assert levels_off(ours, rgb).max() <= TRUTH_LEVELS
    assert levels_off(ours, next(by_pyav(path)).picture).max() <= PYAV_LEVELS


@pytest.mark.parametrize("matrix", WEIGHTS)
def test_saturated_colours_lose_what_was_clipped(tmp_path: Path, matrix: str) -> None:
    path, rgb = tmp_path / "chart.mp4", chart(saturation=1.0)
    encode(path, rgb, matrix)
    off = levels_off(decoded(path, rgb), rgb)
    assert off.max() <= CLIPPED_LEVELS
    assert off.mean() <= CLIPPED_MEAN


@pytest.mark.parametrize("matrix", WEIGHTS)
def test_grey_stays_grey(tmp_path: Path, matrix: str) -> None:
    path = tmp_path / "ramp.mp4"
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (16, 1))[..., None], 3, axis=2)
    encode(path, ramp, matrix)
    ours = decoded(path, ramp)
    assert np.ptp(ours.astype(int), axis=-1).max() == 0
    assert levels_off(ours, ramp).max() <= 1


def test_without_a_tag_it_is_bt601(tmp_path: Path) -> None:
    path, rgb = tmp_path / "chart.mp4", chart(saturation=0.75)
    encode(path, rgb, "smpte170m", tag="undef")
    assert headers(path).matrix is None
    assert levels_off(decoded(path, rgb), rgb).max() <= TRUTH_LEVELS


@pytest.mark.parametrize(
    "name", [None, "BT.601", "BT.470 System B/G", "", "Identity", "BT.2020 constant", "YCgCo", "bt709", "BT.709 "]
)
def test_other_names_are_left_alone(name: str | None) -> None:
    assert bgr_to_rgb(name) is None


@pytest.mark.parametrize("name", CORRECTED)
def test_the_map_keeps_grey_and_turns_bgr_round(name: str) -> None:
    to_rgb = bgr_to_rgb(name)
    assert to_rgb is not None
    assert to_rgb.shape == (3, 3)
    assert to_rgb.dtype == np.float32
    np.testing.assert_allclose(to_rgb.sum(axis=1), 1, atol=1e-6)
    # Blue of BGR weighs most in the blue of RGB, and so on.
    assert to_rgb.argmax(axis=1).tolist() == [2, 1, 0]
