"""The benchmark of shots: films and detections are read, judged and shown as they are; no detector is run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from models.data.spans import Span
from tests.bench import shots

MANIFEST = """path,label,group,split,frames,fps
a.mp4,film,test-00,test,200,29.97003
b.mp4,film,test-01,test,100,25
c.mp4,film,train-00,train,100,25
"""
SEGMENTS = """path,start_seconds,end_seconds,label
a.mp4,1.668333,1.701700,cut
a.mp4,3.336666,3.670333,dissolve
b.mp4,0.000000,0.400000,fade
b.mp4,2.000000,2.040000,cut
c.mp4,2.000000,2.040000,cut
"""
DISTURBANCES = """path,start_seconds,end_seconds,label
b.mp4,1.200000,1.240000,flash
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("manifest", MANIFEST), ("segments", SEGMENTS), ("disturbances", DISTURBANCES)):
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def found(**spans: list[tuple[int, int, str]]) -> shots.Detections:
    rows = [{"path": f"/elsewhere/{name}.mp4", "seconds": 0.3, "spans": each} for name, each in spans.items()]
    return shots.detections(json.dumps(row) for row in rows)


def test_films_of_the_test_side_are_read_in_frames(folder: Path) -> None:
    first, second = shots.read_films(folder)
    assert (first.path, first.group, first.num_frames) == (folder / "clips" / "a.mp4", "test-00", 200)
    assert first.transitions == (Span(50, 51, "cut"), Span(100, 110, "dissolve"))
    assert second.transitions == (Span(0, 10, "fade"), Span(50, 51, "cut"))
    assert second.disturbances == (Span(30, 31, "flash"),)


def test_a_detector_is_judged(folder: Path) -> None:
    """Both cuts are found, the dissolve is not; one false alarm on the flash, one on nothing that is known."""
    predicted = found(a=[(51, 52, "")], b=[(29, 30, ""), (49, 50, ""), (80, 81, "")])
    judged = shots.judge("mine", shots.read_films(folder), predicted)
    assert (judged.films, judged.frames, judged.milliseconds) == (2, 300, 2.0)
    assert (judged.overall.hits, judged.overall.truths, judged.overall.predicted) == (2, 3, 4)
    assert {kind: each.recall for kind, each in judged.kinds.items()} == {"cut": 1.0, "dissolve": 0.0, "fade": 0.0}
    assert judged.named == {}
    assert judged.false_alarms == {"flash": 1, "other": 1}


def test_a_film_of_which_nothing_is_told_is_named(folder: Path) -> None:
    with pytest.raises(KeyError, match=r"b\.mp4"):
        shots.judge("mine", shots.read_films(folder), found(a=[]))


def test_results_come_back_from_json_and_are_shown(folder: Path, tmp_path: Path) -> None:
    rows = [{"path": f"{name}.mp4", "seconds": 0.1, "spans": [[50, 51, "cut"]]} for name in "ab"]
    (tmp_path / "rows").write_text("\n".join(map(json.dumps, rows)))
    flags = ["--films", str(folder), "--sides", "", "--detections", f"ours={tmp_path / 'rows'}", "--out", str(tmp_path)]
    shots.main(flags)
    report = json.loads((tmp_path / "shots.json").read_text())
    console = Console(file=io.StringIO(), width=160)
    shots.show(TypeAdapter(shots.Shots).validate_python(report["results"]), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "cut, by name" in shown
    assert "ours: false alarms on none" in shown


def test_a_detector_without_its_environment_says_how_to_make_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shots, "ROOT", folder)
    with pytest.raises(FileNotFoundError, match=r"make \.venv-bench-transnetv2/\.ready"):
        shots.detect("transnetv2", [])
