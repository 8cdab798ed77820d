"""HEAD wherever GET, `Allow` of every path, and pages of other origins (CORS)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError

from service.api.http import create_app
from service.settings import Settings
from tests.drawn import Drawn
from tests.server import MIB, Server, problem, serve
from tests.zoo import MODEL

APP = "https://app.example.org"
MP4 = {"Content-Type": "video/mp4"}
READ = [
    "/", "/docs", "/docs/errors", "/docs/assets/swagger-ui.css", "/docs/openapi.json", "/openapi.json",
    "/livez", "/readyz", "/healthz",
    "/v1/models", f"/v1/models/{MODEL}", "/v1/models/nobody", "/v1/jobs", "/v1/jobs/nobody",
    "/v1/jobs/nobody/results",
]  # fmt: skip


@pytest.mark.parametrize("path", READ)
def test_head_is_get_without_a_body(client: httpx.Client, path: str) -> None:
    got, headed = client.get(path), client.head(path)
    assert headed.content == b""
    assert headed.status_code == got.status_code
    changes = ("date", "x-request-id")
    assert [h for h in headed.headers.multi_items() if h[0] not in changes] == [
        h for h in got.headers.multi_items() if h[0] not in changes
    ]


def test_head_of_metrics(client: httpx.Client) -> None:
    """Whose length changes from one to the next."""
    headed = client.head("/metrics")
    assert (headed.status_code, headed.content) == (200, b"")
    assert int(headed.headers["content-length"]) > 1000
    assert headed.headers["content-type"] == client.get("/metrics").headers["content-type"]


def test_a_connection_serves_on_after_head(client: httpx.Client) -> None:
    for path in READ:
        client.head(path)
        assert client.get("/livez").json() == {"status": "ok"}


def test_every_route_that_answers_get_answers_head(tmp_path: Path) -> None:
    """Those that are yet to come too."""
    app = create_app(Settings(spool_dir=tmp_path, jobs_dir=tmp_path))
    methods: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        methods.setdefault(str(route.path), set()).update(route.methods or ())
    assert {path for path, of in methods.items() if "GET" in of} == {
        path for path, of in methods.items() if "HEAD" in of
    }


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/v1/jobs/nobody", "DELETE, GET, HEAD"),
        ("OPTIONS", "/v1/jobs/nobody/results", "GET, HEAD"),
        ("GET", "/v1/predict", "POST"),
        ("HEAD", "/v1/predict", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("TRACE", "/docs", "GET, HEAD"),
        ("POST", "/docs/assets/swagger-ui.css", "GET, HEAD"),
    ],
)
def test_allow_has_all_methods_of_a_path(client: httpx.Client, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    if method != "HEAD":
        assert allow in problem(response, 405, "method_not_allowed")["detail"]


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that pages of one origin may call, with a limit that a test can reach."""
    with serve(tmp_path_factory.mktemp("called"), cors_origins=APP, max_upload_bytes=MIB) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/livez", 200), ("HEAD", "/readyz", 200), ("GET", "/nope", 404), ("DELETE", "/v1/models", 405)],
)
def test_a_page_of_the_origin_may_read_answers(called: Server, method: str, path: str, status: int) -> None:
    with called.client() as client:
        response = client.request(method, path, headers={"Origin": APP})
        of_another = client.request(method, path, headers={"Origin": "https://other.example.org"})
    assert response.status_code == of_another.status_code == status
    assert response.headers["access-control-allow-origin"] == APP
    assert response.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in of_another.headers


def test_a_page_may_read_what_a_prediction_says(called: Server, clip: Drawn) -> None:
    with called.client() as client:
        response = client.post("/v1/predict", content=clip.path.read_bytes(), headers={"Origin": APP, **MP4})
    exposed = {name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")}
    assert {"server-timing", "x-request-id"} <= exposed & set(response.headers)
    assert {"retry-after", "link", "location"} <= exposed


def test_a_page_sees_a_refusal_that_comes_before_its_upload_ends(called: Server) -> None:
    with called.client() as client:
        response = client.post("/v1/predict", content=bytes(2 * MIB), headers={"Origin": APP, **MP4})
    problem(response, 413, "too_large")
    assert response.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/jobs", "/livez"])
def test_browsers_may_ask_beforehand(called: Server, path: str) -> None:
    asked = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,idempotency-key,x-request-timeout,authorization",
    }
    with called.client() as client:
        allowed = client.options(path, headers=asked)
        refused = client.options(path, headers=asked | {"Origin": "https://other.example.org"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, APP)
    assert allowed.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
    assert {"GET", "POST", "DELETE"} <= set(allowed.headers["access-control-allow-methods"].split(", "))
    body = problem(refused, 400, "preflight_refused")
    assert "the origin 'https://other.example.org' is none of `cors_origins`; add it" in body["detail"]
    assert "access-control-allow-origin" not in refused.headers
    assert "Origin" in refused.headers["vary"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"Access-Control-Request-Method": "PUT"}, "the method 'PUT' is none of GET, HEAD, POST, DELETE; take one"),
        ({"Access-Control-Request-Private-Network": "true"}, "a page of a public network may not call a private one"),
    ],
)
def test_what_a_page_of_the_origin_may_not_ask(called: Server, more: dict[str, str], words: str) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST", "X-Request-ID": "mine"} | more
    with called.client() as client:
        refused = client.options("/v1/predict", headers=asked)
    detail = problem(refused, 400, "preflight_refused")["detail"]
    assert words in detail
    assert "cors_origins" not in detail
    assert refused.headers["access-control-allow-origin"] == APP
    assert refused.headers["x-request-id"] == "mine"
    assert called.samples()['reelserve_errors_total{code="preflight_refused"}'] > 0


def test_no_page_may_call_where_nobody_said_so(client: httpx.Client) -> None:
    response = client.get("/livez", headers={"Origin": APP})
    assert not [name for name in response.headers if name.startswith("access-control-")]
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    problem(client.options("/v1/predict", headers=asked), 405, "method_not_allowed")


@pytest.mark.parametrize("origins", ["https://app.example.org/", "app.example.org", f"{APP}, HTTPS://b.example.org"])
def test_an_origin_that_no_browser_sends_is_refused_at_start(origins: str) -> None:
    with pytest.raises(ValidationError, match=r"is no origin, as browsers send it; give scheme://host\[:port\]"):
        Settings(cors_origins=origins)


def test_origins_are_a_list() -> None:
    assert Settings(cors_origins=f"{APP} ,http://localhost:5173").cors_allowed_origins() == (
        APP,
        "http://localhost:5173",
    )
    assert Settings(cors_origins="*").cors_allowed_origins() == ("*",)
