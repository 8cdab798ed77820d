"""One thread for PyTorch, and clips on which the tests' certificates are proven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.clips import ProofClip
from tests.drawn import draw


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are no faster on two, and ten times slower where something else has the other core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ProofClip]:
    """Shorter than a window, some windows, and a remainder; in one folder."""
    folder = tmp_path_factory.mktemp("proof")
    return [ProofClip(draw(folder / f"{n}.mp4", num_frames=n, width=64, height=48).path) for n in (6, 25, 63)]


@pytest.fixture(scope="session")
def clips_folder(clips: list[ProofClip]) -> Path:
    return clips[0].path.parent
