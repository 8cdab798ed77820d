"""`python -m models check`: each kind of fault is found, and a sound data set has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.__main__ import app
from tests.models.footage import film, manifest

Finding = dict[str, object]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of five source videos; `x.mp4` is a copy of a0.mp4, `y.mp4` the same in another size; broken ones."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(5):
        film(folder / f"a{number}.mp4", number)
        film(folder / f"b{number}.mp4", 10 + number)
    (folder / "x.mp4").write_bytes((folder / "a0.mp4").read_bytes())
    film(folder / "y.mp4", 0, width=160, height=120)
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.mp4").touch()
    return folder


SOUND = [
    f"{label}{number}.mp4,{label},{label}{number},{'test' if number == 4 else 'train'}"
    for label in "ab"
    for number in range(5)
]


def check(folder: Path, rows: list[str], tmp_path: Path) -> tuple[int, dict[str, Finding], str]:
    out = tmp_path / "found.json"
    arguments = ["check", str(manifest(folder, *rows)), "--split", "part", "--json", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "store")], env={"COLUMNS": "80"})
    report = json.loads(out.read_text())
    return result.exit_code, {finding["kind"]: finding for finding in report["findings"]}, result.output


def checked_as(task: str, data: Path, tmp_path: Path) -> tuple[dict[str, Finding], dict[str, dict[str, int]], str]:
    out, recipe = tmp_path / "found.json", tmp_path / "recipe.toml"
    recipe.write_text(f"[task]\n{task}\n")
    arguments = ["check", str(data), "--recipe", str(recipe), "--json", str(out), "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code in (0, 1), result.output
    report = json.loads(out.read_text())
    return {finding["kind"]: finding for finding in report["findings"]}, report["labels"], result.output


def test_a_label_a_tick_is_checked_by_its_segments(films: Path, tmp_path: Path) -> None:
    """Clips of 4 s, or so; `b4` has no segment, one lies behind the end, and one names no clip."""
    data = films / "ticks.csv"
    data.write_text("path,split\n" + "".join(f"{row.split(',')[0]},{row.split(',')[3]}\n" for row in SOUND))
    rows = [f"{label}{number}.mp4,0.2,0.6,{label}" for label in "ab" for number in range(5)][:-1]
    rows += ["a0.mp4,0.7,999,b", "a9.mp4,0,1,a", "a4.mp4,0.7,0.9,c"]
    (films / "segments.csv").write_text("path,start_seconds,end_seconds,label\n" + "\n".join(rows) + "\n")
    found, labels, output = checked_as('kind = "tick_label"', data, tmp_path)
    assert set(found) == {
        "segments of no clip", "segments beyond the end", "clips without segments", "labels without training",
        "labels without a test",
    }, output  # fmt: skip
    assert "a9.mp4" in str(found["segments of no clip"]["items"])
    assert "a0.mp4: b until 999 s, and the clip ends at" in str(found["segments beyond the end"]["items"])
    assert found["clips without segments"]["items"] == [str(films / "b4.mp4")]
    assert found["labels without training"]["items"] == ["c"]
    assert labels["b"] == {"train": 5, "test": 0, "groups_in_train": 5, "broken": 0}


def test_several_labels_and_numbers_are_checked_as_such(films: Path, tmp_path: Path) -> None:
    data = films / "several.csv"
    words = ["a|b", "a", "a|b", "", "a|b", "a", "b", "b", "", "a|b"]
    lines = [row.split(",") for row in SOUND]
    several = [f"{path},{word},{split}" for (path, _, _, split), word in zip(lines, words, strict=True)]
    data.write_text("path,label,split\n" + "\n".join(several) + "\n")
    found, labels, output = checked_as('kind = "labels"', data, tmp_path)
    assert found == {}, output
    assert {label: (count["train"], count["test"]) for label, count in labels.items()} == {"a": (4, 2), "b": (4, 2)}
    numbers = [f"{path},{number / 7},{split}" for number, (path, _, _, split) in enumerate(lines)]
    data.write_text("path,level,split\n" + "\n".join(numbers) + "\n")
    found, labels, output = checked_as('kind = "value"\ncolumns = "level"', data, tmp_path)
    assert (found, labels) == ({}, {}), output


def test_a_sound_data_set_has_no_finding(films: Path, tmp_path: Path) -> None:
    code, found, output = check(films, SOUND, tmp_path)
    assert (code, found) == (0, {})
    assert "0 errors, 0 warnings" in output
    assert max(map(len, output.splitlines()[:8])) <= 80


@pytest.mark.parametrize(
    ("rows", "kind", "level", "named"),
    [
        ([*SOUND, "text.mp4,a,t,train"], "broken files", "error", "text.mp4: not_a_video: "),
        ([*SOUND, "empty.mp4,a,t,train"], "broken files", "error", "empty.mp4: empty_file: "),
        ([*SOUND, "x.mp4,b,x,train"], "one content, two labels", "error", "x.mp4 (b)"),
        ([*SOUND, "x.mp4,a,x,test"], "one content on both sides", "error", "x.mp4 (test)"),
        ([*SOUND, "x.mp4,a,x,train"], "one content twice", "warning", "x.mp4 (a)"),
        ([*SOUND, "y.mp4,a,y,test"], "alike on both sides", "warning", "y.mp4 ("),
        ([*SOUND, "y.mp4,a,y,train"], "alike in groups of train", "warning", "y.mp4 ("),
        ([*SOUND, "y.mp4,a,a1,test"], "groups on both sides", "error", "y.mp4 is test"),
        ([row for row in SOUND if row[0] == "a"], "too few labels", "error", "a"),
        ([row for row in SOUND if row[0] == "a" or "test" in row], "labels without training", "error", "b"),
        ([row for row in SOUND if row[0] == "a" or "train" in row], "labels without a test", "warning", "b"),
        ([row for row in SOUND if row[0] == "a" or row[1] in "04"], "labels of one group", "error", "b: 1"),
        ([row for row in SOUND if row[0] == "a" or row[1] in "014"], "labels of few groups", "warning", "b: 2"),
        ([row for row in SOUND if row[0] == "a" or row[1] in "04"], "uneven labels", "warning", "b: 1 clips"),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_named(
    films: Path, tmp_path: Path, rows: list[str], kind: str, level: str, named: str
) -> None:
    code, found, output = check(films, rows, tmp_path)
    assert found[kind]["level"] == level, found
    assert named in str(found[kind]["items"])
    assert f"{level}: {kind}: " in output.replace("\n", " ")
    assert code == (1 if any(finding["level"] == "error" for finding in found.values()) else 0)


def test_without_a_split_column_all_is_train(films: Path, tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("path,label\n" + "".join(f"{films / row.split(',')[0]},{row[0]}\n" for row in SOUND))
    result = CliRunner().invoke(app, ["check", str(path), "--store", str(tmp_path / "store")])
    assert result.exit_code == 0, result.output


def test_a_wrong_manifest_is_one_red_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(manifest(tmp_path, "gone.mp4,a,1,train"))])
    assert result.exit_code == 1
    assert "gone.mp4 is not a file" in result.output
    assert "Traceback" not in result.output
