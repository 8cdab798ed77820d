from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models.data import loading
from models.data.features import LeftOut, Rows, Stored
from models.data.loading import Loaded, load_clips
from models.data.manifests import Clip, Side
from models.errors import FeatureError
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)


class Store:
    """In place of a FeatureStore: clips named `bad…` are broken."""

    def __init__(self, *_: object) -> None:
        pass

    def load(self, paths: list[Path]) -> Stored:
        return Stored(
            {
                path: Rows(np.zeros((1, 4), np.float32), np.zeros(1))
                for path in paths
                if not path.name.startswith("bad")
            },
            [LeftOut(path, f"not_a_video: {path}: no") for path in paths if path.name.startswith("bad")],
            {path: f"sha256 of {path}" for path in paths},
        )


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FeatureStore", Store)


def clips(label: str, *names: str, split: Side = "train") -> list[Clip]:
    return [Clip(Path("data") / label / name, label, name, split) for name in names]


def load(some: list[Clip]) -> tuple[Loaded, str]:
    console = Console(record=True, quiet=False)
    with console.capture() as captured:
        loaded = load_clips(some, SPEC, None, Path(), console)  # type: ignore[arg-type]
    return loaded, captured.get()


NAMES = [f"{number}.mp4" for number in range(9)]


def test_a_broken_clip_is_named_and_left_out() -> None:
    loaded, said = load([*clips("a", "bad.mp4", *NAMES), *clips("b", *NAMES)])
    assert "left out: data/a/bad.mp4: not_a_video: data/a/bad.mp4: no" in said
    assert "1 of 19 clips are left out" in said
    assert len(loaded.clips) == 18
    assert loaded.sha256[Path("data/b/0.mp4")] == "sha256 of data/b/0.mp4"
    assert loaded.left_out_rows() == [{"path": "bad.mp4", "why": "not_a_video: bad.mp4: no"}]
    assert loaded.of([*clips("a", "bad.mp4", "1.mp4", split="test")]) == clips("a", "1.mp4", split="test")


def test_a_tenth_may_be_broken_and_no_more() -> None:
    tenth = [*clips("a", "bad0.mp4", "bad1.mp4", *NAMES), *clips("b", *NAMES)]
    assert len(load(tenth)[0].left_out) == 2
    with pytest.raises(FeatureError, match=r"3 of 21 clips can't be used, more than 10%.*bad1\.mp4: not_a_video"):
        load([*tenth[1:], *clips("b", "bad2.mp4", "bad3.mp4")])


@pytest.mark.parametrize("test", [[], clips("c", *NAMES, split="test")])
def test_a_label_that_is_lost_ends_training(test: list[Clip]) -> None:
    """Of test alone it can't be learnt."""
    some = [*clips("a", *NAMES), *clips("b", *NAMES), *clips("c", "bad.mp4"), *test]
    with pytest.raises(FeatureError, match="no clip of label c can be used"):
        load(some)


TRAIN = [*clips("a", *NAMES, "9.mp4"), *clips("b", *NAMES, "9.mp4")]


def test_a_test_part_that_is_lost_ends_it_all() -> None:
    """`train` would drop it in silence, and claim what validation says."""
    with pytest.raises(FeatureError, match=r"no test clip can be used \(1 left out\);.*test/bad\.mp4: not_a_video"):
        load([*TRAIN, Clip(Path("data/test/bad.mp4"), "a", "t", "test")])


def test_a_label_that_test_loses_is_said() -> None:
    loaded, said = load([*TRAIN, *clips("a", "bad.mp4", split="test"), *clips("b", "test.mp4", split="test")])
    assert len(loaded.clips) == 21
    assert "no test clip of label a is left (1 left out): the figures on test say nothing of it" in said
    assert "of label b" not in said


def test_a_number_that_is_lost_is_no_label() -> None:
    """Each is there once: a broken clip is one of many. Of several labels each counts by itself."""
    numbers = [*(clip for at in range(19) for clip in clips(f"{at}.5", f"{at}.mp4")), *clips("99.5", "bad.mp4")]
    several = [*clips("a|b", *NAMES), *clips("b|c", *NAMES), *clips("a|b|c", "bad.mp4")]
    for some, labels_of in ((numbers, lambda _: ("",)), (several, lambda clip: clip.label.split("|"))):
        console = Console(quiet=True)
        loaded = load_clips(some, SPEC, None, Path(), console, labels_of=labels_of)  # type: ignore[arg-type]
        assert len(loaded.left_out) == 1
    with pytest.raises(FeatureError, match=r"^no clip can be used \(all: 1 left out\)"):
        load_clips(clips("1.5", "bad.mp4"), SPEC, None, Path(), Console(quiet=True), labels_of=lambda _: ("",))  # type: ignore[arg-type]
