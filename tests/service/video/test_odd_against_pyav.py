"""Odd files of other projects' test suites, frame by frame against PyAV."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import av
import pytest

from service.errors import ReelserveError
from tests.reference import Frame, by_pyav
from tests.service.video.test_against_pyav import by_us, compared

ODD = Path(__file__).parents[3].parent / "shared" / "data" / "odd"
FILES = sorted(path.relative_to(ODD).as_posix() for path in ODD.rglob("*") if path.is_file())
# Decoded by PyAV alone.
ONLY_PYAV = {
    "mp4parse/mp4parse/tests/tiny_av1.mp4": "AV1: OpenCV's wheels carry no decoder for it",
    "mp4parse/mp4parse_capi/tests/av1-clearkey-cbcs-video.mp4": "AV1",
    "torchcodec/test/resources/av1_video.mkv": "AV1",
    "torchcodec/test/resources/testsrc2_av1_10bit.mp4": "AV1",
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
        assert any([True for _ in compared(path)])  # noqa: C419 - to the end


@pytest.mark.skipif(not FILES, reason="the folder of odd files, ../shared/data/odd, is not here")
def test_what_pyav_alone_decodes_is_listed_rightly() -> None:
    assert all(first_frame(ODD / file) for file in ONLY_PYAV)
