"""Frame models whose ticks are the frames themselves, on a real server: segments are at the frames' own times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.dataset as ds
import pytest

from service.bundle import ModelDocument, read_document
from service.jobs.items import Item, Row
from service.jobs.job import Options
from service.jobs.predictor import Predictor
from service.jobs.ray_stages import Decode, Join, Score, Task
from service.jobs.remote import Remote
from service.jobs.sink import open_sink
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool
from service.video.spec import ClipSpec
from tests.bundles import copy_of_the_zoo, on_the_zoo_s_encoder
from tests.drawn import Drawn, draw, serving_frames
from tests.server import Server, serve
from tests.service.api.test_frame_models import LABELS, MP4, ask, flat, head_of_colours

SHOWN = (("red", 47), ("blue", 31), ("green", 8), ("blue", 34), ("red", 23))
FRAMES = [colour for colour, count in SHOWN for _ in range(count)]
# Whole clips; windows that overlap, with a remainder; a window a frame.
WINDOWS = {"every": (None, None), "every-sliding": (16, 6), "every-single": (1, 1)}
END_SECONDS = 0.35


def coloured(folder: Path, suffix: str = "mp4", **how: Any) -> Drawn:
    """A colour for some frames, then another: steps of 10 ms to 1.1 s, whole 60 000ths of a second."""
    steps = np.random.default_rng(7).choice([600, 2000, 2002, 2400, 12_000, 66_000], len(FRAMES) - 1) / 60_000
    return draw(
        folder / f"colours.{suffix}", len(FRAMES), width=160, height=120, last_seconds=END_SECONDS,
        timestamps=np.cumsum([0.0, *steps]).tolist(),
        picture=lambda index, width, height: flat(FRAMES[index], width, height), **how,
    )  # fmt: skip


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return coloured(tmp_path_factory.mktemp("coloured"))


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory, document: ModelDocument) -> Path:
    """A frame model for each kind of windows, the same on a grid, and a clip model of frames."""
    folder, head = tmp_path_factory.mktemp("zoo"), head_of_colours(document)
    copy_of_the_zoo(folder, "clip-of-frames", sample_fps=None)
    fields: dict[str, Any] = {"labels": LABELS, "state": (), "score": "softmax", "task": "frame"}
    for name, (window, stride) in WINDOWS.items():
        changed = {"sample_fps": None, "window_frames": window, "stride_frames": stride}
        spec = ClipSpec.model_validate(document.spec.model_dump() | changed)
        on_the_zoo_s_encoder(folder, name, head, spec=spec, **fields)
    on_the_zoo_s_encoder(folder, "grid", head, **fields)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Server]:
    with serve(
        tmp_path_factory.mktemp("server"), models_dir=models_dir, default_model="every", models="all"
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def runs(film: Drawn, start: float = 0.0, end: float = float("inf")) -> list[tuple[str, float, float]]:
    """Label, start and end of each run of colours, by brute force from the times that were drawn."""
    gone = [*film.timestamps[1:], film.timestamps[-1] + END_SECONDS]
    found: list[tuple[str, float, float]] = []
    for frame in serving_frames(film.timestamps, None, start, end, shown_until=gone[-1]):
        if found and found[-1][0] == FRAMES[frame]:
            found[-1] = (found[-1][0], found[-1][1], gone[frame])
        else:
            found.append((FRAMES[frame], film.timestamps[frame], gone[frame]))
    return found


def said(answer: dict[str, Any]) -> list[tuple[str, float, float]]:
    return [(line["label"], line["start_seconds"], line["end_seconds"]) for line in answer["segments"]]


def same(ours: list[tuple[str, float, float]], true: list[tuple[str, float, float]], off_by: float = 1e-6) -> bool:
    """Labels to the letter, times to so many seconds."""
    labels = [label for label, *_ in ours] == [label for label, *_ in true]
    return labels and np.allclose([times for _, *times in ours], [times for _, *times in true], rtol=0, atol=off_by)


@pytest.mark.parametrize("model", WINDOWS)
def test_segments_begin_and_end_with_their_frames(client: httpx.Client, film: Drawn, model: str) -> None:
    answer = ask(client, film.path, model=model)
    assert same(said(answer), runs(film))
    assert len(answer["segments"]) == len(SHOWN)
    receipt = answer["receipt"]
    assert receipt["sample_fps"] is None
    assert receipt["frames_walked"] == receipt["frames_used"] == receipt["ticks"] == len(FRAMES)
    assert (receipt["frames_repeated"], receipt["time_base"]) == (0, "pts")
    assert (receipt["origin_seconds"], receipt["first_seconds"]) == (0.0, 0.0)
    assert receipt["last_seconds"] == pytest.approx(film.timestamps[-1], abs=1e-6)
    assert receipt["ticks_end_seconds"] == pytest.approx(film.timestamps[-1] + END_SECONDS, abs=1e-6)


def test_a_grid_has_other_times(client: httpx.Client, film: Drawn) -> None:
    """And the two don't share features, though they share an encoder."""
    content = film.path.read_bytes()
    answered = client.post("/v1/predict", params={"model": "every,grid"}, content=content, headers=MP4)
    every, grid = answered.json()["results"]
    assert same(said(every), runs(film))
    assert grid["receipt"]["sample_fps"] == 4.0
    assert grid["receipt"]["frames_repeated"] > 0
    assert all((line["start_seconds"] * 4).is_integer() for line in grid["segments"])


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_other_containers_and_frames_that_change_places(client: httpx.Client, tmp_path: Path, suffix: str) -> None:
    """How long the last frame is shown no muxer writes of B-frames at uneven times."""
    film = coloured(tmp_path, suffix, b_frames=2)
    *first, (label, start, end) = said(ask(client, film.path))
    *expected, last = runs(film)
    assert same(first, expected, off_by=6e-4)
    assert (label, start) == pytest.approx((last[0], last[1]), abs=6e-4)
    assert film.timestamps[-1] < end <= last[2] + 6e-4


def test_a_part_of_a_clip(client: httpx.Client, film: Drawn) -> None:
    """From within a run to within another, each in the middle of a frame."""
    at = [(one + other) / 2 for one, other in ((film.timestamps[40], film.timestamps[41]), film.timestamps[90:92])]
    answer = ask(client, film.path, start_seconds=at[0], end_seconds=at[1])
    expected = runs(film, *at)
    assert same(said(answer), expected)
    assert expected[0][1] == film.timestamps[40]
    assert answer["receipt"]["ticks"] == 51
    assert answer["receipt"]["origin_seconds"] == pytest.approx(film.timestamps[40], abs=1e-6)
    assert answer["receipt"]["ticks_end_seconds"] == pytest.approx(film.timestamps[91], abs=1e-6)


def test_features_that_were_kept_have_their_times(client: httpx.Client, film: Drawn) -> None:
    first, again = (ask(client, film.path, end_seconds=5) for _ in range(2))
    assert (first["receipt"].pop("cache"), again["receipt"].pop("cache")) == ("miss", "hit")
    for field in ("predictions", "segments", "receipt", "warnings"):
        assert first[field] == again[field]
    assert same(said(first), runs(film, end=5.0))


def test_a_least_length_is_of_time(client: httpx.Client, film: Drawn) -> None:
    """Of the runs that were drawn only the shortest is absorbed, whatever number of frames it has."""
    lengths = sorted(end - start for _, start, end in runs(film))
    answer = ask(client, film.path, min_segment_seconds=(lengths[0] + lengths[1]) / 2)
    assert len(answer["segments"]) == len(SHOWN) - 2, "both neighbours have one colour"
    whole = ask(client, film.path, min_segment_seconds=lengths[0] - 2e-6)
    assert same(said(whole), runs(film))


def test_cells_of_a_clip_model_are_frames_by_their_own_times(client: httpx.Client, film: Drawn) -> None:
    answer = ask(client, film.path, model="clip-of-frames", window=8, stride=8)
    starts = [line["start_seconds"] for line in answer["segments"]]
    edges = [round(at, 6) for at in film.timestamps[::8]]
    assert set(starts) <= set(edges)
    assert answer["segments"][-1]["end_seconds"] == answer["receipt"]["ticks_end_seconds"]


def test_it_is_shown_and_a_probe_counts_its_frames(client: httpx.Client, film: Drawn) -> None:
    assert client.get("/v1/models/every").json()["model"]["spec"]["sample_fps"] is None
    lines = {line["name"]: line["status"] for line in client.get("/v1/models").json()["models"]}
    assert {lines[name] for name in (*WINDOWS, "grid", "clip-of-frames")} == {"ready"}
    probe = client.post(
        "/v1/probe", params={"model": "every", "full": "true"}, content=film.path.read_bytes(), headers=MP4
    ).json()
    assert probe["cost"]["ticks"] == probe["cost"]["frames_encoded"] == len(FRAMES)
    assert "low_rate" not in [finding["code"] for finding in probe["findings"]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Settings:
    return Settings(
        models_dir=models_dir, default_model="every", spool_dir=tmp_path_factory.mktemp("spool"), feature_cache_bytes=0
    )


@pytest.fixture(scope="module")
def row(settings: Settings, film: Drawn) -> Row:
    """Of a batch, by the local engine."""
    serving = Serving(settings)
    serving.load()
    try:
        spool = Spool(settings.spool_dir, settings.spool_quota_bytes, settings.max_upload_bytes)
        predictor = Predictor(serving, serving.model("every"), Remote(None, spool))
        return predictor(Item("a", str(film.path)))
    finally:
        serving.close()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_rows_of_a_batch_have_the_times_and_no_rate(tmp_path: Path, row: Row, film: Drawn, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with open_sink(path, resume=False, overwrite=False, shard=(0, 1)) as sink:
        sink.append(row)
    with open_sink(path, resume=True, overwrite=False, shard=(0, 1)) as sink:
        [back] = sink.recorded()
    assert back == row
    assert back.receipt is not None
    assert back.receipt.sample_fps is None
    assert same(said(json.loads(back.to_json())), runs(film))
    if suffix == "parquet":
        assert ds.dataset(path).to_table()["receipt"][0]["sample_fps"].as_py() is None


def test_the_stages_of_many_machines_give_the_same_row(settings: Settings, row: Row, film: Drawn) -> None:
    """In pieces, as the clip is longer than one; the times travel with them."""
    spec = read_document(settings.models_dir / "every" / "1" / "model.json", ModelDocument).spec
    task = Task(settings, "every", spec, Options())
    decode, score, join = Decode(task), Score(task), Join(task)
    try:
        item = json.dumps(asdict(Item("a", str(film.path))))
        pieces = [score(piece) for piece in decode({"item": [item], "path": [""]})]
        assert len(pieces) == 2
        joined = [line for piece in reversed(pieces) for line in join(piece)["row"]]
    finally:
        decode._pool.close()
        score._serving.close()
        if join._serving:
            join._serving.close()
    [line] = joined
    assert Row.model_validate_json(line).model_dump(exclude={"timing_ms"}) == row.model_dump(exclude={"timing_ms"})
