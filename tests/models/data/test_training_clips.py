"""The clips whose scores a checkpoint keeps: of validation first, evenly over labels, and as they were scored."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.manifests import Clip
from models.data.targets import Targets
from models.data.training_clips import MOST_CLIPS, chosen_clips, training_clips
from models.data.windowed import windowed
from models.head_settings import HeadSettings
from models.served import clip_scores
from models.tasks import LABEL
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64, window_frames=8, stride_frames=4)
LABELS = ("a", "b", "c")


def clips(folder: Path, split: str, count: int) -> list[Clip]:
    found = []
    for number in range(count):
        path = folder / f"{split}-{number}.mp4"
        path.write_bytes(f"{split} {number}".encode())
        found.append(Clip(path, LABELS[number % 3], f"{split}{number}", "train"))
    return found


@pytest.mark.parametrize(
    ("num_validation", "num_train", "counted"),
    [(90, 5, (24, 0)), (24, 5, (24, 0)), (10, 50, (10, 14)), (4, 3, (4, 3)), (25, 0, (24, 0))],
)
def test_validation_goes_first(num_validation: int, num_train: int, counted: tuple[int, int], tmp_path: Path) -> None:
    validation, train = clips(tmp_path, "validation", num_validation), clips(tmp_path, "train", num_train)
    random = np.random.default_rng(0)
    features = {
        clip.path: random.normal(size=(random.integers(1, 30), 4)).astype(np.float32) for clip in validation + train
    }
    torch.manual_seed(0)
    model = HeadSettings(hidden_size=4).build(4, 3).eval()
    sha256 = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in features}
    for number, path in enumerate(features):  # since they were scored
        path.write_text("changed") if number % 2 else path.unlink()
    chosen = chosen_clips((validation, train))
    kept = training_clips(model, Targets(LABEL, LABELS), SPEC, chosen, features, {}, sha256)
    assert Counter(clip.name.split("-")[0] for clip in kept) == Counter(
        {name: count for name, count in zip(("validation", "train"), counted, strict=True) if count}
    )
    assert len({clip.name for clip in kept}) == len(kept) <= MOST_CLIPS
    if num_validation >= MOST_CLIPS:
        assert set(Counter(clip.label for clip in kept).values()) == {8}
    for clip in kept:
        path = tmp_path / clip.name
        assert clip.sha256 == sha256[path]
        [wanted] = clip_scores(model, windowed([features[path]], torch.tensor([0]), SPEC))
        np.testing.assert_allclose([clip.scores[label] for label in LABELS], wanted, atol=1e-6)
        assert all(type(score) is float for score in clip.scores.values()), "plain types for a checkpoint"


def test_a_label_of_few_clips_leaves_its_places_to_others() -> None:
    few, many = ([Clip(Path(f"{label}{n}.mp4"), label, f"{label}{n}", "train") for n in range(num)] for label, num in
                 (("a", 2), ("b", 100)))  # fmt: skip
    features = {clip.path: np.zeros((3, 4), np.float32) for clip in few + many}
    model = HeadSettings(hidden_size=4).build(4, 3).eval()
    chosen = chosen_clips((few + many, []))
    sha256 = dict.fromkeys(features, "")
    kept = training_clips(model, Targets(LABEL, LABELS), SPEC, chosen, features, {}, sha256)
    assert Counter(clip.label for clip in kept) == {"a": 2, "b": 22}
    numbers = sorted(int(clip.name[1:-4]) for clip in kept if clip.label == "b")
    assert {high - low for low, high in pairwise(numbers)} == {4, 5}, "far apart"
