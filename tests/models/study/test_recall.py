"""Delayed recall on made features: what has a memory remembers, and rows that are measured stay."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from models.data.manifests import Clip
from models.errors import DatasetError, NotFiniteError
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.study.recall import PIECE_TICKS, VARIANTS, Variant, gradient_by_tick, projection, recall, sequences

LABELS = ("a", "b", "c")
FIT = FitSettings(epochs=25, patience=25, batch_windows=32, learning_rate=1e-2, weight_decay=0.0)
HEAD = HeadSettings(16, "last", "gru", input_dropout=0.0, output_dropout=0.0)


def drawn(part: str, count: int) -> tuple[list[Clip], dict[Path, np.ndarray]]:  # type: ignore[type-arg]
    """Clips whose label is in their mean."""
    random = np.random.default_rng(len(part))
    clips, features = [], {}
    for number in range(count):
        label = LABELS[number % 3]
        clip = Clip(Path(f"{part}{number}.mp4"), label, f"{part}{number // 3}", "train")
        rows = random.normal(0, 0.3, (random.integers(5, 12), 8))
        rows[:, number % 3] += 2.0
        clips.append(clip)
        features[clip.path] = rows.astype(np.float32)
    return clips, features


def three() -> tuple[tuple[list[Clip], list[Clip], list[Clip]], dict[Path, np.ndarray]]:  # type: ignore[type-arg]
    parts = [drawn(part, 24) for part in ("train", "held", "tests")]
    features = {path: rows for _, each in parts for path, rows in each.items()}
    return (parts[0][0], parts[1][0], parts[2][0]), features


def test_a_sequence_begins_with_what_is_to_be_named() -> None:
    clips, features = drawn("train", 24)
    made = sequences(clips, features, LABELS, delay=9, count=30, seed=0)
    rows, lengths = made.windows.batch(torch.arange(30))
    assert set(lengths.tolist()) == {PIECE_TICKS + 9}
    assert torch.equal(rows[:, :PIECE_TICKS, :3].mean(dim=1).argmax(dim=1), made.windows.targets)
    assert np.bincount(made.windows.targets).tolist() == [10, 10, 10]
    again = sequences(clips, features, LABELS, delay=9, count=30, seed=0)
    assert torch.equal(again.windows.rows, made.windows.rows)
    later = rows[:, PIECE_TICKS:, :3].mean(dim=1).argmax(dim=1)
    assert 0.1 < float((later == made.windows.targets).float().mean()) < 0.7, "what follows does not tell"
    with pytest.raises(DatasetError, match="label d has no clip of 4 ticks"):
        sequences(clips, features, (*LABELS, "d"), delay=9, count=30, seed=0)


def test_features_are_mapped_to_those_that_vary_most() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 6)).astype(np.float32) * np.array([9, 5, 1, 0.1, 0.1, 0.1], np.float32)
    mean, axes = projection([rows[:200], rows[200:]], 2)
    small = (rows - mean) @ axes
    np.testing.assert_allclose(small.std(axis=0), 1.0, rtol=0.02)
    assert np.abs(axes[:2]).max() > 5 * np.abs(axes[3:]).max()


def test_a_cell_with_gates_remembers_and_its_rows_stay(tmp_path: Path) -> None:
    parts, features = three()
    out, console = tmp_path / "recall.json", Console(quiet=True)
    variants = (Variant("gru", HEAD), Variant("gru, not clipped", HEAD, clipped=False))
    sizes = (480, 96, 96)
    arguments = (parts, features, LABELS, (0, 8), 1, out, console)
    rows = recall(*arguments, num_sequences=sizes, settings=FIT, variants=variants)
    assert [(row["variant"], row["delay"]) for row in rows] == [
        ("gru", 0), ("gru, not clipped", 0), ("gru", 8), ("gru, not clipped", 8),
    ]  # fmt: skip
    assert all(row["accuracy"] > 0.9 for row in rows if row["variant"] == "gru")
    assert all(row["interval"][0] <= row["accuracy"] <= row["interval"][1] for row in rows)
    before = out.read_bytes()
    assert recall(*arguments, num_sequences=sizes, settings=FIT, variants=variants) == json.loads(before)["rows"]
    assert out.read_bytes() == before
    others = (parts, features, LABELS, (8,), 1, out, console)
    assert recall(*others, num_sequences=sizes, settings=FIT, variants=variants) == json.loads(before)["rows"]
    other = {path: rows + 1 for path, rows in features.items()}
    with pytest.raises(DatasetError, match="of another features_sha256"):
        recall(parts, other, *arguments[2:], num_sequences=sizes, settings=FIT, variants=variants)
    with pytest.raises(DatasetError, match=r"--delays -1: so many frames can't follow"):
        recall(parts, features, LABELS, (-1,), 1, out, console)
    with pytest.raises(DatasetError, match=r"of another sequences \(\[480, 96, 96\], now \[96, 96, 96\]\)"):
        recall(*arguments, num_sequences=(96, 96, 96), settings=FIT, variants=variants)


def test_a_training_that_leaves_the_finite_numbers_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_finite(*_: object, **__: object) -> None:
        raise NotFiniteError("the gradient of rnn.weight is not finite")

    monkeypatch.setattr("models.study.recall.fit", not_finite)
    parts, features = three()
    out, console = tmp_path / "recall.json", Console(file=io.StringIO(), width=120)
    arguments = (parts, features, LABELS, (0,), 1, out, console)
    sizes = (48, 24, 24)
    [row] = recall(*arguments, num_sequences=sizes, settings=FIT, variants=(Variant("gru", HEAD, clipped=False),))
    assert row == {"variant": "gru", "delay": 0, "seed": 0, "why": "the gradient of rnn.weight is not finite"}
    assert "not finite" in console.file.getvalue()  # type: ignore[attr-defined]
    assert json.loads(out.read_text())["rows"] == [row]


def test_gradients_of_a_plain_rnn_do_not_reach_back() -> None:
    """Those of an LSTM whose forget gate begins open do (Bengio, Simard, Frasconi 1994; Gers et al. 2000)."""
    clips, features = drawn("train", 24)
    made = sequences(clips, features, LABELS, delay=40, count=60, seed=0)
    reach = {}
    for variant in VARIANTS:
        torch.manual_seed(0)
        norms = gradient_by_tick(variant.head.build(8, 3), made.windows)
        assert norms.shape == (PIECE_TICKS + 40,)
        reach[variant.name] = norms[0] / norms[-1]
    assert reach["rnn"] < 1e-6 < reach["lstm, forget bias 1"]
    assert reach["lstm, forget bias 0"] < 1e-3 * reach["lstm, forget bias 1"]
