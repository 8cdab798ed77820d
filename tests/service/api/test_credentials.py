"""URLs with credentials through a running service: fetched whole, and nowhere to be found afterwards."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from service.jobs.database import open_database
from service.jobs.items import Item
from service.jobs.job import NewJob, Options
from service.jobs.kept import made_key
from service.jobs.keys import Keys
from service.jobs.store import JobStore
from service.registry import Registry
from tests.drawn import Drawn
from tests.scripted import Scripted, answer, scripted
from tests.server import Server, problem, serve, wait_until
from tests.service.api.test_jobs import finished, rows, submitted
from tests.zoo import ZOO

SECRET = "s3cr3t"  # noqa: S105
QUERY = f"?Signature={SECRET}%2Bc%2fd%3D"
RAW = f"?disposition=attachment; filename=x.mp4&Signature={SECRET}"  # as people paste it
PASTED = f"https://h/a{RAW}"
TAKEN_OVER, STRANGE = "taken-over", "strange"


@pytest.fixture(scope="module")
def site() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("credentials")


@pytest.fixture(scope="module")
def replica(folder: Path, site: Scripted, clip: Drawn) -> Iterator[Server]:
    """It finds the items of a replica that has died, and those of one with another key; its own key is a new one."""
    site.script = [answer(200, clip.path.read_bytes())]
    jobs_dir = folder / "jobs"
    key = made_key(jobs_dir)
    registry = Registry(ZOO)
    registry.scan()
    new = NewJob("actions-lstm", registry.get(None).sha256, Options(), "r", webhook_url=f"{site.url}/hook{QUERY}")
    for job_id, of in ((TAKEN_OVER, key), (STRANGE, "the key of a stranger, and a long one")):
        keys = Keys([of])
        engine = open_database(f"sqlite:///{jobs_dir / 'jobs.sqlite'}", keys)
        store = JobStore(engine, keys=keys, owner="dead", place="there", lease_seconds=0.0)
        store.create(job_id, new, [Item(f"{site.url}/{job_id}.mp4{QUERY}", f"{site.url}/{job_id}.mp4{QUERY}")])
        assert store.claim(1, [new.model_sha256]) != []
        engine.dispose()
    settings: dict[str, Any] = {
        "job_uri_prefixes": site.url, "job_webhook_prefixes": site.url, "job_webhook_secret": "of the tests",
        "secret_key": f"a newer key of these tests and long,{key}", "log_level": "DEBUG",
    }  # fmt: skip
    with serve(folder, **settings) as running:
        yield running


@pytest.fixture
def http(replica: Server) -> Iterator[httpx.Client]:
    with replica.client() as client:
        yield client


def test_an_item_is_taken_over_with_all_that_leads_to_it(http: httpx.Client, site: Scripted) -> None:
    done = finished(http, TAKEN_OVER)
    assert done["counts"] == {"ok": 1}
    assert f"GET /{TAKEN_OVER}.mp4{QUERY} HTTP/1.1".encode() in site.asked


def test_an_item_of_another_key_waits_for_who_has_it(http: httpx.Client, site: Scripted) -> None:
    finished(http, TAKEN_OVER)  # which came after it
    assert http.get(f"/v1/jobs/{STRANGE}").json()["counts"] == {"running": 1}  # by a replica that has died
    assert rows(http, STRANGE) == []
    assert STRANGE.encode() not in b"".join(site.asked)


def test_rows_of_urls_that_differ_in_their_query(http: httpx.Client, site: Scripted) -> None:
    urls = [f"{site.url}/get{QUERY}&id={number}" for number in range(3)]
    items = [{"uri": url} for url in urls] + [{"id": "mine", "uri": urls[0]}]
    said = submitted(http, {"items": items, "top_k": 1, "webhook_url": f"{site.url}/hook{QUERY}"})
    assert said["webhook"]["url"].startswith(f"{site.url}/hook?redacted=")
    assert finished(http, said["id"])["counts"] == {"ok": 4}
    found = rows(http, said["id"])
    assert len({row.id for row in found}) == 4
    assert [row.id for row in found[:3]] == [row.uri for row in found[:3]]
    assert (found[3].id, found[3].uri) == ("mine", found[0].uri)
    assert all(row.uri.startswith(f"{site.url}/get?redacted=") for row in found)
    asked = [line for line in site.asked if b" /get" in line]
    assert sorted(set(asked)) == [f"GET /get{QUERY}&id={number} HTTP/1.1".encode() for number in range(3)]
    table = pq.read_table(io.BytesIO(http.get(f"/v1/jobs/{said['id']}/results?format=parquet").content))
    assert table["uri"].to_pylist() == [row.uri for row in found]


def test_a_row_of_what_can_t_be_fetched(http: httpx.Client, site: Scripted, clip: Drawn) -> None:
    site.script = [answer(403)]
    csv = f"uri\n{site.url}/a.mp4{QUERY}\n"
    response = http.post("/v1/jobs", content=csv, headers={"Content-Type": "text/csv"})
    finished(http, response.json()["id"])
    [row] = rows(http, response.json()["id"])
    assert (row.code, row.message) == ("fetch_failed", f"{site.url}/a.mp4?redacted can't be read: 403 Forbidden")
    again = http.post("/v1/jobs", content=row.to_json(), headers={"Content-Type": "application/x-ndjson"})
    finished(http, again.json()["id"])
    [row] = rows(http, again.json()["id"])
    assert "was redacted" in (row.message or "")
    site.script = [answer(200, clip.path.read_bytes())]


def test_the_same_request_is_the_same_job(http: httpx.Client, site: Scripted) -> None:
    body = {"items": [{"id": "a", "uri": f"{site.url}/a.mp4{QUERY}"}], "webhook_url": f"{site.url}/hook{QUERY}"}
    headers = {"Idempotency-Key": f"{site.url}/key{RAW}"}
    assert submitted(http, body, **headers)["id"] == submitted(http, body, **headers)["id"]
    mismatch = http.post("/v1/jobs", json=body | {"top_k": 1}, headers=headers)
    problem(mismatch, 422, "idempotency_mismatch")
    assert SECRET not in mismatch.text


REFUSED: list[dict[str, Any]] = [
    {"json": {"items": [{"uri": f"https://elsewhere.example/a.mp4{QUERY}"}]}},
    {"json": {"items": [{"uri": f"https://user:{SECRET}@elsewhere.example/a.mp4"}]}},
    {"json": {"items": [{"url": f"https://elsewhere.example/a.mp4{QUERY}"}]}},
    {"json": {"items": [{"uri": f"https://[::1/a.mp4{QUERY}"}]}},
    {"json": {"items": [], "webhook_url": f"https://elsewhere.example/hook{QUERY}"}},
    {"content": f"uri\nhttps://elsewhere.example/a.mp4{QUERY}\n", "headers": {"Content-Type": "text/csv"}},
    {"content": f"uri,end_seconds\nhttps://h/a{QUERY},soon\n", "headers": {"Content-Type": "text/csv"}},
    {"content": f"{{'uri': 'https://h/a{QUERY}'}}\n", "headers": {"Content-Type": "application/x-ndjson"}},
    {"params": {"webhook_url": f"https://h/hook{QUERY}", "top_k": f"https://h/hook{QUERY}"}, "json": {}},
    {"json": {"items": [], "webhook_url": f"http://{'a' * 70}.example/hook{QUERY}"}},
    {"json": {"items": [], "webhook_url": f"http://127.0.0.1:x/hook{QUERY}"}},
    {"json": {"items": [{"uri": f"http://xn--a/hook{QUERY}"}]}},
    # With spaces, in each place that a message repeats.
    {"json": {"items": [{"uri": PASTED}]}},
    {"json": {"items": [{"uri": PASTED, "start_seconds": 2, "end_seconds": 1}]}},
    {"json": {"items": [{"id": f" {PASTED}", "uri": "https://h/a", "start_seconds": 2, "end_seconds": 1}]}},
    {"json": {"items": [{"uri": "https://h/a", "start_seconds": PASTED}]}},
    {"json": {"items": [{"uri": [f"at {PASTED}"]}]}},
    {"json": {"items": [{PASTED: "https://h/a"}]}},
    {"json": {"items": [PASTED]}},
    {"json": {"items": PASTED}},
    {"json": {"items": [[f"at {PASTED}"]]}},
    {"json": f"at {PASTED}"},
    {"json": {"items": [], "top_k": PASTED}},
    {"json": {"items": [], "top_k": {"a": [f"at {PASTED}"]}}},
    {"json": {"items": [], "model": f"at {PASTED}"}},
    {"json": {"items": [], f"at {PASTED}": 1}},
    {"content": f'{{"{PASTED}": 1, "{PASTED}": 2}}', "headers": {"Content-Type": "application/json"}},
    {"params": {PASTED: 1}, "json": {}},
    {"params": {"top_k": PASTED}, "json": {}},
    {"params": {"webhook_url": PASTED}, "json": {}},
    {"headers": {"Idempotency-Key": f"{PASTED}{'f' * 255}"}, "json": {}},
    {"files": [("video", ("a.mp4", b"x")), ("video", ("b.mp4", b"x"))], "data": {"top_k": PASTED}},
    {"files": [("video", ("a.mp4", b"x"))], "data": {PASTED: "1"}},
    *(
        {"content": text.replace("URL", PASTED), "headers": {"Content-Type": kind}}
        for kind, text in (
            ("text/csv", "uri,id\nhttps://elsewhere.example/a,URL\n"),
            ("text/csv", 'uri\n"URL"\n"URL"\n'),
            ("text/csv", 'id,uri\n"URL",s3://a\n"URL",s3://b\n'),
            ("text/csv", "URL\nURL\n"),
            ("text/csv", "URL,s3://a\n"),
            ("text/csv", "s3://a,URL,URL\n"),
            ("text/csv", 'uri,"URL","URL"\n'),
            ("text/csv", 'uri,start_seconds\ns3://a,"at URL"\n'),
            ("application/x-ndjson", '{"uri": ["at URL"]}\n'),
            ("application/x-ndjson", '{"uri": "s3://a", "id": ["at URL"]}\n'),
            ("application/x-ndjson", '{"uri": "s3://a", "id": "at URL\\u0000"}\n'),
            ("application/x-ndjson", '{"uri": "s3://a", "start_seconds": ["at URL"]}\n'),
            ("application/x-ndjson", '{"uri": "URL", "end_seconds": 0}\n'),
            ("application/x-ndjson", '{"URL": "s3://a"}\n'),
            ("application/x-ndjson", '{"URL": "s3://a", "URL": "s3://a"}\n'),
            ("application/x-ndjson", '["at URL"]\n'),
            ("application/x-ndjson", "at URL\n"),
        )
    ),
]


@pytest.mark.parametrize("request_", REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_is_refused_is_not_repeated(http: httpx.Client, request_: dict[str, Any]) -> None:
    response = http.post("/v1/jobs", **request_)
    assert response.status_code in (400, 403, 404)
    assert SECRET not in response.text


def test_nothing_is_left_of_them(http: httpx.Client, replica: Server, folder: Path, site: Scripted) -> None:
    """After all of the above: no listing, no metric, no log, no file."""
    finished(http, TAKEN_OVER)
    hook = f"POST /hook{QUERY} HTTP/1.1".encode()
    wait_until(lambda: hook in site.asked, "the webhook")
    jobs = http.get("/v1/jobs").json()["jobs"]
    told = [each for each in jobs if each["webhook"]]
    assert {TAKEN_OVER, STRANGE} < {job["id"] for job in jobs}
    assert [each for each in told if not each["webhook"]["url"].startswith(f"{site.url}/hook?redacted=")] == []
    texts = [json.dumps(jobs), http.get("/metrics").text, replica.log.read_text()]
    texts += [http.get(f"/v1/jobs/{job['id']}/results").text for job in jobs]
    assert [text for text in texts if SECRET in text] == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / "jobs" / "jobs.sqlite" in files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
