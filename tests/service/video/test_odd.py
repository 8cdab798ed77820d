"""Odd and broken files of other projects' test suites: each decodes, or is refused with an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ReelserveError
from service.video.decode import ClipReader, DecodeReport
from service.video.spec import ClipSpec

ODD = Path(__file__).parents[3] / "../shared/data/odd"
FILES = sorted(path.relative_to(ODD) for path in ODD.rglob("*") if path.is_file())
SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)


@pytest.mark.skipif(not FILES, reason="the folder of odd files, ../shared/data/odd, is not here")
@pytest.mark.parametrize("file", FILES or [Path("absent")], ids=str)
def test_decodes_or_is_refused(file: Path) -> None:
    used = 0
    answer: DecodeReport | ReelserveError
    try:
        with ClipReader(ODD / file, SPEC) as reader:
            for chunk in reader.chunks(16):
                assert (chunk.ticks >= 1).all()
                used += len(chunk.frames)
            answer = reader.report()
    except ReelserveError as error:
        answer = error
    if isinstance(answer, ReelserveError):
        assert 400 <= answer.status < 500
        assert answer.detail
    else:
        assert answer.frames_used == used >= 1
        assert 0 <= answer.first_seconds <= answer.last_seconds < answer.duration_seconds
