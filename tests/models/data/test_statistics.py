"""Statistics of training: computed, kept in a checkpoint's words, sealed in a bundle, refused where they don't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.statistics import training_statistics
from service.bundle import EncoderDocument, ModelDocument, read_document
from service.errors import BundleError
from service.statistics import SCORE_BINS, TrainingStatistics
from tests.bundles import sealed


def test_they_are_those_of_all_ticks_together() -> None:
    random = np.random.default_rng(0)
    clips = [random.normal(3, 2, (length, 4)).astype(np.float32) for length in (1, 50, 7)]
    scores = np.array([[0.05, 0.95], [0.52, 0.48], [0.0, 1.0], [0.97, 0.03]], np.float32)
    found = training_statistics(clips, scores)
    ticks = np.concatenate(clips)
    np.testing.assert_allclose(found["feature_mean"], ticks.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["feature_std"], ticks.std(axis=0), rtol=1e-5)
    assert found["num_ticks"].tolist() == [58]
    assert found["best_scores"].shape == (SCORE_BINS,), "models has a constant of its own: it may not import this one"
    assert found["best_scores"].nonzero()[0].tolist() == [10, 19]
    assert found["best_scores"].sum() == found["labels"].sum() == 4
    assert found["labels"].tolist() == [2, 2]


def test_a_bundle_s_file_is_read_back_and_checked(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    model = read_document(folder / "model.json", ModelDocument)
    encoder = read_document(tmp_path / "encoders" / "tiny-encoder" / "encoder.json", EncoderDocument)
    arrays = training_statistics([np.ones((5, 4), np.float32)], np.full((6, 3), 1 / 3, np.float32))
    path = tmp_path / "statistics.npz"
    path.write_bytes(TrainingStatistics(**arrays).to_bytes())
    held = TrainingStatistics.read(path, model, encoder)
    for name, array in arrays.items():
        np.testing.assert_array_equal(vars(held)[name], array)
    assert TrainingStatistics(**vars(held)).to_bytes() == path.read_bytes()
    wrong = training_statistics([np.ones((5, 5), np.float32)], np.full((6, 3), 1 / 3, np.float32))
    path.write_bytes(TrainingStatistics(**wrong).to_bytes())
    with pytest.raises(BundleError, match=r"feature_mean is float32 \(5,\), .* need float32 \(4\)"):
        TrainingStatistics.read(path, model, encoder)
