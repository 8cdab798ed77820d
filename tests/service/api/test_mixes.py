"""The answer for a clip does not depend on its neighbours; `python -m tests.bench mixes` does hundreds of mixes."""

from __future__ import annotations

import argparse
import asyncio
from itertools import cycle
from pathlib import Path

from tests.bench.cuts import cut
from tests.bench.load import Target, clips_of
from tests.bench.mixes import LARGEST_MIX, SMALLEST_MIX, measure, questions
from tests.server import serve

MIXES = LARGEST_MIX - SMALLEST_MIX + 1
SECONDS = (0.3, 0.5, 0.7, 1.0, 1.0, 1.5, 4.5, 6.0)  # a window is four


def test_a_clip_in_any_company_is_answered_as_alone(tmp_path: Path) -> None:
    """Real clips and the trained model, 2 to 16 at once, with the model's own windows and with overlapping ones.

    Exactly: on ONNX Runtime's CPU provider a frame's features don't depend on its batch (the certificate holds it),
    and a window's scores don't depend on theirs.
    """
    clips = cut(tmp_path / "clips", cycle(clips_of(tmp_path / "no data")), SECONDS)
    options = argparse.Namespace(seed=1, mixes=MIXES, seconds=600.0)
    with serve(tmp_path, default_model="actions-lstm", runtime="cpu", feature_cache_bytes=0) as server:
        found = asyncio.run(measure(Target("reelserve", server.url), questions(clips), options))
    assert (found.mixes, found.refused, found.questions) == (MIXES, 0, 2 * len(clips))
    assert [each.clips_at_once for each in found.by_size] == list(range(SMALLEST_MIX, LARGEST_MIX + 1))
    assert found.largest_difference == 0.0
