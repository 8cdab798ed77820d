"""train → evaluate → cost → export → study → card, as CONTRIBUTING.md runs them, on drawn clips."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drawn import draw

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    assert str(folder) not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels, five groups each, one of them for test."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["path,label,group,part"]
    for label, fps in (("slow", 5.0), ("fast", 40.0)):
        for group in range(5):
            name = f"{label}{group}.mp4"
            draw(folder / name, num_frames=40 + group, fps=fps, width=96, height=96)
            lines.append(f"{name},{label},{label}{group},{'test' if group == 0 else 'train'}")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_commands_that_make_a_bundle(manifest: Path, tmp_path: Path) -> None:
    checkpoint, zoo, store = tmp_path / "m.pt", tmp_path / "zoo", ("--store", str(tmp_path / "features"))
    data = ("--data", str(manifest))
    trained = run(
        tmp_path, "models", "train", *data, "--split", "part", "--name", "drawn", "--size", "64", "--epochs", "2",
        "--out", str(checkpoint), *store,
    )  # fmt: skip
    assert "validation groups" in trained
    evaluated = run(
        tmp_path, "models", "evaluate", str(checkpoint), *data, "--split", "part", "--out", str(tmp_path / "e"), *store
    )
    assert "single frame" in evaluated
    assert {path.name for path in (tmp_path / "e").iterdir()} == {"confusion.csv", "confusion.png"}
    run(tmp_path, "export", str(checkpoint), "--out", str(zoo), "--clips", str(manifest))
    bundle = zoo / "drawn" / "1"
    run(
        tmp_path, "models", "study", *data, "--splits", "part", "--seeds", "2", "--size", "64",
        "--out", str(bundle / "study.json"), *store,
    )  # fmt: skip
    run(
        tmp_path, "models", "cost", *data, "--split", "part", "--cells", "64@4,64@2", "--folds", "1",
        "--out", str(bundle / "cost.json"), *store,
    )  # fmt: skip
    run(tmp_path, "models", "card", str(bundle))
    card = (bundle / "MODEL_CARD.md").read_text()
    study = json.loads((bundle / "study.json").read_text())
    assert len(study["accuracies"]["lstm"]) == 2
    assert study["head_sha256"] == json.loads((bundle / "model.json").read_text())["head_sha256"]
    assert "**64** | **4** |" in card
    assert re.search(r"95 % interval [+-][\d.]+% to [+-][\d.]+% \(bootstrap over 2 groups", card)
    assert "real clips, top-1 | onnxruntime-cpu, fp32 | 1 | at least 1" in card
    assert f"All methods have features of {study['encoder_weights']['source']}." in card


def test_the_card_that_ships_is_what_its_files_say(tmp_path: Path) -> None:
    zoo = ROOT / "models" / "zoo"
    for path in (*zoo.rglob("*.json"), *zoo.rglob("*.csv"), *zoo.rglob("notes.md")):
        (tmp_path / path.relative_to(zoo)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.relative_to(zoo)).write_bytes(path.read_bytes())
    for bundle in sorted(path.parent for path in tmp_path.glob("*/*/model.json")):
        run(tmp_path, "models", "card", str(bundle))
        shipped = zoo / bundle.relative_to(tmp_path) / "MODEL_CARD.md"
        assert (bundle / "MODEL_CARD.md").read_text() == shipped.read_text()
