from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.data.manifests import Clip, DatasetError, Side, hold_out, leaks, read, read_manifest
from models.data.parts import cut
from models.data.targets import targets_of
from service.video.spec import ClipSpec


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_paths_are_relative_to_the_manifest_or_its_clips_folder(tmp_path: Path) -> None:
    touch(tmp_path, "clips/a.mp4", "b.mp4")
    clips = read(manifest(tmp_path, "path,label,group,part", "a.mp4,Run,1,train", "b.mp4,Jump,2,test"), "part")
    assert [(c.path.name, c.label, c.group, c.split) for c in clips] == [
        ("a.mp4", "Run", "1", "train"),
        ("b.mp4", "Jump", "2", "test"),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,group,split", "a.mp4,1,train"], "column.* label missing"),
        (["path,label,split", "gone.mp4,Run,train"], ":2: gone.mp4 is not a file"),
        (["path,label,split", "a.mp4,Run,validate"], ":2: split is 'validate'"),
        (["path,label,split", "a.mp4,,train"], ":2: label is empty"),
        (["path,label,split", "a.mp4"], ":2: label is empty"),
        (["path,label,split"], "names no clips"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_line(tmp_path: Path, lines: list[str], said: str) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(DatasetError, match=said):
        read(manifest(tmp_path, *lines))


def test_of_several_labels_there_may_be_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    [clip] = read(manifest(tmp_path, "path,label,split", "a.mp4,,train"), empty_labels=True)
    assert clip.label == ""
    with pytest.raises(DatasetError, match=":2: path is empty"):
        read(manifest(tmp_path, "path,label,split", ",Run,train"), empty_labels=True)


def test_clips_of_no_label_are_on_both_sides_of_a_cut(tmp_path: Path) -> None:
    """Of sixteen groups with a label and eight without."""
    labels = ["a", "b", ""] * 8
    clips = [Clip(tmp_path / f"{number}.mp4", label, str(number), "train") for number, label in enumerate(labels)]
    rows = {clip.path: np.zeros((4, 2), np.float32) for clip in clips}
    spec = ClipSpec(sample_fps=4, frame_height=32, frame_width=32)
    found = cut(clips, rows, targets_of("labels", clips), spec, 0.25, 0)
    assert [sum(not clip.label for clip in part) for part in (found.train_clips, found.validation_clips)] == [6, 2]
    one = cut(clips[:3] + clips[3:5], rows, targets_of("labels", clips), spec, 0.25, 0)
    assert [clip.label for clip in one.train_clips].count("") == 1, "a single group stays"


def test_what_is_no_text_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftyp\xff\xfe")
    with pytest.raises(DatasetError, match="not a CSV in UTF-8"):
        read(tmp_path / "a.mp4")


def test_a_spreadsheets_byte_order_mark_is_not_part_of_a_column(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    path = tmp_path / "manifest.csv"
    path.write_text("path,label,split\na.mp4,Run,train\n", encoding="utf-8-sig")
    assert read(path)[0].label == "Run"


def test_without_a_split_column_all_is_train(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert read_manifest(manifest(tmp_path, "path,label", "a.mp4,Run"), None)[0].split == "train"


def test_a_tree_has_one_folder_a_class_and_ucf_names_give_groups(tmp_path: Path) -> None:
    touch(tmp_path, "Dive/v_Dive_g01_c01.mp4", "Dive/v_Dive_g01_c02.mp4", "Dive/notes.txt", "Surf/mine.mov")
    assert [(c.label, c.group) for c in read(tmp_path)] == [
        ("Dive", "Dive/g01"),
        ("Dive", "Dive/g01"),
        ("Surf", "mine"),
    ]


@pytest.mark.parametrize(
    ("group", "first", "second", "together"),
    [
        ("1", "a.mp4", "b.mp4", True),  # the column, as it is
        ("", "Run/match.mp4", "Jump/match.mp4", True),  # a video with two labels
        ("", "Run/1.mp4", "Jump/1.mp4", False),  # a count, which names no video
        ("", "train/Run/1.mp4", "test/Run/1.mp4", False),
        ("", "Run/v_Run_g07_c01.mp4", "Jump/v_Run_g07_c02.mp4", True),  # one video of UCF101, two labels
        ("07", "Run/v_Run_g07_c01.mp4", "Jump/v_Jump_g07_c01.mp4", False),  # UCF101 counts groups in each class
        ("7", "Run/v_Run_g07_c01.mp4", "Jump/v_Jump_g07_c01.mp4", False),
        ("tape", "Run/v_Run_g07_c01.mp4", "Jump/v_Jump_g08_c01.mp4", True),  # the owner knows better
    ],
)
def test_a_group_is_the_source_video_whatever_the_label(
    tmp_path: Path, group: str, first: str, second: str, together: bool
) -> None:
    touch(tmp_path, first, second)
    rows = (f"{first},Run,{group}", f"{second},Jump,{group}")
    clips = read_manifest(manifest(tmp_path, "path,label,group", *rows), None)
    assert (clips[0].group == clips[1].group) is together


def test_a_group_on_both_sides_is_refused_with_a_file_on_each(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    lines = ("path,label,group,split", "a.mp4,Run,g7,train", "b.mp4,Jump,g7,test", "c.mp4,Jump,g8,test")
    path = manifest(tmp_path, *lines)
    with pytest.raises(DatasetError, match=r"group 'g7': .*a\.mp4 is train, .*b\.mp4 is test.*column split"):
        read(path)
    [leak] = leaks(read(path, refuse_leaks=False))
    assert (leak.group, leak.train.path.name, leak.test.path.name) == ("g7", "a.mp4", "b.mp4")


def test_a_source_video_of_two_labels_is_held_out_whole() -> None:
    clips = [clip(f"tape{tape}", label) for tape in range(8) for label in ("Run", "Jump")]
    for seed in range(10):
        kept, held = hold_out(clips, 0.25, seed)
        assert {c.group for c in kept}.isdisjoint(c.group for c in held)
        assert Counter(c.label for c in held) == {"Run": 2, "Jump": 2}


def test_shared_groups_leave_every_label_something_to_learn_from() -> None:
    """Random sets of groups: none is separated, none of the labels is lost, and few have no held-out part."""
    without = 0
    for seed in range(200):
        source = random.Random(seed)
        clips = [
            clip(f"tape{tape}", label)
            for label in "abcd"
            for tape in source.sample(range(9), source.randint(2, 6))
            for _ in range(source.randint(1, 3))
        ]
        kept, held = hold_out(clips, 0.25, seed)
        assert {c.group for c in kept}.isdisjoint(c.group for c in held)
        assert {c.label for c in kept} == set("abcd")
        without += 4 - len({c.label for c in held})
    assert without <= 8  # of 800


def test_the_cuts_of_ucf101_are_those_that_the_shipped_model_was_chosen_on(tmp_path: Path) -> None:
    """Today's figures come from groups `<label>/<number>`, each label cut by itself."""
    labels, numbers = ("Archery", "Diving", "Surfing"), range(8, 22)
    names = [
        f"{label}/v_{label}_g{number:02}_c{take:02}.mp4" for label in labels for number in numbers for take in (1, 2)
    ]
    touch(tmp_path, *names)
    rows = [f"{name},{name.split('/')[0]},{name[-10:-8]},train" for name in names]
    with_column = read(manifest(tmp_path, "path,label,group,split", *rows))
    for seed in range(5):
        wanted = set()
        for label in labels:
            groups = [f"{label}/{number:02}" for number in numbers]
            random.Random(f"{seed}/{label}").shuffle(groups)
            wanted |= {f"v_{label}_g{group[-2:]}" for group in groups[: round(0.25 * len(groups))]}
        for clips in (with_column, read(tmp_path)):
            _, held = hold_out(clips, 0.25, seed)
            assert {c.path.stem[:-4] for c in held} == wanted


def clip(group: str, label: str, split: Side = "train") -> Clip:
    return Clip(Path(f"{label}-{group}"), label, group, split)


def test_a_group_is_never_on_both_sides() -> None:
    clips = [clip(f"{label}/{group}", label) for label in ("a", "b") for group in range(8) for take in range(3)]
    kept, held = hold_out(clips, 0.25, seed=1)
    assert {c.group for c in kept}.isdisjoint(c.group for c in held)
    assert len(held) == 2 * 2 * 3
    assert len(kept) + len(held) == len(clips)
    assert hold_out(clips, 0.25, seed=1) == (kept, held)
    assert hold_out(clips, 0.25, seed=2) != (kept, held)


def test_a_label_of_one_group_cannot_be_cut() -> None:
    with pytest.raises(DatasetError, match="label a has one group only"):
        hold_out([clip("1", "a")], 0.25, seed=0)
