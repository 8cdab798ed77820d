from __future__ import annotations

from pathlib import Path

import pytest

from models.dataset import Clip, DatasetError, hold_out, read, read_manifest


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_paths_are_relative_to_the_manifest_or_its_clips_folder(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    clips = read(manifest(tmp_path, "path,label,group,part", "a.mp4,Run,1,train", "b.mp4,Jump,1,test"), "part")
    assert [(c.path.name, c.label, c.group, c.split) for c in clips] == [
        ("a.mp4", "Run", "Run/1", "train"),
        ("b.mp4", "Jump", "Jump/1", "test"),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,group,split", "a.mp4,1,train"], "column.* label missing"),
        (["path,label,split", "gone.mp4,Run,train"], ":2: gone.mp4 is not a file"),
        (["path,label,split", "a.mp4,Run,validate"], ":2: split is 'validate'"),
        (["path,label,split"], "names no clips"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_line(tmp_path: Path, lines: list[str], said: str) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DatasetError, match=said):
        read(manifest(tmp_path, *lines))


def test_without_a_split_column_all_is_train(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert read_manifest(manifest(tmp_path, "path,label", "a.mp4,Run"), None)[0].split == "train"


def test_a_tree_has_one_folder_a_class_and_ucf_names_give_groups(tmp_path: Path) -> None:
    for name in ("Dive/v_Dive_g01_c01.mp4", "Dive/v_Dive_g01_c02.mp4", "Dive/notes.txt", "Surf/mine.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [(c.label, c.group) for c in read(tmp_path)] == [
        ("Dive", "Dive/01"),
        ("Dive", "Dive/01"),
        ("Surf", "Surf/mine"),
    ]


def test_a_group_is_never_on_both_sides() -> None:
    clips = [
        Clip(Path(f"{label}{group}{take}"), label, f"{label}/{group}", "train")
        for label in ("a", "b")
        for group in range(8)
        for take in range(3)
    ]
    kept, held = hold_out(clips, 0.25, seed=1)
    assert {c.group for c in kept}.isdisjoint(c.group for c in held)
    assert len(held) == 2 * 2 * 3
    assert len(kept) + len(held) == len(clips)
    assert hold_out(clips, 0.25, seed=1) == (kept, held)
    assert hold_out(clips, 0.25, seed=2) != (kept, held)


def test_a_label_of_one_group_cannot_be_cut() -> None:
    with pytest.raises(DatasetError, match="label a has one group only"):
        hold_out([Clip(Path("x"), "a", "a/1", "train")], 0.25, seed=0)
