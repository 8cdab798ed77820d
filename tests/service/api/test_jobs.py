"""/v1/jobs over HTTP: submitted once, done whatever happens, told, cancelled, forgotten; and what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest

from service.jobs.items import Row
from service.jobs.webhooks import signature
from tests.drawn import Drawn
from tests.postgres import needs_postgres, postgres
from tests.receiver import Receiver, receiving
from tests.server import Server, problem, serve, serve_until_killed, wait_until

SECRET = "not the one of a user"  # noqa: S105


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, clip: Drawn) -> Path:
    """40 copies of a clip, and what is none."""
    folder = tmp_path_factory.mktemp("job clips")
    for number in range(40):
        (folder / f"{number:02d}.mp4").hardlink_to(clip.path)
    (folder / "broken.mp4").write_text("This is not a video.")
    return folder


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def jobs_server(tmp_path_factory: pytest.TempPathFactory, clips: Path, receiver: Receiver) -> Iterator[Server]:
    settings: dict[str, Any] = {
        "job_uri_prefixes": clips.as_uri(), "job_webhook_prefixes": receiver.url, "job_webhook_secret": SECRET,
        "max_job_items": 50, "feature_cache_bytes": 0,
    }  # fmt: skip
    with serve(tmp_path_factory.mktemp("jobs server"), **settings) as running:
        yield running


@pytest.fixture
def http(jobs_server: Server) -> Iterator[httpx.Client]:
    with jobs_server.client() as client:
        yield client


def uris(clips: Path, count: int) -> list[dict[str, Any]]:
    return [{"id": f"clip-{n}", "uri": (clips / f"{n:02d}.mp4").as_uri()} for n in range(count)]


def submitted(http: httpx.Client, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    response = http.post("/v1/jobs", json=body, headers=headers)
    assert response.status_code == 202, response.text
    said: dict[str, Any] = response.json()
    assert response.headers["Location"] == f"/v1/jobs/{said['id']}"
    return said


def finished(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """Once its end is recorded too."""

    def ended() -> bool:
        return http.get(f"/v1/jobs/{job_id}").json()["finished"] is not None

    wait_until(ended, f"job {job_id}")
    said: dict[str, Any] = http.get(f"/v1/jobs/{job_id}").json()
    return said


def rows(http: httpx.Client, job_id: str, query: str = "") -> list[Row]:
    response = http.get(f"/v1/jobs/{job_id}/results{query}")
    assert response.headers["content-type"] == "application/x-ndjson"
    return [Row.model_validate_json(line) for line in response.text.splitlines()]


def has_done(server: Server, count: int) -> bool:
    """By its own metrics."""
    return server.samples().get('reelserve_job_items_total{status="ok"}', 0) >= count


def test_a_job_from_its_making_to_its_results(http: httpx.Client, clips: Path) -> None:
    items = [*uris(clips, 4), {"uri": (clips / "broken.mp4").as_uri()}, {"uri": (clips / "absent.mp4").as_uri()}]
    items[1] |= {"start_seconds": 0.5, "end_seconds": 1.5}
    said = submitted(http, {"items": items, "top_k": 2})
    assert (said["num_items"], said["model"], said["webhook"]) == (6, "actions-lstm", None)
    done = finished(http, said["id"])
    assert (done["state"], done["counts"], done["eta_seconds"]) == ("succeeded", {"ok": 4, "error": 2}, None)
    assert done["clips_per_second"] > 0
    found = rows(http, said["id"])
    assert [row.id for row in found[:4]] == [f"clip-{number}" for number in range(4)]
    assert [row.code for row in found] == [None, None, None, None, "not_a_video", "fetch_failed"]
    assert all(row.predictions is not None and len(row.predictions) == 2 for row in found[:4])
    assert found[0].receipt is not None
    assert found[1].receipt is not None
    assert found[1].receipt.frames_walked < found[0].receipt.frames_walked == 50
    page = http.get(f"/v1/jobs/{said['id']}/results?limit=4")
    assert [json.loads(line)["id"] for line in page.text.splitlines()] == [row.id for row in found[:4]]
    rest = http.get(page.links["next"]["url"])
    assert [json.loads(line)["code"] for line in rest.text.splitlines()] == ["not_a_video", "fetch_failed"]
    assert "next" not in rest.links
    parquet = http.get(f"/v1/jobs/{said['id']}/results?format=parquet")
    table = pq.read_table(io.BytesIO(parquet.content))
    assert [Row.model_validate(row) for row in table.to_pylist()] == found
    as_csv = http.get(f"/v1/jobs/{said['id']}/results?format=csv")
    assert [line["status"] for line in csv.DictReader(io.StringIO(as_csv.text))] == [row.status for row in found]
    part = http.get(f"/v1/jobs/{said['id']}/results?format=csv&limit=1")
    next_one = http.get(part.links["next"]["url"])
    lines = [*csv.DictReader(io.StringIO(part.text)), *csv.DictReader(io.StringIO(next_one.text))]
    assert [line["id"] for line in lines] == [row.id for row in found[:2]]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_results_without_their_body(http: httpx.Client, jobs_server: Server, clips: Path, kind: str) -> None:
    job = submitted(http, {"items": uris(clips, 1)})["id"]
    finished(http, job)
    path = f"/v1/jobs/{job}/results?format={kind}"
    got, headed = http.get(path), http.head(path)
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-type", "content-disposition"):
        assert headed.headers.get(name) == got.headers.get(name)
    assert headed.headers.get("content-length") in (None, got.headers.get("content-length")), "RFC 9110, 8.6"
    assert http.get(path, headers={"Range": "bytes=0-3"}).content[:4] == got.content[:4]
    assert http.get(path, headers={"Range": "bytes=0-3"}).status_code == 200, "each answer is a file of its own"
    wait_until(lambda: not jobs_server.spooled_bytes(), "the file to go")


def test_clips_in_the_request(http: httpx.Client, jobs_server: Server, clip: Drawn) -> None:
    files = [
        ("video", ("good.mp4", clip.path.read_bytes(), "video/mp4")),
        ("video", ("bad.mp4", b"This is not a video.", "video/mp4")),
    ]
    responses = [http.post("/v1/jobs?top_k=1", files=files, headers={"Idempotency-Key": "uploads"}) for _ in range(2)]
    assert [response.status_code for response in responses] == [202, 202]
    first, again = (response.json()["id"] for response in responses)
    assert first == again
    finished(http, first)
    good, bad = rows(http, first)
    assert (good.id, good.uri, good.status) == ("good.mp4", "upload:good.mp4", "ok")
    assert (bad.id, bad.code) == ("bad.mp4", "not_a_video")
    uploads = jobs_server.spool_dir.parent / "jobs" / "uploads"
    assert [path.name for path in uploads.iterdir() if path.name != first] == []


def test_ids_of_any_kind(http: httpx.Client, clips: Path) -> None:
    """Written back as they were given, in the body's JSON and in its lines."""
    uri = (clips / "00.mp4").as_uri()
    asked = [{"id": json_id, "uri": f"{uri}"} for json_id in (0, "a[/b]", False, 1.5)] + [{"id": None, "uri": uri}]
    lines = "".join(json.dumps(item) + "\n" for item in asked)
    kinds = {"application/json": json.dumps({"items": asked}), "application/x-ndjson": lines}
    for kind, content in kinds.items():
        response = http.post("/v1/jobs", content=content, headers={"Content-Type": kind})
        assert response.status_code == 202, response.text
        finished(http, response.json()["id"])
        found = [row.id for row in rows(http, response.json()["id"])]
        assert [(each, type(each)) for each in found] == [
            (0, int),
            ("a[/b]", str),
            (False, bool),
            (1.5, float),
            (uri, str),
        ]
    twice = "\n\n".join(json.dumps({"id": json_id, "uri": uri}) for json_id in (1, "1"))
    said = problem(
        http.post("/v1/jobs", content=twice, headers={"Content-Type": "application/x-ndjson"}), 400, "bad_input"
    )
    assert "line 3, id: id 1 stands at body.jsonl line 1 already" in said["detail"]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv"])
def test_manifests(http: httpx.Client, clips: Path, kind: str) -> None:
    lines = [json.dumps(item) for item in uris(clips, 2)]
    if kind == "text/csv":
        lines = ["id,uri", *(f"{item['id']},{item['uri']}" for item in uris(clips, 2))]
    response = http.post("/v1/jobs?top_k=1", content="\n".join(lines) + "\n", headers={"Content-Type": kind})
    assert response.status_code == 202, response.text
    assert finished(http, response.json()["id"])["counts"] == {"ok": 2}


def test_the_same_key_is_the_same_job(http: httpx.Client, clips: Path) -> None:
    headers = {"Idempotency-Key": "once"}
    said = submitted(http, {"items": uris(clips, 1)}, **headers)
    assert submitted(http, {"items": uris(clips, 1)}, **headers)["id"] == said["id"]
    other = http.post("/v1/jobs", json={"items": uris(clips, 2)}, headers=headers)
    assert problem(other, 422, "idempotency_mismatch")["value"] == "once"
    assert said["id"] in [job["id"] for job in http.get("/v1/jobs").json()["jobs"]]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv", "text/tab-separated-values"])
def test_a_manifest_is_read_as_its_type_says(http: httpx.Client, clips: Path, kind: str) -> None:
    uri = (clips / "00.mp4").as_uri()
    lines = {
        "application/x-ndjson": json.dumps({"id": "a", "uri": uri}),
        "text/csv": f"id,uri\na,{uri}\n",
        "text/tab-separated-values": f"id\turi\na\t{uri}\n",
    }
    response = http.post("/v1/jobs", content=lines[kind], headers={"Content-Type": kind})
    assert response.status_code == 202, response.text
    finished(http, response.json()["id"])
    assert [row.id for row in rows(http, response.json()["id"])] == ["a"]


def test_a_line_may_not_ask_what_is_asked_of_the_whole_job(http: httpx.Client, clips: Path) -> None:
    """As in JSON, where an item has no such name."""
    item = {"uri": (clips / "00.mp4").as_uri(), "top_k": 1, "model": "nobody", "strict": True}
    problem(http.post("/v1/jobs", json={"items": [item]}), 400, "bad_input")
    lines = http.post("/v1/jobs", content=json.dumps(item), headers={"Content-Type": "application/x-ndjson"})
    detail = problem(lines, 400, "bad_input")["detail"]
    assert "line 1, top_k: top_k is asked of all items alike; give top_k in the query" in detail


def test_an_id_that_is_there_twice_in_json(http: httpx.Client, clips: Path) -> None:
    signed = "https://host/a b.mp4?Signature=of-nobody"
    for item_id, said in (("same", "same"), (7, "7"), (signed, "https://host/a b.mp4?redacted")):
        items = [item | {"id": item_id} for item in uris(clips, 2)]
        body = problem(http.post("/v1/jobs", json={"items": items}), 400, "bad_input")
        assert body["detail"].startswith(f"items[1].id: id {said} stands at items[0] already")
        assert "of-nobody" not in str(body)
    without = [{"uri": item["uri"]} for item in uris(clips, 1)] * 2
    detail = problem(http.post("/v1/jobs", json={"items": without}), 400, "bad_input")["detail"]
    assert detail.startswith(f"items[1].uri: id {without[0]['uri']} stands at items[0] already; ")
    late = {"items": [*uris(clips, 1), {"uri": without[0]["uri"], "start_seconds": 3, "end_seconds": 2}]}
    assert problem(http.post("/v1/jobs", json=late), 400, "bad_input")["detail"].startswith("items[1]: end_seconds 2 ")


def test_cancelling_and_forgetting(http: httpx.Client, clips: Path) -> None:
    said = submitted(http, {"items": uris(clips, 40)})
    wait_until(lambda: http.get(f"/v1/jobs/{said['id']}").json()["counts"].get("ok", 0) > 1, "the first rows")
    cancelled = http.delete(f"/v1/jobs/{said['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["counts"]["ok"] + cancelled["counts"]["cancelled"] == 40
    done = finished(http, said["id"])
    assert done["counts"] == cancelled["counts"]
    assert len(rows(http, said["id"])) == done["counts"]["ok"]
    assert http.delete(f"/v1/jobs/{said['id']}?purge=true").status_code == 200
    problem(http.get(f"/v1/jobs/{said['id']}"), 404, "unknown_job")
    problem(http.get(f"/v1/jobs/{said['id']}/results"), 404, "unknown_job")
    problem(http.delete(f"/v1/jobs/{said['id']}"), 404, "unknown_job")


ITEM = {"uri": "s3://bucket/1.mp4"}


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"items": [ITEM]}, 403, "uri_not_allowed", ["s3://bucket/1.mp4", "job_uri_prefixes"]),
        ({"items": [{"uri": "/etc/passwd"}]}, 403, "uri_not_allowed", ["/etc/passwd"]),
        ({"items": [{"uri": "file:///etc/passwd"}]}, 403, "uri_not_allowed", ["/etc/passwd"]),
        ({"items": []}, 400, "bad_input", ["no item"]),
        ({"items": [{"url": "x"}]}, 400, "bad_input", ["items[0] has no parameter url", "did you mean uri?"]),
        ({"items": [ITEM], "topk": 3}, 400, "bad_parameter", ["topk", "did you mean top_k?"]),
        ({"items": [ITEM], "model": "absent"}, 404, "unknown_model", ["absent"]),
        ({"items": [ITEM], "window": 100_000}, 400, "bad_parameter", ["window"]),
        ({"items": [ITEM], "webhook_url": "https://host/"}, 403, "uri_not_allowed", ["job_webhook_prefixes"]),
    ],
)
def test_what_is_refused(http: httpx.Client, body: dict[str, Any], status: int, code: str, words: list[str]) -> None:
    said = problem(http.post("/v1/jobs", json=body), status, code)
    assert [word for word in words if word not in said["detail"]] == [], said["detail"]


def test_what_is_refused_leaves_no_trace_in_the_log(http: httpx.Client, jobs_server: Server) -> None:
    """What its items were read with is closed by the thread that opened it, not by one that finds it later."""
    csv = {"Content-Type": "text/csv"}
    for _ in range(5):
        problem(http.post("/v1/jobs", content=b"uri\ns3://bucket/1.mp4\n", headers=csv), 403, "uri_not_allowed")
        problem(http.post("/v1/jobs", json={"items": [ITEM]}), 403, "uri_not_allowed")
    log = jobs_server.log.read_text()
    assert "Exception ignored" not in log, log[-2000:]


def test_more_that_is_refused(http: httpx.Client, jobs_server: Server, clips: Path) -> None:
    before = http.get("/v1/jobs").json()["jobs"]
    many = [{"id": str(n), "uri": (clips / "00.mp4").as_uri()} for n in range(51)]
    assert problem(http.post("/v1/jobs", json={"items": many}), 413, "too_many_items")["limit"] == 50
    clips_of_one = [("video", ("a.mp4", b"x"))] * 51
    assert problem(http.post("/v1/jobs", files=clips_of_one), 413, "too_many_items")["limit"] == 50
    twice = [{"id": "a", "uri": item["uri"]} for item in uris(clips, 2)]
    problem(http.post("/v1/jobs", json={"items": twice}), 400, "bad_input")
    late = uris(clips, 1)[0] | {"start_seconds": 3, "end_seconds": 2}
    problem(http.post("/v1/jobs", json={"items": [late]}), 400, "bad_input")
    problem(http.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"}), 400, "bad_input")
    problem(http.post("/v1/jobs", content=b"x", headers={"Content-Type": "image/png"}), 415, "unsupported_media_type")
    large = http.post("/v1/jobs", content=b" " * 17_000_000, headers={"Content-Type": "application/json"})
    assert "application/x-ndjson" in problem(large, 413, "too_large")["detail"]
    csv = http.post("/v1/jobs", content=b"uri,start\n", headers={"Content-Type": "text/csv"})
    assert "line 1" in problem(csv, 400, "bad_input")["detail"] or csv.status_code == 400
    problem(http.post("/v1/jobs", files=[("clip", ("a.mp4", b"x"))]), 400, "no_file")
    problem(http.post("/v1/jobs?top_k=0", json={"items": uris(clips, 1)}), 400, "bad_parameter")
    assert http.get("/v1/jobs").json()["jobs"] == before
    jobs_server.assert_spool_is_empty()


def test_a_service_that_is_stopped_or_killed_goes_on_where_it_was(tmp_path: Path, clips: Path) -> None:
    """The first one gives back what it has: its leases are so long that the others would wait for an hour."""
    settings: dict[str, Any] = {
        "job_uri_prefixes": clips.as_uri(), "jobs_dir": tmp_path / "jobs", "feature_cache_bytes": 0,
    }  # fmt: skip
    folders = [tmp_path / name for name in ("stopped", "killed", "last")]
    for folder in folders:
        folder.mkdir()
    with serve(folders[0], **settings, job_lease_seconds=3600) as first, first.client() as http:
        names = sorted(path.name for path in (tmp_path / "jobs").iterdir())
        assert names == ["place", "secret_key"], "no database for who has no jobs"
        said = submitted(http, {"items": uris(clips, 40)})
        wait_until(lambda: has_done(first, 2), "the first rows")
    with serve_until_killed(folders[1], **settings, job_lease_seconds=1) as second:
        wait_until(lambda: has_done(second, 2), "more rows")
        second.kill()
    with serve(folders[2], **settings) as last, last.client() as http:
        assert finished(http, said["id"])["counts"] == {"ok": 40}
        assert [row.id for row in rows(http, said["id"])] == [f"clip-{number}" for number in range(40)]
        assert has_done(last, 1)


@needs_postgres
def test_what_a_killed_replica_has_is_taken_over(tmp_path: Path, clips: Path) -> None:
    """Two replicas, one database: each item has one result, whoever dies."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with postgres() as url:
        settings: dict[str, Any] = {
            "job_uri_prefixes": clips.as_uri(), "jobs_url": url, "job_lease_seconds": 2, "feature_cache_bytes": 0,
            "secret_key": "a key of these replicas and long",
        }  # fmt: skip
        with serve(tmp_path / "one", **settings) as first, first.client() as http:
            with serve_until_killed(tmp_path / "two", **settings) as second, second.client() as other:
                said = submitted(other, {"items": uris(clips, 40)})
                wait_until(lambda: has_done(first, 2) and has_done(second, 2), "a share of each")
                second.kill()
            assert finished(http, said["id"])["counts"] == {"ok": 40}
            assert [row.id for row in rows(http, said["id"])] == [f"clip-{number}" for number in range(40)]
            assert not has_done(first, 40)


def test_who_waits_for_a_job_is_told(http: httpx.Client, jobs_server: Server, receiver: Receiver, clips: Path) -> None:
    receiver.statuses = [500, 200]
    said = submitted(http, {"items": uris(clips, 1), "webhook_url": f"{receiver.url}done?of=tests"})
    wait_until(lambda: len(receiver.heard) == 2, "the second try")
    for headers, body in receiver.heard:
        assert json.loads(body)["state"] == "succeeded"
        expected = signature(SECRET.encode(), said["id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == expected
    wait_until(lambda: http.get(f"/v1/jobs/{said['id']}").json()["webhook"]["delivered"], "the note of it")
    assert SECRET not in jobs_server.log.read_text()
    elsewhere = {"items": uris(clips, 1), "webhook_url": "http://127.0.0.1:1/"}
    problem(http.post("/v1/jobs", json=elsewhere), 403, "uri_not_allowed")


def test_decoders_of_jobs_give_way_to_all_others(jobs_server: Server, http: httpx.Client, clips: Path) -> None:
    said = submitted(http, {"items": uris(clips, 40)})

    def nice(process: psutil.Process) -> int:
        with suppress(psutil.NoSuchProcess):
            return process.nice()
        return 0

    wait_until(lambda: 19 in map(nice, jobs_server.family()), "a decoder of the job")
    http.delete(f"/v1/jobs/{said['id']}?purge=true").raise_for_status()


def test_without_a_place_for_jobs_predictions_are_answered(tmp_path: Path, clip: Drawn) -> None:
    (tmp_path / "file").touch()
    with serve(tmp_path, jobs_dir=tmp_path / "file" / "jobs") as server, server.client() as http:
        said = problem(http.post("/v1/jobs", json={"items": [ITEM]}), 503, "jobs_unavailable")
        assert "jobs_dir" in said["detail"]
        files = {"video": clip.path.read_bytes()}
        assert http.post("/v1/predict", files=files).status_code == 200
