"""SDR in HDR's signals: the levels that ITU-R BT.2408 gives, and clips whose pictures are the same once mapped back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.bench.hdr import VERSIONS, hlg, pq, write_versions
from tests.colours import coding_of, exact
from tests.real_clips import real_clip


@pytest.mark.parametrize(("signal", "white"), [(hlg, 0.75), (pq, 0.58)])
def test_levels_of_black_and_white(signal: object, white: float) -> None:
    """BT.2408, table 1: reference white is 75 % of HLG and 58 % of PQ."""
    assert callable(signal)
    np.testing.assert_allclose(signal(np.ones((1, 1, 3))), white, atol=2e-3)
    np.testing.assert_allclose(signal(np.zeros((1, 1, 3))), 0.0, atol=1e-3)


@pytest.mark.parametrize("signal", [hlg, pq])
def test_grey_stays_grey_and_rises(signal: object) -> None:
    assert callable(signal)
    levels = signal(np.linspace(0, 1, 64)[:, None, None].repeat(3, axis=2))
    assert np.ptp(levels, axis=2).max() < 2e-3  # BT.2087's matrix has four digits
    assert (np.diff(levels[:, 0, 0]) > 0).all()


def test_versions_of_a_real_clip(tmp_path: Path) -> None:
    """Same times, the tags that were asked for; SDR is the clip itself, HLG its signal, within what coding loses."""
    paths = write_versions(real_clip("bikes.mp4"), tmp_path, most=4)
    found = {}
    for name, path in paths.items():
        with av.open(path) as container:
            frames = list(container.decode(video=0))
        tags = (frames[0].colorspace, frames[0].color_primaries, frames[0].color_trc)
        assert tags == VERSIONS[name][1]
        assert frames[0].format.name == "yuv420p10le"
        found[name] = (
            [frame.pts for frame in frames],
            exact(frames[-1], coding_of(frames[-1])) / 255,
        )
    times, sdr = found["sdr"]
    assert all(each == times for each, _ in found.values())
    for name, (_, picture) in found.items():
        assert np.abs(picture - VERSIONS[name][0](sdr)).mean() < 0.02
