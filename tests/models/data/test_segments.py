"""Labels in time, from both kinds of files, and the label of every tick."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.manifests import Clip, hold_out, read
from models.data.segments import Segment, read_segments, tick_labels
from models.data.targets import targets_of
from models.errors import DatasetError

HEADER = "path,start_seconds,end_seconds,label\n"


def clips(*names: str) -> list[Clip]:
    return [Clip(Path("data/clips") / name, "", name, "train") for name in names]


def test_a_csv_and_activitynets_json_say_the_same(tmp_path: Path) -> None:
    table, document = tmp_path / "segments.csv", tmp_path / "activity_net.json"
    table.write_text(HEADER + "v_b.mp4,1.5,2.0,jump\nv_a.mp4,0.4,0.6,run\nv_b.mp4,0,1.5,run\n", encoding="utf-8")
    annotations = [{"segment": [0, 1.5], "label": "run"}, {"segment": [1.5, 2.0], "label": "jump"}]
    database = {
        "a": {"subset": "training", "annotations": [{"segment": [0.4, 0.6], "label": "run"}]},
        "b": {"subset": "training", "annotations": annotations},
        "elsewhere": {"annotations": []},
    }
    document.write_text(json.dumps({"version": "1.3", "database": database}), encoding="utf-8")
    data = clips("v_a.mp4", "v_b.mp4", "v_c.mp4")
    wanted = {
        data[0].path: [Segment(0.4, 0.6, "run")],
        data[1].path: [Segment(0, 1.5, "run"), Segment(1.5, 2.0, "jump")],
        data[2].path: [],
    }
    assert read_segments(table, data) == read_segments(document, data) == wanted


def test_segments_of_no_clip_are_said(tmp_path: Path) -> None:
    """A typing error in a path would else leave a clip all background."""
    table, said = tmp_path / "segments.csv", list[str]()
    lines = ["a.mp4,0,1,run", "A.mp4,0,1,run", "A.mp4,1,2,jump", *(f"gone{index}.mp4,0,1,run" for index in range(3))]
    table.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    data = clips("a.mp4")
    assert read_segments(table, data, said.append) == {data[0].path: [Segment(0, 1, "run")]}
    assert said == [
        f"{table}: 5 segments left out: no clip of the data is called A.mp4, gone0.mp4, gone1.mp4, …",
    ]
    said.clear()
    table.write_text(f"{HEADER}a.mp4,0,1,run\nA.mp4,0,1,run\n", encoding="utf-8")
    read_segments(table, data, said.append)
    assert said == [f"{table}: 1 segment left out: no clip of the data is called A.mp4"]


def test_a_path_from_the_root_is_that_of_the_manifest(tmp_path: Path) -> None:
    table, clip = tmp_path / "segments.csv", Clip(tmp_path / "a.mp4", "", "a", "train")
    table.write_text(f"{HEADER}{clip.path},0,1,run\n", encoding="utf-8")
    assert read_segments(table, [clip]) == {clip.path: [Segment(0, 1, "run")]}


def test_a_tick_has_the_label_that_begins_at_it() -> None:
    """Ends that meet, and times of 25 a second that are rounded to milliseconds."""
    segments = [Segment(0.04, 0.12, "run"), Segment(0.12, 0.2, "jump")]
    times = np.arange(7) / 25
    labels = ("none", "jump", "run")
    assert [labels[index] for index in tick_labels(times, segments, labels, "none")] == [
        "none", "run", "run", "jump", "jump", "none", "none",
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="label 'jump' is unknown"):
        tick_labels(times, segments, ("none", "run"), "none")


def test_a_segment_is_widened_into_the_background_alone() -> None:
    segments = [Segment(2.0, 3.0, "run"), Segment(4.0, 6.0, "jump")]
    labels = ("none", "jump", "run")
    for widen, wanted in ((1, "-rrrjjj--"), (3, "rrrrjjjjj")):
        found = tick_labels(np.arange(9, dtype=np.float64), segments, labels, "none", widen)
        assert "".join("-jr"[index] for index in found) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,start,end,label\n", "column 'start_seconds' is missing; segments have path, start_seconds"),
        (HEADER + "a.mp4,1,x,run\n", r"segments\.csv:2: from '1' to 'x' is no time"),
        (HEADER + "a.mp4,2,1,run\n", "the end comes after the start"),
        (HEADER + "a.mp4,0,inf,run\n", "is no time"),
        (HEADER + "a.mp4,0,1,\n", "the label is ''; name one"),
        (HEADER + "a.mp4,0,1,run\na.mp4,0.5,2,jump\n", "run until 1 s and jump from 0.5 s overlap"),
        (HEADER + "z.mp4,0,1,run\n", "names no clip of the data; it has z.mp4"),
    ],
)
def test_a_table_that_is_wrong_is_refused(text: str, words: str, tmp_path: Path) -> None:
    table = tmp_path / "segments.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=words):
        read_segments(table, clips("a.mp4"))


@pytest.mark.parametrize("text", ["{", "[]", '{"database": {"a": {"annotations": [{"segment": [1]}]}}}'])
def test_json_that_is_none_of_activitynets_is_refused(text: str, tmp_path: Path) -> None:
    document = tmp_path / "a.json"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="no JSON as ActivityNet's"):
        read_segments(document, clips("a.mp4"))


def manifest(folder: Path, header: str, *rows: str) -> Path:
    for row in rows:
        (folder / row.partition(",")[0]).touch()
    file = folder / "manifest.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def test_targets_of_several_labels_and_of_numbers(tmp_path: Path) -> None:
    table = manifest(
        tmp_path, "path,tags,speed,angle,split",
        "a.mp4,run|wet,1.5,-2,train", "b.mp4,wet,0,0,train", "c.mp4,run,3,1,train",
    )  # fmt: skip
    labelled = read(table, columns=("tags",))
    several = targets_of("labels", labelled)
    assert several.labels == ("run", "wet")
    assert several.of(labelled, {}).tolist() == [[1, 1], [0, 1], [1, 0]]
    kept, held = hold_out(labelled, 0.3, 0, several.strata)
    assert {"run", "wet"} == {label for clip in held for label in several.strata(clip)}
    assert len(kept) + len(held) == 3
    numbers = read(table, columns=("speed", "angle"))
    values = targets_of("value", numbers, ("speed", "angle"))
    torch.testing.assert_close(values.of(numbers, {}), torch.tensor([[1.5, -2.0], [0.0, 0.0], [3.0, 1.0]]))
    with pytest.raises(DatasetError, match=r"a\.mp4: 'run' is no number"):
        targets_of("value", labelled, ("tags",))
    with pytest.raises(DatasetError, match=r"column\(s\) height missing; there are path, tags"):
        read(table, columns=("height",))


def test_targets_of_ticks(tmp_path: Path) -> None:
    table = manifest(tmp_path, "path,split", "a.mp4,train", "b.mp4,test")
    data = read(table, columns=())
    segments = {data[0].path: [Segment(0.5, 1.0, "run")], data[1].path: []}
    targets = targets_of("tick_label", data, segments=segments, background="rest")
    assert targets.labels == ("rest", "run")
    times = {clip.path: np.arange(4) / 4 for clip in data}
    assert targets.of(data, times).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    with pytest.raises(DatasetError, match="no segment of train has a label"):
        targets_of("tick_label", data, segments={}, background="rest")


def test_a_label_that_train_has_not_is_refused(tmp_path: Path) -> None:
    """In test only, or in train between two ticks only."""
    data = read(manifest(tmp_path, "path,split", "a.mp4,train", "b.mp4,test"), columns=())
    segments = {data[0].path: [Segment(0.5, 1.0, "run")], data[1].path: [Segment(0, 1, "jump")]}
    with pytest.raises(DatasetError, match="label jump is in test only"):
        targets_of("tick_label", data, segments=segments)
    with pytest.raises(DatasetError, match="no segment of train has a label"):
        targets_of("tick_label", data, segments={data[0].path: []})
    segments = {data[0].path: [Segment(0.5, 1.0, "run"), Segment(1.1, 1.2, "jump")]}
    targets = targets_of("tick_label", data, segments=segments)
    ticks = targets.of(data[:1], {data[0].path: np.arange(8) / 4})
    with pytest.raises(DatasetError, match=r"label jump has no tick in train: .* raise sample_fps"):
        targets.refuse_unseen(ticks)
    fine = targets.of(data[:1], {data[0].path: np.arange(40) / 20})
    targets.refuse_unseen(fine)
    targets.refuse_unseen(fine[fine > 0])  # the background may be nowhere


def test_a_name_that_two_clips_have_is_refused(tmp_path: Path) -> None:
    """Else both would have the one's labels."""
    table = tmp_path / "segments.csv"
    table.write_text(HEADER + "a.mp4,0,1,run\n", encoding="utf-8")
    two = clips("one/a.mp4", "two/a.mp4")
    with pytest.raises(DatasetError, match=r"a\.mp4 may be data/clips/one/a\.mp4 or data/clips/two/a\.mp4; name more"):
        read_segments(table, two)
    table.write_text(HEADER + "one/a.mp4,0,1,run\n", encoding="utf-8")
    assert [len(found) for found in read_segments(table, [*two, two[0]]).values()] == [1, 0]


def test_numbers_are_as_many_as_their_columns(tmp_path: Path) -> None:
    data = read(manifest(tmp_path, "path,speed,split", "a.mp4,1,train", "b.mp4,1|2,train"), columns=("speed",))
    with pytest.raises(DatasetError, match=r"b\.mp4: '1\|2' is 2 numbers, and 1 are learned \(speed\)"):
        targets_of("value", data, ("speed",))


def test_one_group_is_said_to_be_one_whatever_the_task(tmp_path: Path) -> None:
    data = read(manifest(tmp_path, "path,speed,group,split", "a.mp4,1,g,train", "b.mp4,2,g,train"), columns=("speed",))
    with pytest.raises(DatasetError, match=r"^train has one group only \(g\)"):
        hold_out(data, 0.25, 0, targets_of("value", data, ("speed",)).strata)
