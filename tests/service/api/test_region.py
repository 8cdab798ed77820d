"""`region` over HTTP, in a batch and on the command line: a part of the picture is seen, and the receipt says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import app
from tests.drawn import draw
from tests.zoo import MODEL

PATH = "/v1/predict"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("region") / "wide.mp4", num_frames=20, width=320, height=180).path


def asked(client: httpx.Client, path: Path, **query: object) -> httpx.Response:
    params = {name: str(value) for name, value in query.items()}
    return client.post(PATH, params=params, content=path.read_bytes(), headers={"Content-Type": "video/mp4"})


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {each["label"]: each["score"] for each in answer["predictions"]}


def test_a_part_is_looked_at_alone(client: httpx.Client, wide: Path) -> None:
    whole, centre, part, same = (
        asked(client, wide, top_k=100, **query).raise_for_status().json()
        for query in ({}, {"region": "70,0,180,180"}, {"region": "0,0,80,90"}, {"region": "0,0,0.25,0.5"})
    )
    assert whole["receipt"]["region"] is None
    assert centre["receipt"]["region"] == "70,0,180,180"
    assert scores(centre) == scores(whole), "the model's crop takes the centre"
    assert part["receipt"]["region"] == same["receipt"]["region"] == "0,0,80,90"
    assert scores(part) == scores(same) != scores(whole)
    assert part["receipt"]["width"] == 320
    assert whole["warnings"] == []
    [warning] = part["warnings"]
    assert warning.startswith("the region 0,0,80,90, where the model was trained on whole pictures: ")


@pytest.mark.parametrize(
    ("region", "status", "code", "said"),
    [
        ("0,0,321,180", 422, "region_outside", "which is 320 x 180 pixels upright"),
        ("0,0,0,5", 400, "bad_parameter", "region 0,0,0,5 is empty"),
        ("0.5,0,0.6,1", 400, "bad_parameter", "goes beyond 1"),
        ("left half", 400, "bad_parameter", "region"),
        ("1,2,3", 400, "bad_parameter", "region"),
    ],
)
def test_a_region_that_is_none(
    client: httpx.Client, wide: Path, region: str, status: int, code: str, said: str
) -> None:
    answer = asked(client, wide, region=region)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert said in problem["detail"]


def test_the_command_line_and_a_batch_take_it(client: httpx.Client, wide: Path, tmp_path: Path) -> None:
    online = asked(client, wide, region="0,0,80,90").json()
    run = CliRunner().invoke
    one = run(app, ["predict", "--json", "--model", MODEL, "--region", "0,0,80,90", str(wide)])
    assert one.exit_code == 0, one.output
    out = tmp_path / "out.jsonl"
    many = run(app, ["batch", str(wide), "--model", MODEL, "--region", "0,0,0.25,0.5", "--out", str(out)])
    assert many.exit_code == 0, many.output
    for answer in (json.loads(one.stdout), json.loads(out.read_text())):
        assert answer["receipt"]["region"] == "0,0,80,90"
        for label, score in scores(answer).items():
            assert score == pytest.approx(scores(online)[label], abs=1e-5)
