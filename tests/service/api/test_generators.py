"""Generators and validators of others, over a real server: `python -m tests.generators` is the long version."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import generators
from tests.drawn import Drawn, draw
from tests.real_clips import real_clip
from tests.server import Server, serve, wait_until

EXAMPLES = 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def small_clip(folder: Path) -> Drawn:
    return draw(folder / "small clip.mp4", num_frames=20, width=64, height=48)


@pytest.fixture(scope="module")
def asked(folder: Path, small_clip: Drawn) -> Iterator[Server]:
    """A server whose jobs may fetch the clip."""
    with serve(folder, job_uri_prefixes=small_clip.path.parent.as_uri()) as server:
        yield server


@dataclass(frozen=True)
class Generated:
    """The package that openapi-python-client made of a server's /openapi.json, and a client of that server."""

    client: Any

    def __getattr__(self, path: str) -> Any:
        """A module of the package: `api__predict__predict`, `models`, `types`."""
        return importlib.import_module(f"{generators.PACKAGE}.{path.replace('__', '.')}")


@pytest.fixture(scope="module")
def generated(asked: Server, folder: Path) -> Iterator[Generated]:
    """It warns of nothing, or this fails."""
    generators.generate_client(asked.url, folder)
    sys.path.insert(0, str(folder))
    try:
        package = importlib.import_module(generators.PACKAGE)
        with package.Client(base_url=asked.url) as client:
            yield Generated(client)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == generators.PACKAGE]:
            del sys.modules[name]


def test_the_validator(asked: Server, folder: Path) -> None:
    assert generators.validate(asked.url, folder).endswith("openapi.json: OK")


def test_a_generated_client_predicts(generated: Generated, asked: Server) -> None:
    clip = real_clip("bikes.mp4")
    with asked.client() as http:
        raw = http.post("/v1/predict?top_k=3", files={"video": clip.read_bytes()}).json()
    with clip.open("rb") as payload:
        form = generated.models.PredictForm(video=generated.types.File(payload, clip.name, "video/mp4"))
        response = generated.api__predict__predict.sync_detailed(client=generated.client, body=form, top_k=3)
    answer = response.parsed
    assert isinstance(answer, generated.models.Prediction)
    assert [(said.label, said.score) for said in answer.predictions] == [
        (said["label"], said["score"]) for said in raw["predictions"]
    ]
    assert answer.receipt.to_dict() | {"cache": ""} == raw["receipt"] | {"cache": ""}
    assert answer.timing_ms.total > 0
    assert "decode;dur=" in response.headers["server-timing"]


def test_a_generated_client_sends_the_raw_body(generated: Generated, small_clip: Drawn) -> None:
    with small_clip.path.open("rb") as payload:
        body = generated.types.File(payload)
        answer = generated.api__probe__probe.sync(client=generated.client, body=body, full=True)
    assert isinstance(answer, generated.models.ProbeAnswer)
    assert answer.video.walk.num_frames == len(small_clip.timestamps)


def test_a_generated_client_reads_a_problem(generated: Generated, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("This is not a video.")
    with bad.open("rb") as payload:
        form = generated.models.PredictForm(video=generated.types.File(payload, bad.name))
        response = generated.api__predict__predict.sync_detailed(client=generated.client, body=form)
    assert response.status_code == 422
    problem = response.parsed
    assert isinstance(problem, generated.models.Problem)
    assert (problem.code, problem.type_) == ("not_a_video", "/docs/errors#not_a_video")
    assert problem.request_id == response.headers["x-request-id"]


def ended(generated: Generated, job_id: str) -> bool:
    job = generated.api__jobs__get_job.sync(job_id, client=generated.client)
    return job.finished is not None


def test_a_generated_client_has_clips_done_as_a_job(generated: Generated, small_clip: Drawn) -> None:
    """By their URI, in a body of JSON, and as files: what one sends in the other's place would be refused."""
    models, jobs = generated.models, generated.api__jobs__create_job
    by_uri = models.JobRequest(items=[models.ItemRequest(uri=small_clip.path.as_uri())], top_k=1)
    with small_clip.path.open("rb") as payload:
        by_upload = models.ClipsForm(video=[generated.types.File(payload, "a.mp4"), generated.types.File(payload, "b")])
        made = [
            jobs.sync(client=generated.client, body=by_uri),
            jobs.sync(client=generated.client, body=by_upload, top_k=1),
        ]
    for job in made:
        assert isinstance(job, models.JobStatus), job
        wait_until(partial(ended, generated, job.id), "the job")
        text = generated.api__jobs__get_job_results.sync(job.id, client=generated.client)
        rows = [models.Row.from_dict(json.loads(line)) for line in text.splitlines()]
        assert len(rows) == job.num_items
        assert len(rows[0].predictions) == 1
    refused = models.JobRequest(items=[models.ItemRequest(uri="file:///etc/hostname")])
    assert jobs.sync(client=generated.client, body=refused).code == "uri_not_allowed"


def test_schemathesis_finds_nothing(asked: Server, small_clip: Drawn, folder: Path) -> None:
    """All checks in all phases; the exceptions are in schemathesis.toml, each with its reason."""
    said = generators.schemathesis(asked.url, small_clip.path, folder, examples=EXAMPLES, seed=1)
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in said, said
    assert "Selected: 12/12" in said
    assert "Tested: 12" in said
