"""Films made of drawn clips: what is written is what was planned, twice the same, and no source is on both sides."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

import models.__main__ as commands
from models.data import films
from models.data.film_sources import SAME_GROUP, Sources
from models.data.films import Film, synthesise
from models.data.manifests import Clip, DatasetError, hold_out, read
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.models import footage

GROUPS = 8


@pytest.fixture(scope="module", autouse=True)
def _short_films() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(films, "_SHOTS", (3, 5))
        patch.setattr(films, "_BODY_FRAMES", (12, 24))
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight groups of two clips, half of them of test; one clip of train is no video."""
    folder = tmp_path_factory.mktemp("sources")
    rows = []
    for group in range(GROUPS):
        for number in range(2):
            name = f"{group}-{number}.mp4"
            footage.film(folder / name, scene=2 * group + number)
            rows.append(f"{name},a,{group},{'train' if group % 2 else 'test'}")
    (folder / "1-0.mp4").write_bytes(b"no video")
    return footage.manifest(folder, *rows)


def made(manifest: Path, out: Path, *, train: int = 3, test: int = 2, seed: int = 0) -> list[Film]:
    return synthesise(manifest, "part", out, train, test, seed, Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def folder(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Film]]:
    out = tmp_path_factory.mktemp("films") / "made"
    return out, made(manifest, out)


def decoded(pool: DecodePool, path: Path, rate: Fraction, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    spec = ClipSpec(sample_fps=float(rate), frame_height=height, frame_width=width, resize="stretch")
    with pool.open(path, spec) as video:
        return np.concatenate([batch.frames for batch in video.batches(64)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_frame_comes_back_as_serving_decodes_it(folder: tuple[Path, list[Film]], pool: DecodePool) -> None:
    out, made_films = folder
    for film in made_films:
        assert len(decoded(pool, out / "clips" / film.name, film.rate)) == film.num_frames


def test_the_manifest_is_read_as_any_other(folder: tuple[Path, list[Film]]) -> None:
    out, made_films = folder
    clips = read(out / "manifest.csv")
    assert [(clip.path.name, clip.group, clip.split) for clip in clips] == [
        (film.name, film.group, film.side) for film in made_films
    ]
    assert {path.name for path in out.iterdir()} == {"clips", "manifest.csv", "segments.csv", "disturbances.csv"}


def test_segments_hold_the_very_frames_of_the_transitions(folder: tuple[Path, list[Film]]) -> None:
    """Of the frames at k / rate, those from start on and before the end are those of the span."""
    out, made_films = folder
    for name, attribute in (("segments", "transitions"), ("disturbances", "disturbances")):
        found = rows(out / f"{name}.csv")
        for film in made_films:
            mine = [row for row in found if row["path"] == film.name]
            times = [float(index / film.rate) for index in range(film.num_frames + 1)]
            for row, span in zip(mine, getattr(film, attribute), strict=True):
                inside = [
                    index for index, time in enumerate(times)
                    if float(row["start_seconds"]) <= time < float(row["end_seconds"])
                ]  # fmt: skip
                assert inside == list(range(span.start, span.stop))
                assert row["label"] == span.label
    assert {row["label"] for row in rows(out / "segments.csv")} == {"cut", "dissolve", "fade"}


def test_pixels_change_where_a_cut_is_said_to_be(folder: tuple[Path, list[Film]], pool: DecodePool) -> None:
    """And nowhere more, but for what is known: in each film's cuts against the median of its frames."""
    out, made_films = folder
    cuts = [(film, span) for film in made_films for span in film.transitions if span.label == "cut"]
    assert cuts
    for film, span in cuts:
        pictures = decoded(pool, out / "clips" / film.name, film.rate).astype(int)
        steps = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
        around = steps[max(0, span.start - 4) : span.start + 3]
        assert steps[span.start - 1] == around.max() > 4 * np.median(steps)


def test_disturbances_are_placed_in_the_film(folder: tuple[Path, list[Film]], pool: DecodePool) -> None:
    """A still picture stands still, from its first frame to its last that is not of a transition."""
    out, made_films = folder
    flashes = 0
    for film in made_films:
        pictures = decoded(pool, out / "clips" / film.name, film.rate).astype(int)
        for span in film.disturbances:
            assert 0 <= span.start < span.stop <= film.num_frames
            if span.label == "flash":
                flashes += 1
                light = pictures.mean(axis=(1, 2, 3))
                assert light[span.start] > light[span.start - 1] + 15
    assert flashes


def test_the_same_seed_gives_the_same_films(manifest: Path, folder: tuple[Path, list[Film]], tmp_path: Path) -> None:
    """However many are asked for; another seed gives others."""
    out, made_films = folder
    again = tmp_path / "again"
    made(manifest, again, train=2, test=0)
    for film in made_films[:2]:
        assert (again / "clips" / film.name).read_bytes() == (out / "clips" / film.name).read_bytes()
    whole = (out / "segments.csv").read_text()
    assert whole.startswith((again / "segments.csv").read_text())
    made(manifest, tmp_path / "other", train=2, test=0, seed=1)
    assert not whole.startswith((tmp_path / "other" / "segments.csv").read_text())


def test_no_source_is_on_both_sides_or_in_two_groups_of_films(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: set[frozenset[tuple[str, str]]] = set()

    class Watched(Sources):
        def __init__(self, clips: list[Clip], *rest: object) -> None:
            super().__init__(clips, *rest)  # type: ignore[arg-type]
            pools.add(frozenset((clip.split, clip.group) for clip in clips))

    monkeypatch.setattr(films, "GROUPS_OF_A_FILM", 2)
    monkeypatch.setattr(films, "Sources", Watched)
    made_films = made(manifest, tmp_path / "made")
    assert {film.group for film in made_films} == {"train-00", "train-01", "test-00", "test-01"}
    assert sum(len(each) for each in pools) == len({group for each in pools for _, group in each}) == GROUPS
    assert all(len({side for side, _ in each}) == 1 for each in pools)
    kept, held = hold_out([clip for clip in read(tmp_path / "made" / "manifest.csv") if clip.split == "train"], 0.3, 0)
    assert {clip.group for clip in kept}.isdisjoint(clip.group for clip in held)


def test_a_broken_source_is_left_out_and_named(folder: tuple[Path, list[Film]], manifest: Path, tmp_path: Path) -> None:
    _, made_films = folder
    [fault] = {fault for film in made_films for fault in film.faults}
    assert "1-0.mp4: not_a_video" in fault
    said = io.StringIO()
    synthesise(manifest, "part", tmp_path / "made", 3, 0, 0, Console(file=said))
    assert f"left out: {manifest.parent}/1-0.mp4" in said.getvalue()


def test_too_few_sources_left_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    manifest = footage.manifest(tmp_path, "a.mp4,a,1,train", "b.mp4,a,2,train")
    with pytest.raises(DatasetError, match=r"fewer than 2 groups .*not_a_video.*models check"):
        made(manifest, tmp_path / "made", train=1, test=0)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "manifest.csv"}


def test_what_can_not_be_made_is_said_before_anything_is_decoded(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ask for at least one"):
        made(manifest, tmp_path / "none", train=0, test=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DatasetError, match=r"full is there already and not empty; remove it, or name another"):
        made(manifest, tmp_path / "full")
    one = footage.manifest(tmp_path, f"{manifest.parent}/0-0.mp4,a,0,test", f"{manifest.parent}/1-1.mp4,a,1,train")
    with pytest.raises(DatasetError, match=r"train has 1 group\(s\).*ask for --films 0"):
        made(one, tmp_path / "made")


def test_neighbours_are_seldom_of_one_group(manifest: Path, pool: DecodePool) -> None:
    """And never the same clip: on 4000 draws."""
    clips = [clip for clip in read(manifest, "part") if clip.split == "test"]
    spec = ClipSpec(sample_fps=25, frame_height=16, frame_width=16)
    sources = Sources(clips, spec, pool, np.random.default_rng(0))
    before, same = None, 0
    for _ in range(4000):
        clip = sources._draw()
        assert clip is not before
        same += before is not None and clip.group == before.group
        sources._before = before = clip
    assert same / 4000 == pytest.approx(SAME_GROUP, abs=0.01)


def test_a_part_of_a_clip_is_neighbouring_frames_of_it(tmp_path: Path, pool: DecodePool) -> None:
    """The last ones where it is short."""
    clips = [Clip(footage.film(tmp_path / f"{scene}.mp4", scene), "a", str(scene), "train") for scene in range(2)]
    spec = ClipSpec(sample_fps=25, frame_height=72, frame_width=96)
    whole = np.stack([decoded(pool, clip.path, Fraction(25), 72, 96) for clip in clips])
    sources = Sources(clips, spec, pool, np.random.default_rng(0))
    for _ in range(8):
        part = sources.take(10)
        places = [(part == frames[start : start + 10]).all() for frames in whole for start in range(21)]
        assert len(part) == 10
        assert any(places)
    assert len(sources.take(100)) == 30


def test_the_command_makes_a_folder_or_says_one_line(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    flags = ["--data", str(manifest), "--split", "part", "--films", "0", "--test-films", "1", "--seed", "5"]
    command = ["synthesise", "shots", *flags, "--out", str(out)]
    done = CliRunner().invoke(commands.app, command)
    assert done.exit_code == 0, done.output
    assert "1 films" in done.output
    assert [row["path"] for row in rows(out / "manifest.csv")] == ["test-0000.mp4"]
    again = CliRunner().invoke(commands.app, command)
    assert again.exit_code == 1
    assert "is there already and not empty" in again.output.replace("\n", " ")
