"""Odd files of other projects' test suites, frame by frame against PyAV."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import av
import pytest

from service.errors import ReelserveError
from tests.reference import Frame, by_pyav
from tests.service.video.test_against_pyav import EDGES_DB, SAME_PIXELS_DB, SAME_SECONDS, by_us, compared

ODD = Path(__file__).parents[3].parent / "shared" / "data" / "odd"
FILES = sorted(path.relative_to(ODD).as_posix() for path in ODD.rglob("*") if path.is_file())
# Decoded by PyAV alone.
ONLY_PYAV = {
    "mp4parse/mp4parse_capi/tests/av1-clearkey-cbcs-video.mp4": "encrypted: PyAV decodes it to noise",
}
# PyAV's FFmpeg gives other times: by at most so many seconds.
OTHER_TIMES = {
    "file-type/fixture/fixture.mpg": (1 / 15, "no timestamps: PyAV's has two nominal steps after the first frame"),
    "file-type/fixture/fixture2.mpg": (1 / 29.97, "as fixture.mpg"),
    "mp4parse/mp4parse_capi/tests/no_timescale.mp4": (0.1, "timestamps that fall after damage; ours rise"),
}
# PSNR in dB of the stored pixels, where they are not the same.
OTHER_PIXELS = {
    "torchcodec/test/resources/bt2020_10bit.mp4": (
        26.0,
        "saturated colours: OpenCV clips them (test_colour.py)",
    ),
    "torchcodec/test/resources/testsrc2_hdr.mp4": (44.0, "as bt2020_10bit.mp4"),
    "mp4parse/mp4parse_capi/tests/no_timescale.mp4": (15.0, "damaged: versions of FFmpeg conceal it otherwise"),
}


def first_frame(path: Path) -> Frame | None:
    try:
        return next(by_pyav(path), None)
    except (av.FFmpegError, EOFError):
        return None


@pytest.mark.skipif(not FILES, reason="the folder of odd files, ../shared/data/odd, is not here")
@pytest.mark.parametrize("file", FILES or ["absent"])
def test_the_same_frames_or_none(file: str) -> None:
    path = ODD / file
    first = first_frame(path)
    if first is None or file in ONLY_PYAV:
        with pytest.raises(ReelserveError):
            list(islice(by_us(path, 224, 224), 1))
    else:
        seconds, _ = OTHER_TIMES.get(file, (0.0, ""))
        db, _ = OTHER_PIXELS.get(file, (SAME_PIXELS_DB, ""))
        shown = compared(path, off_by=seconds + SAME_SECONDS, same_db=db, prepared_db=min(db, EDGES_DB))
        assert sum(1 for _ in shown) > 0


@pytest.mark.skipif(not FILES, reason="the folder of odd files, ../shared/data/odd, is not here")
def test_what_pyav_alone_decodes_is_listed_rightly() -> None:
    assert all(first_frame(ODD / file) for file in ONLY_PYAV)
