from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import encoders
from models.checkpoint import Checkpoint, CheckpointError
from models.evaluate import confusion, write_confusion
from models.features import FeatureStore, extract
from models.heads import HeadDims, SequenceHead
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=5, frame_height=64, frame_width=64, window_frames=4, stride_frames=2)


@pytest.fixture(scope="module")
def encoder() -> encoders.ImageEncoder:
    return encoders.build("efficientnet-lite0", 64, 64)


def test_folding_batch_norms_changes_nothing_but_rounding(encoder: encoders.ImageEncoder) -> None:
    frames = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(encoders.folded(encoder)(frames), encoder(frames), atol=1e-4, rtol=0)


def test_normalisation_is_that_of_imagenet(encoder: encoders.ImageEncoder) -> None:
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    pixels = frames.numpy().astype(np.float64) / 255
    normal = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(frames), encoder.cnn(image).mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


def test_features_are_stored_once_by_content_pixels_and_encoder(
    tmp_path: Path, encoder: encoders.ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    same = tmp_path / "renamed.mp4"
    same.write_bytes(clip.read_bytes())
    store = tmp_path / "store"
    (first,) = FeatureStore(store, encoder, SPEC).load([clip], show_progress=False)
    assert first.shape == (4, 1280)
    monkeypatch.setattr("models.features.extract", lambda *_: pytest.fail("extracted again"))
    windowless = SPEC.model_copy(update={"window_frames": 2, "stride_frames": 1})
    for spec in (SPEC, windowless):
        (again,) = FeatureStore(store, encoder, spec).load([same], show_progress=False)
        np.testing.assert_array_equal(again, first)
    monkeypatch.undo()
    FeatureStore(store, encoder, SPEC.model_copy(update={"sample_fps": 10.0})).load([clip], show_progress=False)
    assert len(list(store.glob("*.npy"))) == 2
    assert not list(store.glob("*.part"))


def test_a_frame_that_serves_several_ticks_is_repeated(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    clip = draw(tmp_path / "slow.mp4", num_frames=4, fps=2).path
    with DecodePool(num_credits=1) as pool:
        features = extract(clip, encoders.folded(encoder), SPEC, pool)
    assert len(features) > 4
    assert len(np.unique(features, axis=0)) == 4


def test_a_checkpoint_survives_its_file(tmp_path: Path, encoder: encoders.ImageEncoder) -> None:
    head = SequenceHead(HeadDims(1280, 8, 2, "mean")).eval()
    checkpoint = Checkpoint(
        "m", ("a", "b"), SPEC, encoder.name, encoder.state_dict(), head.dims, head.state_dict(), {"seed": 0}
    )
    checkpoint.save(tmp_path / "m.pt")
    held = Checkpoint.load(tmp_path / "m.pt")
    assert (held.labels, held.spec, held.head_dims, held.training) == (("a", "b"), SPEC, head.dims, {"seed": 0})
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(held.encoder()(frames), encoder(frames))
        features = torch.rand(1, 3, 1280)
        assert torch.equal(held.head()(features, torch.tensor([3])), head(features, torch.tensor([3])))


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a Reelserve checkpoint"):
        Checkpoint.load(tmp_path / "other.pt")


def test_the_confusion_matrix_counts_and_is_written(tmp_path: Path) -> None:
    matrix = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    table, picture = write_confusion(matrix, ("a", "b", "c"), tmp_path)
    assert table.read_text().splitlines()[1] == "a,1,1,0"
    assert picture.read_bytes().startswith(b"\x89PNG")
