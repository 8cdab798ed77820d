"""A server of some of its models: what it says of the others, and what memory it counts; and one with too little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import copy_of_the_zoo, on_another_encoder
from tests.drawn import Drawn
from tests.server import MIB, Server, problem, serve, wait_until
from tests.zoo import DOCUMENT, TRAINED

MP4 = {"Content-Type": "video/mp4"}
LEFT_OUT = (
    f"model other {TRAINED.name} exists and is not loaded: the setting models leaves it out; "
    "REELSERVE_MODELS=a,b,other loads it"
)
ENCODER = f'reelserve_encoder_memory_bytes{{encoder="{DOCUMENT.encoder.name}",runtime="onnxruntime-cpu"}}'
# A process with one encoder on one thread takes some 260 MiB, and keeps 64 for a clip: a head more fits, another
# encoder (100 MiB) does not.
LIMIT_BYTES = 375 * MIB
SMALL: dict[str, Any] = {"encoder_threads": 1, "max_clips_in_progress": 1}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a`, the default, and `b` on one encoder, `other` on another."""
    models_dir = tmp_path_factory.mktemp("zoo")
    for name in ("a", "b"):
        copy_of_the_zoo(models_dir, name)
    on_another_encoder(models_dir, "other")
    (models_dir / "default").write_text("a\n")
    return models_dir


@pytest.fixture(scope="module")
def two(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("two"), models_dir=zoo, models="a,b/1", encoder_threads=1) as running:
        yield running


@pytest.fixture
def client(two: Server) -> Iterator[httpx.Client]:
    with two.client() as opened:
        yield opened


def test_a_model_that_is_not_loaded_is_told_from_one_that_is_not_there(client: httpx.Client, clip: Drawn) -> None:
    content = clip.path.read_bytes()
    answers = [
        client.post(f"/v1/{route}", params={"model": "other"}, content=content, headers=MP4)
        for route in ("predict", "probe")
    ]
    answers += [
        client.post("/v1/predict", files={"video": content}, data={"model": "other"}),
        client.post("/v1/predict", params={"model": "a,other"}, content=content, headers=MP4),
        client.post("/v1/jobs", json={"model": "other", "items": [{"uri": "s3://bucket/clip.mp4"}]}),
        client.get("/v1/models/other"),
    ]
    for answer in answers:
        body = problem(answer, 404, "model_not_loaded")
        assert (body["detail"], body["value"]) == (LEFT_OUT, "other")
    problem(client.get("/v1/models/another"), 404, "unknown_model")


def test_those_that_are_loaded_answer(client: httpx.Client, clip: Drawn) -> None:
    content = clip.path.read_bytes()
    for asked, name in (({}, "a"), ({"model": "b"}, "b"), ({"model": "b/1"}, "b")):
        answer = client.post("/v1/predict", params=asked, content=content, headers=MP4)
        assert answer.json()["model"]["name"] == name


def test_the_list_has_all_models(client: httpx.Client) -> None:
    said = client.get("/v1/models").json()
    assert said["default_model"] == "a"
    lines = {line["name"]: line for line in said["models"]}
    assert {name: line["status"] for name, line in lines.items()} == {"a": "ready", "b": "ready", "other": "not_loaded"}
    assert lines["other"]["reason"] == "the setting models leaves it out"
    assert [lines[name]["encoder_loaded"] for name in ("a", "b", "other")] == [True, True, False]
    assert lines["a"]["encoder_memory_bytes"] == lines["b"]["encoder_memory_bytes"]
    for line in lines.values():
        assert line["encoder_memory_bytes"] > line["disk_bytes"] > line["head_memory_bytes"] > 0


def test_memory_is_counted_by_encoder(two: Server, client: httpx.Client) -> None:
    samples = two.samples()
    lines = {line["name"]: line for line in client.get("/v1/models").json()["models"]}
    measured = {name: value for name, value in samples.items() if "_memory_bytes{" in name and "reelserve_" in name}
    assert measured == {
        ENCODER: lines["a"]["encoder_memory_bytes"],
        'reelserve_model_memory_bytes{model="a"}': lines["a"]["head_memory_bytes"],
        'reelserve_model_memory_bytes{model="b"}': lines["b"]["head_memory_bytes"],
    }
    assert samples["reelserve_models_loaded"] == 2
    assert 0 < samples["reelserve_memory_used_bytes"] < samples["reelserve_memory_limit_bytes"]


def test_openapi_has_the_code(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v1/predict", "/v1/probe", "/v1/jobs"):
        assert "`model_not_loaded`" in paths[path]["post"]["responses"]["404"]["description"]
    assert 'id="model_not_loaded"' in client.get("/docs/errors").text


def test_too_little_memory_for_another_encoder(zoo: Path, tmp_path: Path, clip: Drawn) -> None:
    with (
        serve(tmp_path, models_dir=zoo, models="all", memory_limit_bytes=LIMIT_BYTES, **SMALL) as server,
        server.client() as client,
    ):
        lines = {line["name"]: line for line in client.get("/v1/models").json()["models"]}
        assert [lines[name]["status"] for name in ("a", "b", "other")] == ["ready", "ready", "not_loaded"]
        assert "it would not fit into memory: it needs " in lines["other"]["reason"]
        assert "the limit is 375.0 MiB (the setting memory_limit_bytes)" in lines["other"]["reason"]
        content = clip.path.read_bytes()
        answer = client.post("/v1/predict", params={"model": "other"}, content=content, headers=MP4)
        assert lines["other"]["reason"] in problem(answer, 404, "model_not_loaded")["detail"]
        answer = client.post("/v1/predict", params={"model": "a,b"}, content=content, headers=MP4)
        assert [each["model"]["name"] for each in answer.json()["results"]] == ["a", "b"]
        assert server.samples()["reelserve_memory_limit_bytes"] == LIMIT_BYTES


def test_one_that_was_named_keeps_the_server_unready(zoo: Path, tmp_path: Path, clip: Drawn) -> None:
    wanted: dict[str, Any] = {"models_dir": zoo, "models": "a,other", "memory_limit_bytes": LIMIT_BYTES}
    with (
        serve(tmp_path, "/livez", **wanted, **SMALL) as server,
        server.client() as client,
    ):
        wait_until(lambda: "other" in client.get("/readyz").json().get("detail", ""), "the end of loading")
        detail = problem(client.get("/readyz"), 503, "not_ready")["detail"]
        assert detail.startswith("other of the setting models is not loaded: it would not fit into memory: it needs ")
        answer = client.post("/v1/predict", content=clip.path.read_bytes(), headers=MP4)
        assert answer.json()["model"]["name"] == "a"
