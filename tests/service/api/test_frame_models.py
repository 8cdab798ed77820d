"""Many-to-many models on a real server: a label for every tick of a clip whose colour changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from service.bundle import ModelDocument
from service.cli import app
from service.engine.heads import Array
from service.engine.sessions import open_session
from service.results import Prediction
from service.video.spec import ClipSpec
from tests.bundles import copy_of_the_zoo, on_the_zoo_s_encoder
from tests.drawn import Image, draw, serving_frames
from tests.server import Server, problem, serve
from tests.service.engine.graphs import linear
from tests.zoo import ZOO

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}
LABELS = tuple(COLOURS)
# Frames of each colour: at 25 frames and 4 ticks a second no change lies on a multiple of any stride below.
SHOWN = (("red", 57), ("blue", 31), ("green", 8), ("blue", 64), ("red", 103))
FRAMES = [colour for colour, count in SHOWN for _ in range(count)]
MP4 = {"Content-Type": "video/mp4"}
# Whole clips; windows that overlap, with a remainder; windows side by side; a window a tick.
WINDOWS = {"whole": (None, None), "sliding": (16, 6), "tiled": (9, 9), "single": (1, 1)}


def flat(colour: str, width: int, height: int) -> Image:
    return np.broadcast_to(np.array(COLOURS[colour], np.uint8), (height, width, 3))


@dataclass(frozen=True)
class Coloured:
    """The clip, and the colour that each tick of its grid shows."""

    path: Path
    timestamps: tuple[float, ...]
    serving: list[int]
    sample_fps: float

    @property
    def colours(self) -> list[str]:
        return [FRAMES[frame] for frame in self.serving]

    def runs(self) -> list[tuple[str, float]]:
        """Label and start of each run of ticks, by brute force."""
        return [
            (colour, tick / self.sample_fps)
            for tick, colour in enumerate(self.colours)
            if tick == 0 or self.colours[tick - 1] != colour
        ]

    @property
    def end_seconds(self) -> float:
        return self.timestamps[self.serving[-1]] + 1 / self.sample_fps


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory, document: ModelDocument) -> Coloured:
    drawn = draw(
        tmp_path_factory.mktemp("coloured") / "colours.mp4", len(FRAMES), width=160, height=120,
        picture=lambda index, width, height: flat(FRAMES[index], width, height),
    )  # fmt: skip
    sample_fps = document.spec.sample_fps
    assert sample_fps is not None
    return Coloured(drawn.path, drawn.timestamps, serving_frames(drawn.timestamps, sample_fps), sample_fps)


def head_of_colours(document: ModelDocument) -> bytes:
    """A head whose best label is the colour with the nearest features: -½ |f - m|² without its |f|²."""
    encoder = open_session(ZOO / "encoders" / document.encoder.name / "encoder.onnx", "onnxruntime-cpu")
    height, width = document.spec.frame_height, document.spec.frame_width
    frames = np.stack([flat(colour, width, height) for colour in LABELS])
    means: Array = encoder.run(["features"], {"frames": frames})[0]
    return linear(np.ascontiguousarray(means.T), -0.5 * (means**2).sum(axis=1), poison=np.nan)


@pytest.fixture(scope="module")
def nearest_colour(document: ModelDocument) -> bytes:
    return head_of_colours(document)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, document: ModelDocument, nearest_colour: bytes
) -> Iterator[tuple[Server, Path]]:
    """A frame model for each kind of windows, the trained clip model, and two that no one can serve."""
    models_dir = tmp_path_factory.mktemp("zoo")
    copy_of_the_zoo(models_dir, "actions-lstm")
    fields: dict[str, Any] = {"labels": LABELS, "state": (), "score": "softmax"}
    for name, (window, stride) in WINDOWS.items():
        spec = ClipSpec.model_validate(document.spec.model_dump() | {"window_frames": window, "stride_frames": stride})
        on_the_zoo_s_encoder(models_dir, name, nearest_colour, task="frame", spec=spec, **fields)
    on_the_zoo_s_encoder(models_dir, "not-a-clip-head", nearest_colour, task="clip", **fields)
    weight = np.zeros((7, len(LABELS)), np.float32)
    on_the_zoo_s_encoder(models_dir, "other-features", linear(weight, weight[0]), task="frame", **fields)
    folder = tmp_path_factory.mktemp("server")
    models = {"models": "all", "default_model": "sliding"}
    with serve(folder, models_dir=models_dir, feature_cache_bytes=0, **models) as running:
        yield running, models_dir


@pytest.fixture
def client(server: tuple[Server, Path]) -> Iterator[httpx.Client]:
    with server[0].client() as opened:
        yield opened


def ask(client: httpx.Client, clip: Path, **query: object) -> dict[str, Any]:
    params = {name: str(value) for name, value in query.items()}
    response = client.post("/v1/predict", params=params, content=clip.read_bytes(), headers=MP4)
    assert response.status_code == httpx.codes.OK, response.text
    Prediction.model_validate(response.json(), extra="forbid")
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("model", WINDOWS)
def test_segments_are_runs_of_ticks(client: httpx.Client, coloured: Coloured, model: str) -> None:
    answer = ask(client, coloured.path, model=model)
    assert answer["model"]["task"] == "frame"
    runs = coloured.runs()
    assert len(runs) == len(SHOWN)
    assert [(line["label"], line["start_seconds"]) for line in answer["segments"]] == runs
    ends = [line["end_seconds"] for line in answer["segments"]]
    assert ends[:-1] == [start for _, start in runs[1:]]
    assert ends[-1] == answer["receipt"]["ticks_end_seconds"]
    assert all(line["score"] > 0.9 for line in answer["segments"])


@pytest.mark.parametrize("model", WINDOWS)
def test_predictions_are_the_mean_over_ticks(client: httpx.Client, coloured: Coloured, model: str) -> None:
    """Every tick is nearly certain of its colour: a label's score is its share of the ticks."""
    answer = ask(client, coloured.path, model=model)
    colours = coloured.colours
    share = {colour: colours.count(colour) / len(colours) for colour in LABELS}
    scores = {line["label"]: line["score"] for line in answer["predictions"]}
    assert scores == pytest.approx(share, abs=0.02)
    assert list(scores) == sorted(share, key=lambda colour: -share[colour])


def test_ticks_agree_whatever_the_windows(client: httpx.Client, coloured: Coloured) -> None:
    """This head looks at single ticks: windows and their overlaps must leave no trace."""
    answers = [ask(client, coloured.path, model=model) for model in WINDOWS]
    for field in ("predictions", "segments"):
        for answer in answers[1:]:
            for line, other in zip(answer[field], answers[0][field], strict=True):
                assert line == pytest.approx(other, abs=2e-6)


def test_a_part_of_a_clip(client: httpx.Client, coloured: Coloured) -> None:
    answer = ask(client, coloured.path, start_seconds=2.1, end_seconds=3.9)
    serving = serving_frames(coloured.timestamps, coloured.sample_fps, 2.1, 3.9)
    assert len(serving) == 8, "shorter than a window"
    colours = [FRAMES[frame] for frame in serving]
    starts = [tick for tick in range(8) if tick == 0 or colours[tick] != colours[tick - 1]]
    assert [line["label"] for line in answer["segments"]] == [colours[tick] for tick in starts]
    assert [line["start_seconds"] for line in answer["segments"]] == pytest.approx(
        [2.1 + tick / coloured.sample_fps for tick in starts], abs=2e-6
    )


def test_the_command_line_gives_the_server_s_answer(
    server: tuple[Server, Path], client: httpx.Client, coloured: Coloured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELSERVE_MODELS_DIR", str(server[1]))
    monkeypatch.setenv("REELSERVE_FEATURE_CACHE_BYTES", "0")
    result = CliRunner().invoke(app, ["predict", "--json", "--top-k", "5", "--model", "sliding", str(coloured.path)])
    assert result.exit_code == 0, result.output
    line, answer = json.loads(result.stdout), ask(client, coloured.path)
    for field in ("model", "predictions", "segments", "receipt", "warnings"):
        assert line[field] == answer[field]


def test_frame_models_are_listed_and_shown(client: httpx.Client) -> None:
    lines = {line["name"]: line for line in client.get("/v1/models").json()["models"]}
    assert {name for name, line in lines.items() if line["task"] == "frame"} == set(WINDOWS)
    assert all(lines[name]["status"] == "ready" for name in (*WINDOWS, "actions-lstm"))
    assert client.get("/v1/models/whole").json()["model"]["task"] == "frame"


def test_a_probe_speaks_of_a_frame_model(client: httpx.Client, coloured: Coloured) -> None:
    probe = client.post("/v1/probe", params={"model": "whole"}, content=coloured.path.read_bytes(), headers=MP4).json()
    assert probe["model"] == "whole"
    assert probe["cost"] is not None


def test_a_head_of_another_task_is_refused(client: httpx.Client, coloured: Coloured) -> None:
    [line] = [line for line in client.get("/v1/models").json()["models"] if line["name"] == "not-a-clip-head"]
    assert line["status"] == "refused"
    assert "output 'outputs' of head.onnx is float (batch, time, 3)" in line["reason"]
    assert "(task clip, 3 labels) needs float (any, 3)" in line["reason"]
    response = client.post(
        "/v1/predict", params={"model": "not-a-clip-head"}, content=coloured.path.read_bytes(), headers=MP4
    )
    assert "export the bundle again" in problem(response, 404, "model_refused")["detail"]


def test_a_head_on_other_features_is_refused(client: httpx.Client) -> None:
    """model.json does not say how many: the warm-up finds it."""
    [line] = [line for line in client.get("/v1/models").json()["models"] if line["name"] == "other-features"]
    assert line["status"] == "refused"
    assert "it does not load" in line["reason"]


def test_a_clip_model_beside_frame_models_answers_as_ever(client: httpx.Client, coloured: Coloured) -> None:
    answer = ask(client, coloured.path, model="actions-lstm")
    assert answer["model"]["task"] == "clip"
    # Its cells have eight ticks, a frame model's one.
    assert all(line["start_seconds"] * coloured.sample_fps % 8 == 0 for line in answer["segments"])
