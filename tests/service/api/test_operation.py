"""What the operator sees: health, metrics, models, documentation, and a server with models that it must refuse."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.bundle import ModelDocument
from service.fairness import Priority
from tests.bundles import copy_of_the_zoo, flip_a_byte, swap_labels
from tests.drawn import Drawn, serving_frames
from tests.server import Server, problem, serve, wait_until
from tests.zoo import MODEL, ZOO

STAGES = ("upload", "probe", "decode", "queue", "encode", "head", "post", "total")
MP4 = {"Content-Type": "video/mp4"}


def test_health(client: httpx.Client) -> None:
    for path, status in (("/livez", "ok"), ("/readyz", "ready"), ("/healthz", "ready")):
        response = client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": status})


def test_metrics_count_predictions(server: Server, client: httpx.Client, clip: Drawn, document: ModelDocument) -> None:
    frames = len(set(serving_frames(clip.timestamps, document.spec.sample_fps)))
    before = server.samples()
    for _ in range(3):
        assert client.post("/v1/predict", content=clip.path.read_bytes(), headers=MP4).status_code == 200
    after = server.samples()

    def growth(name: str) -> float:
        return after[name] - before.get(name, 0)

    for stage in STAGES:
        assert growth(f'reelserve_stage_seconds_count{{stage="{stage}"}}') == 3
        assert growth(f'reelserve_stage_seconds_sum{{stage="{stage}"}}') >= 0
        assert growth(f'reelserve_stage_seconds_bucket{{le="+Inf",stage="{stage}"}}') == 3
    assert growth('reelserve_requests_total{route="/v1/predict",status="200"}') == 3
    assert growth("reelserve_encode_batch_frames_sum") == 3 * frames
    assert after["reelserve_models_loaded"] == 1
    assert after["reelserve_requests_in_flight"] == 0
    assert after["reelserve_spool_bytes"] == 0
    assert {after[f'reelserve_encode_queue_frames{{priority="{p.name.lower()}"}}'] for p in Priority} == {0}


def test_every_metric_has_our_prefix_and_a_help_line(client: httpx.Client) -> None:
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    ours = [f for f in text_string_to_metric_families(response.text) if f.name.startswith("reelserve_")]
    assert {"reelserve_requests", "reelserve_stage_seconds", "reelserve_models_loaded"} <= {f.name for f in ours}
    assert all(family.documentation for family in ours)


def test_requests_are_counted_by_template(server: Server, client: httpx.Client) -> None:
    """A path of its own for each would be a new series each."""
    client.get(f"/v1/models/{MODEL}")
    client.get("/v1/models/made-up-name")
    client.get("/made-up-path")
    counted = [name for name in server.samples() if name.startswith("reelserve_requests_total")]
    assert not any("made-up" in name or MODEL in name for name in counted)
    assert {
        'reelserve_requests_total{route="/v1/models/{name}",status="200"}',
        'reelserve_requests_total{route="/v1/models/{name}",status="404"}',
        'reelserve_requests_total{route="unmatched",status="404"}',
    } <= set(counted)


def test_models(client: httpx.Client, document: ModelDocument) -> None:
    listed = client.get("/v1/models").json()
    [line] = [line for line in listed["models"] if line["name"] == MODEL]
    graphs = (ZOO / MODEL / document.version / "head.onnx", ZOO / "encoders" / document.encoder.name / "encoder.onnx")
    assert line["encoder_memory_bytes"] > line["head_memory_bytes"] > 0
    assert listed["default_model"] == MODEL
    assert line == {
        "name": MODEL,
        "version": document.version,
        "status": "ready",
        "reason": None,
        "sha256": client.get(f"/v1/models/{MODEL}").json()["sha256"],
        "task": document.task,
        "labels": list(document.labels),
        "runtime": "onnxruntime-cpu",
        "precision": "fp32",
        "encoder": document.encoder.name,
        "encoder_loaded": True,
        "disk_bytes": sum(path.stat().st_size for path in graphs),
        "head_memory_bytes": line["head_memory_bytes"],
        "encoder_memory_bytes": line["encoder_memory_bytes"],
    }
    others = {path.parents[1].name for path in ZOO.glob("*/*/model.json")} - {MODEL}
    assert {line["name"]: line["status"] for line in listed["models"]} == {
        MODEL: "ready", **dict.fromkeys(others, "not_loaded")
    }  # fmt: skip


def test_one_model(client: httpx.Client, document: ModelDocument) -> None:
    shown = client.get(f"/v1/models/{MODEL}").json()
    assert ModelDocument.model_validate(shown["model"]) == document
    assert shown["certificate"]["passed"]
    assert shown["certificate"]["subjects"]["model_json"] == shown["sha256"]
    assert (shown["runtime"], shown["precision"]) == ("onnxruntime-cpu", "fp32")


def test_an_unknown_model(client: httpx.Client) -> None:
    body = problem(client.get("/v1/models/no-such"), 404, "unknown_model")
    assert "'no-such'" in body["detail"]
    assert MODEL in body["detail"]


def test_the_root_leads_to_the_documentation(client: httpx.Client) -> None:
    response = client.get("/", follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/docs")


def test_the_documentation_works_offline(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"(https?:)?//[a-z0-9]", page.text), "an address outside"
    assets = re.findall(r"(?:src|href)=[\"']([^\"']+)", page.text)
    assert {Path(asset).suffix for asset in assets} >= {".js", ".css"}
    for asset in assets:
        assert asset.startswith("/")
        response = client.get(asset)
        assert response.status_code == 200
        assert response.content
        if asset.endswith(".css"):
            assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", response.text)


@dataclass(frozen=True)
class Boot:
    """A server whose default model is refused, and what it answered while the last one still loaded."""

    server: Server
    while_loading: dict[str, httpx.Response]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boot]:
    """Bundles: `a-flipped` (the default), `b-swapped`, and `c-good`, whose certificate is a pipe: the server waits
    for it as it would for a slow disk, until the test writes into it."""
    models_dir = tmp_path_factory.mktemp("zoo")
    flip_a_byte(copy_of_the_zoo(models_dir, "a-flipped") / "head.onnx")
    swap_labels(copy_of_the_zoo(models_dir, "b-swapped"))
    pipe = copy_of_the_zoo(models_dir, "c-good") / "certificate.json"
    certificate = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)
    settings = {"models_dir": models_dir, "models": "all", "default_model": "a-flipped"}
    with serve(tmp_path_factory.mktemp("refusing"), "/livez", **settings) as server, server.client() as client:
        answers = {path: client.get(path) for path in ("/livez", "/readyz", "/healthz", "/v1/models")}
        answers["/v1/predict"] = client.post("/v1/predict", content=b"clip", headers=MP4)
        pipe.write_bytes(certificate)
        wait_until(lambda: "refused" in client.get("/readyz").json()["detail"], "the end of loading")
        yield Boot(server, answers)


def test_a_loading_server_is_alive_and_not_ready(refusing: Boot) -> None:
    answers = refusing.while_loading
    assert answers["/livez"].status_code == 200
    for path in ("/readyz", "/healthz", "/v1/predict"):
        assert "loaded and warmed up" in problem(answers[path], 503, "not_ready")["detail"]
        assert int(answers[path].headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_a_refused_default_model_keeps_the_server_unready(refusing: Boot, path: str) -> None:
    with refusing.server.client() as client:
        assert client.get("/livez").status_code == 200
        detail = problem(client.get(path), 503, "not_ready")["detail"]
    assert "default_model a-flipped is refused" in detail
    assert "head.onnx does not match the certificate" in detail


def test_refused_models_are_shown_with_the_reason(refusing: Boot) -> None:
    with refusing.server.client() as client:
        lines = {line["name"]: line for line in client.get("/v1/models").json()["models"]}
    assert {name: line["status"] for name, line in lines.items()} == {
        "a-flipped": "refused",
        "b-swapped": "refused",
        "c-good": "ready",
    }
    assert "head.onnx does not match" in lines["a-flipped"]["reason"]
    assert "model.json does not match" in lines["b-swapped"]["reason"]
    assert lines["c-good"]["reason"] is None


@pytest.mark.parametrize(
    ("query", "words"),
    [({}, "head.onnx does not match"), ({"model": "b-swapped"}, "model.json does not match")],
    ids=["default", "named"],
)
def test_a_refused_model_predicts_nothing(refusing: Boot, clip: Drawn, query: dict[str, str], words: str) -> None:
    with refusing.server.client() as client:
        response = client.post("/v1/predict", params=query, content=clip.path.read_bytes(), headers=MP4)
    assert words in problem(response, 404, "model_refused")["detail"]
    refusing.server.assert_spool_is_empty()


def test_a_good_model_beside_refused_ones_answers(refusing: Boot, clip: Drawn) -> None:
    with refusing.server.client() as client:
        response = client.post("/v1/predict", params={"model": "c-good"}, content=clip.path.read_bytes(), headers=MP4)
    assert response.json()["model"]["name"] == "c-good"


def test_a_server_without_models(tmp_path: Path, clip: Drawn) -> None:
    (tmp_path / "zoo").mkdir()
    with serve(tmp_path, "/livez", models_dir=tmp_path / "zoo") as server, server.client() as client:
        wait_until(lambda: "no bundle is there" in client.get("/readyz").json()["detail"], "the end of loading")
        problem(client.get("/readyz"), 503, "not_ready")
        assert client.get("/v1/models").json() == {"default_model": None, "models": []}
        response = client.post("/v1/predict", content=clip.path.read_bytes(), headers=MP4)
        assert "no bundle is there" in problem(response, 503, "not_ready")["detail"]
        assert client.get("/livez").status_code == 200
