"""`--engine ray` on the cores of this machine: the same rows as the local engine's, and no hang where they are two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from service.jobs import ray_stages
from service.jobs.ray_stages import Record, columns, records_of
from tests.drawn import Drawn, draw
from tests.ports import free_port
from tests.real_clips import real_clip
from tests.scripted import answer, scripted
from tests.server import DEADLINE_SECONDS, wait_until
from tests.service.jobs.test_command import batch, command, copies, recorded_lines, rows

NUM_INPUTS = 90


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, clip: Drawn, long_clip: Drawn) -> Path:
    """Good ones, bad ones, trims, and a clip of several pieces; as a manifest."""
    folder = tmp_path_factory.mktemp("ray inputs")
    long = draw(folder / "very long.mp4", num_frames=1020, fps=25, width=64, height=48).path
    (folder / "broken.mp4").write_text("This is not a video.")
    shutil.copy(real_clip("bikes.mp4"), folder / "bikes.mp4")
    lines = [
        "id,path,start_seconds,end_seconds",
        f"short,{clip.path},,", f"long,{long_clip.path},,", f"very long,{long},,", "bikes,bikes.mp4,,",
        f"trimmed,{long_clip.path},2,5", f"beyond,{long_clip.path},99,", "broken,broken.mp4,,", "absent,absent.mp4,,",
        r"no UTF-8 [/b],caf\xe9.mp4,,", *(f"again {number},{clip.path},0,1.5" for number in range(81)),
    ]  # fmt: skip
    (folder / os.fsdecode(b"caf\xe9.mp4")).hardlink_to(clip.path)
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


def said(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by id, without the times that they took."""
    return {row.id_text: row.model_dump(exclude={"timing_ms"}) for row in rows(path)}


def test_both_engines_give_the_same_rows_whatever_ends_one(inputs: Path, tmp_path: Path) -> None:
    """Ray's batch is killed in the middle, and resumed."""
    batch(tmp_path, inputs, "--out", "local.parquet", status=1)
    out = tmp_path / "ray.parquet"
    with command(tmp_path, inputs, "--out", "ray.parquet", "--engine", "ray") as process:
        wait_until(lambda: recorded_lines(out) > 2 or process.poll() is not None, "the first rows")
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)
    before = recorded_lines(out)
    assert 2 < before < NUM_INPUTS
    left = {agent: agent.name() for agent in psutil.wait_procs(family, timeout=10)[1]}
    for agent in left:  # they would end a minute later: first they try to tell a cluster that is gone
        agent.kill()
    assert set(left.values()) <= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    text = batch(tmp_path, inputs, "--out", "ray.parquet", "--engine", "ray", "--resume", status=1)
    assert f"{before} of {NUM_INPUTS} are recorded already" in text
    local, ray = said(tmp_path / "local.parquet"), said(out)
    assert len(local) == len(rows(out)) == NUM_INPUTS
    assert ray == local


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of one that runs already, of one machine with two cores; its workers start in a folder of their own."""
    for name, value in {"AUTH_MODE": "token", "AUTH_TOKEN": "0" * 64, "USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(f"RAY_{name}", value)
    port, client_port = free_port(), free_port()
    words = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    said = tmp_path / "head.log"
    with tempfile.TemporaryDirectory(prefix="ray-") as short, said.open("wb") as log:
        ray = [str(Path(sys.executable).with_name("ray")), *words, f"--port={port}", f"--temp-dir={short}"]
        # The ports of a batch's workers are chosen by the system, as of all that run on this machine.
        ray += ["--min-worker-port=0", "--max-worker-port=0", f"--ray-client-server-port={client_port}"]
        with subprocess.Popen(ray, stdout=log, stderr=log, cwd=tmp_path) as process:
            try:
                wait_until(
                    lambda: b"Ray runtime started" in said.read_bytes() or process.poll() is not None, "the head"
                )
                assert process.poll() is None, said.read_text()
                yield f"127.0.0.1:{port}"
            finally:
                family = psutil.Process(process.pid).children(recursive=True)
                process.kill()  # nothing of it is worth a farewell, which takes half a minute
                for one in family:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()


def test_a_cluster_that_runs_already(cluster: str, clip: Drawn, tmp_path: Path) -> None:
    """Its workers get the application by Ray, models and all, and no paths but absolute ones."""
    names = copies(clip, tmp_path / "clips", 3)
    with scripted() as site:
        site.script = [answer(200, clip.path.read_bytes())]
        signed = [f"{site.url}/signed?Signature=s3cr3t%2B", "--allow", f"{site.url}/"]
        words = ["--engine", "ray", "--address", cluster]
        text = batch(tmp_path, "clips", *signed, "--out", "out.jsonl", *words, jobs_dir=tmp_path / "jobs")
        assert site.asked == [b"GET /signed?Signature=s3cr3t%2B HTTP/1.1"] * 2  # whether it is a manifest; the clip
    found = sorted(row.id_text for row in rows(tmp_path / "out.jsonl"))
    assert found[:3] == names
    assert found[3].startswith(f"{site.url}/signed?redacted=")
    assert "s3cr3t" not in text + (tmp_path / "out.jsonl").read_text()
    client = batch(tmp_path, "clips", "--out", "o.jsonl", "--engine", "ray", "--address", f"ray://{cluster}", status=2)
    assert "--address auto" in client


def test_an_address_where_nobody_is(inputs: Path, tmp_path: Path) -> None:
    text = batch(tmp_path, inputs, "--out", "o.jsonl", "--engine", "ray", "--address", "127.0.0.1:1", status=2)
    assert "--address 127.0.0.1:1" in text
    assert "Traceback" not in text
    assert "--engine ray" in batch(tmp_path, inputs, "--out", "p.jsonl", "--address", "auto", status=2)


def test_records_pass_as_columns() -> None:
    records = [Record("a", 0, data=b"\x00\x01", ticks=b"\x02"), Record("b", 3, last=True, about="{}", row="r")]
    assert records_of(columns(records)) == records


def test_pieces_in_any_order_make_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is joined is in the clip's order, whoever comes first."""
    pushed: list[int] = []

    class Clip:
        feature_size = 2
        num_pushed = 0

        def __init__(self, *_: object) -> None:
            self.held: dict[int, Record] = {}

        def push(self, record: Record, features: np.ndarray[Any, Any]) -> str:
            assert features.shape == (1, 2)
            pushed.append(record.index)
            self.num_pushed += 1
            return "row" if record.last else ""

    class Loaded:
        def __init__(self, *_: object) -> None:
            pass

        def load(self) -> None:
            pass

    monkeypatch.setattr(ray_stages, "_Clip", Clip)
    monkeypatch.setattr(ray_stages, "Serving", Loaded)
    join = ray_stages.Join(SimpleNamespace(settings=None))  # type: ignore[arg-type]
    data = np.zeros((1, 2), np.float32).tobytes()
    pieces = [Record("a", index, last=index == 3, data=data) for index in range(4)]
    found = [join(columns([pieces[index]]))["row"].tolist() for index in (2, 0, 3, 1)]
    assert found == [[], [], [], ["row"]]
    assert pushed == [0, 1, 2, 3]
    assert join(columns([Record("b", 0, data=data)]))["row"].tolist() == []
    assert join(columns([Record("b", 1, last=True, row="corrupt")]))["row"].tolist() == ["corrupt"]
    assert join._clips == {}


def test_a_clip_of_which_two_pieces_fail_has_one_row() -> None:
    join = ray_stages.Join(SimpleNamespace(settings=None))  # type: ignore[arg-type]
    pieces = [Record("a", 2, row="first"), Record("a", 0, row="second"), Record("b", 0, last=True, row="other")]
    assert join(columns(pieces))["row"].tolist() == ["first", "other"]
    assert join(columns([Record("a", 3, last=True, data=b"")]))["row"].tolist() == []
