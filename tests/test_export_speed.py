"""The benchmark `export-speed` on a small CNN: all sides run, and what it says of them is true; rates mean nothing."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoders import ImageEncoder
from models.heads import HeadDims, Pooling, SequenceHead
from tests.bench import export_speed
from tests.bench.export_speed import Setting, Subject
from tests.export.models import FEATURES, encoder

ROOT = Path(__file__).resolve().parents[1]
SIDES = {
    "encoder": ["ours", "ours, 1 thread", "naive", "eager", "eager, folded"],
    "head": ["ours", "ours, 1 thread", "naive", "eager"],
    "whole": ["ours", "ours, 1 thread", "naive", "eager", "eager, folded"],
}


def subject(pooling: Pooling = "mean") -> Subject:
    torch.manual_seed(0)
    return Subject("small", encoder(), SequenceHead(HeadDims(FEATURES, 8, 3, pooling)).eval(), 32, 32)


def test_a_short_run_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_speed, "settings_here", lambda _: [Setting("onnxruntime-cpu")])
    out = tmp_path / "runs" / "speed.json"
    export_speed.run(subject(), rounds=3, seconds=0.01, batch_frames=4, out=out)
    text = out.read_text(encoding="utf-8")
    for machine in (str(ROOT), str(tmp_path), platform.node()):
        assert machine not in text
    written = json.loads(text)
    assert {"commit", "versions", "machine", "load_before_and_after"} <= written.keys()
    [results] = written["results"].values()
    assert {part: [side["side"] for side in sides] for part, sides in results.items()} == SIDES
    for sides in results.values():
        ours = sides[0]
        for side in sides:
            pairs = np.divide(ours["rates"], side["rates"])
            assert len(pairs) == 3
            assert side["ours_ratio"] == pytest.approx(np.percentile(pairs, (25, 50, 75)))
            assert side["error_equal"] < 1e-3
    # Only the naive graph reads the padding of clips of unequal length; frame by frame there is none to read.
    wrong = {(part, side["side"]) for part, sides in results.items() for side in sides if not side["right_on_mixed"]}
    assert wrong == {("head", "naive"), ("whole", "naive")}
    printed = capsys.readouterr().out
    assert printed.count("WRONG by") == 2
    assert "load before" in printed


@pytest.mark.parametrize("pooling", ["last", "attention", "none"])
def test_the_naive_head_is_the_head_on_clips_of_one_length(pooling: Pooling) -> None:
    head = subject(pooling).head
    features = torch.rand(3, 5, FEATURES)
    with torch.inference_mode():
        wanted = head(features, torch.tensor([5, 5, 5]))
        torch.testing.assert_close(export_speed.NaiveHead(head)(features), wanted, atol=1e-5, rtol=0)


def test_sides_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SequenceHead(HeadDims(FEATURES, 8, 3, "mean")).eval()
    real = export_speed.ours

    def swapped(given: Subject, *rest: object) -> object:
        return real(Subject("small", given.encoder, other, 32, 32), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(export_speed, "ours", swapped)
    monkeypatch.setattr(export_speed, "naive", lambda *_: {})
    with pytest.raises(RuntimeError, match=r"head: sides differ from PyTorch on clips of one length: \{'ours'"):
        export_speed.measure(subject(), Setting("onnxruntime-cpu"), 1, 0.0, 4)


def test_a_naive_graph_for_one_length_only_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A loop in Python over the frames, as a peephole LSTM is in PyTorch, is exported for the length it was shown."""
    torch.manual_seed(0)
    head = SequenceHead(HeadDims(FEATURES, 8, 3, "mean", "peephole-lstm")).eval()
    parts = export_speed.naive(Subject("small", encoder(), head, 32, 32), Setting("onnxruntime-cpu"))
    assert parts.keys() == {"encoder"}
    printed = capsys.readouterr().out
    assert "naive head is left out: the exporter fixed its input to [2, 5, 12]\n" in printed
    assert "naive whole is left out: the exporter fixed its input to [2, 5, 32, 32, 3]\n" in printed


def test_the_default_is_the_network_that_ships() -> None:
    default = Subject.default()
    assert isinstance(default.encoder, ImageEncoder)
    assert default.head.dims == HeadDims(1280, 64, 12, "mean")
    assert (default.frame_height, default.frame_width) == (224, 224)
