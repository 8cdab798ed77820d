"""Files of variable rate: every tick gets the frame that FFmpeg shows then. `python -m tests.timings` draws them with
more times and cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.drawn_cases import CLOCKS
from tests.timing_cases import CASES, Case
from tests.timings import judge, truth

# Edits and frames before 0 are for FFmpeg to read; a packet of a program stream has one time, whatever frames it holds.
_AS_DRAWN = [case for case in CASES if not case.edits and case.offset_seconds >= 0 and case.suffix != "mpg"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ticks_and_lengths(tmp_path: Path, case: Case) -> None:
    judged = judge(case, tmp_path)
    assert judged.ticks
    assert (judged.wrong, judged.is_long_wrong) == (0, False), "\n".join(judged.faults)
    # All are whole; of a last frame that is held for long, a container that does not say so may leave a doubt.
    assert not [each for each in judged.faults if "header is wrong" in each]


@pytest.mark.parametrize("case", _AS_DRAWN[::4], ids=str)
def test_the_judge_sees_what_was_drawn(tmp_path: Path, case: Case) -> None:
    """Or it would be wrong with us."""
    drawn = case.draw(tmp_path)
    true = truth(case, drawn.path)
    assert true.indices == tuple(range(len(drawn.timestamps)))
    meant = [seconds - drawn.timestamps[0] for seconds in drawn.timestamps]
    np.testing.assert_allclose(true.seconds, meant, atol=1e-4 + CLOCKS.get(case.suffix, 0.0))
