"""One thread for PyTorch, and clips on which the tests' certificates are proven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.prove.clips import ProofClip
from export.scores import score_clips, write_scores
from tests.drawn import draw
from tests.export.models import LABELS, build


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are no faster on two, and ten times slower where something else has the other core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ProofClip]:
    """As few as a certificate takes: shorter than a window, some windows, and a remainder; in one folder."""
    folder = tmp_path_factory.mktemp("proof")
    frames = (6, 25, 63, 5, 7, 8, 9, 11)
    return [ProofClip(draw(folder / f"{n}.mp4", num_frames=n, width=64, height=48).path) for n in frames]


@pytest.fixture(scope="session")
def scores(clips: list[ProofClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of `tests.export.models:build`, for the option --scores."""
    table = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(table, LABELS, score_clips(build(), clips))
    return table


@pytest.fixture(scope="session")
def clips_folder(clips: list[ProofClip]) -> Path:
    return clips[0].path.parent
