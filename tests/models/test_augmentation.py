"""Pixels that are changed at random: each change held against one that is written down, and what is stored of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import encoders
from models.augmentation import augmented
from models.data.features import FeatureStore
from models.data.windowed import windowed
from models.encoders import MapsOf, StagesFrom
from models.fit import fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.transfer import FineTuned
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=5, frame_height=20, frame_width=32, resize="stretch", window_frames=4, stride_frames=2)


def windows(number: int = 40, ticks: int = 3) -> torch.Tensor:
    """(N, T, 3, 6, 8): no two pixels of a window are alike, and no row is its own mirror image."""
    return torch.arange(number * ticks * 3 * 6 * 8, dtype=torch.float32).reshape(number, ticks, 3, 6, 8) % 251


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_half_of_the_windows_are_mirrored_as_a_whole() -> None:
    before = windows(400)
    after = augmented(before, FitSettings(flip=True), chance())
    mirrored = torch.tensor([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert torch.equal(after[mirrored], before[mirrored].flip(-1)), "every frame and channel of it"
    assert 170 <= int(mirrored.sum()) <= 230


def test_a_window_is_moved_as_a_whole_and_its_edge_repeated() -> None:
    before = windows(400)
    after = augmented(before, FitSettings(shift_pixels=2), chance())
    padded = torch.nn.functional.pad(before.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    padded = padded.reshape(*before.shape[:3], 10, 12)
    found = set()
    for index in range(len(before)):
        [place] = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(after[index], padded[index, :, :, down : down + 6, right : right + 8])
        ]
        found.add(place)
    assert len(found) == 25, "all of the moves, and no other"


def test_brightness_is_one_factor_a_window_and_stays_in_range() -> None:
    before = windows() + 1
    after = augmented(before, FitSettings(brightness=0.5), chance())
    factors = []
    for old, new in zip(before, after, strict=True):
        found = (new / old)[new < 255]
        assert float(found.max() - found.min()) < 1e-5
        torch.testing.assert_close(new, (old * found[0]).clamp(0, 255))
        factors.append(float(found[0]))
    assert 0.5 <= min(factors) < 0.6
    assert 1.4 < max(factors) <= 1.5


def test_chance_is_the_generators_alone() -> None:
    settings, torch_state = FitSettings(flip=True, shift_pixels=1, brightness=0.2), torch.random.get_rng_state()
    first, same, other = (augmented(windows(), settings, chance(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_pixels_are_stored_as_they_are_and_give_the_encoders_features(tmp_path: Path) -> None:
    """Before the first stage nothing is computed: the frames themselves are held, to the bit, at a byte a value."""
    torch.manual_seed(0)
    encoder = encoders.build("small-16", 20, 32, weights="random")
    clip = draw(tmp_path / "a.mp4", num_frames=50).path
    [rows] = (
        FeatureStore(tmp_path / "store", encoder, SPEC, until="stage0").load([clip], show_progress=False).rows.values()
    )
    with DecodePool(1) as pool, pool.open(clip, SPEC) as video:
        frames = np.concatenate([np.repeat(each.frames, each.ticks, axis=0) for each in video.batches(4)])
    assert rows.features.dtype == np.uint8
    np.testing.assert_array_equal(rows.features, frames.transpose(0, 3, 1, 2))
    with torch.inference_mode():
        found = StagesFrom(encoder, "stage0")(torch.from_numpy(rows.features))
        torch.testing.assert_close(found, encoder(torch.from_numpy(frames)))
    assert MapsOf(encoder, "stage0").of_pixels
    assert not MapsOf(encoder, "stage1").of_pixels


def test_training_sees_changed_windows_and_validation_those_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = encoders.build("small-16", 16, 32, weights="random")
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (4, 3, 16, 32), np.uint8) for _ in range(4)]
    spec = ClipSpec(sample_fps=4, frame_height=16, frame_width=32, window_frames=4, stride_frames=4)
    held = windowed(pixels, torch.arange(4) % 2, spec)
    head = HeadSettings(hidden_size=4, input_dropout=0.0, output_dropout=0.0)
    model = FineTuned(encoder, "stage0", head.build(encoder.feature_size, 2), 1e-3, "frozen")
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    forward, of_rows = model.features, model.features_of_rows

    def rows_of(maps: torch.Tensor) -> torch.Tensor:
        seen[False].append(maps.reshape(len(pixels), -1, *maps.shape[1:]).clone())
        return of_rows(maps)

    def spy(maps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        seen[model.training].append(maps.clone())
        return forward(maps, lengths)

    monkeypatch.setattr(model, "features", spy)
    monkeypatch.setattr(model, "features_of_rows", rows_of)
    fit(model, held, held, FitSettings(epochs=12, patience=12, batch_windows=4, flip=True), seed=0)
    originals = {window.byte().numpy().tobytes() for window in torch.from_numpy(np.stack(pixels))}
    both = originals | {np.ascontiguousarray(each[..., ::-1]).tobytes() for each in pixels}
    trained = [window.byte().numpy().tobytes() for maps in seen[True] for window in maps]
    assert set(trained) == both
    assert {window.byte().numpy().tobytes() for maps in seen[False] for window in maps} == originals
