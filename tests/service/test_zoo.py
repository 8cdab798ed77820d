"""The models that ship, all of them loaded as a user loads them, on clips whose answer is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.answers import AnswerOptions
from service.pipeline import ClipRequest
from service.results import Prediction
from service.serving import Serving
from service.settings import Settings
from tests.drawn import Image, draw
from tests.zoo import ZOO

CUT = 45


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Loading verifies certificates, and asks the known answers of the runtime."""
    running = Serving(Settings(models="all", models_dir=ZOO, spool_dir=tmp_path_factory.mktemp("spool")))
    running.load()
    yield running
    running.close()


def predict(serving: Serving, model: str, path: Path, **options: float) -> Prediction:
    request = ClipRequest(path, hashlib.sha256(path.read_bytes()).hexdigest(), AnswerOptions(**options))  # type: ignore[arg-type]
    [prediction] = serving.predict(request, [serving.model(model)])
    return prediction


def test_all_load(serving: Serving) -> None:
    assert serving.registry.refused == {}
    assert serving.problem() is None
    assert set(serving.models) == {path.parents[1].name for path in ZOO.glob("*/*/model.json")}


def test_lips_are_read_at_every_frame(serving: Serving, tmp_path: Path) -> None:
    """A drawn clip has no lips: what is told is how it is answered, not what; three seconds, 75 ticks, one state."""
    film = draw(tmp_path / "mouth.mp4", num_frames=75, width=112, height=80).path
    for model in ("lips", "lips-live"):
        found = predict(serving, model, film)
        assert (found.receipt.ticks, found.receipt.window_frames) == (75, None)
        assert found.segments[0].start_seconds == 0.0
        assert found.segments[-1].end_seconds == pytest.approx(3.0)
        assert {each.label for each in found.segments} <= set(serving.model(model).document.labels)


def two_shots(index: int, width: int, height: int) -> Image:
    """A pattern that moves slowly, then another in other colours."""
    down, right = np.mgrid[0:height, 0:width]
    shot = index >= CUT
    wave = np.sin((right + 3 * index) / (40 if shot else 25)) + np.cos((down - index) / (30 if shot else 60))
    base = np.array([60, 90, 160] if shot else [180, 120, 60])
    picture: Image = np.clip(base + 25 * wave[..., None], 0, 255).astype(np.uint8)
    return picture


def test_shots_finds_the_cut_and_no_other(serving: Serving, tmp_path: Path) -> None:
    film = draw(tmp_path / "film.mp4", num_frames=120, picture=two_shots).path
    found = predict(serving, "shots", film, min_segment_seconds=0.05)
    [cut] = [each for each in found.segments if each.label != "none"]
    assert cut.label == "cut"
    assert cut.start_seconds - 0.08 <= CUT / 25 <= cut.end_seconds + 0.08
    assert (found.receipt.sample_fps, found.receipt.ticks) == (None, 120)
