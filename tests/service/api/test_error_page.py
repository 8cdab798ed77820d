"""A problem's `type` leads to a paragraph about it (RFC 9457, 3.1.1), without the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import httpx
import pytest

from service.api.error_page import error_classes
from tests.server import Server


class Anchors(HTMLParser):
    """Text by the id of the section that it stands in, and all links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.links: list[str] = []
        self._section = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "section":
            self._section = said["id"] or ""
            assert self._section not in self.texts, "twice"
            self.texts[self._section] = ""
        self.links += [said[name] or "" for name in ("href", "src") if name in said]

    def handle_data(self, data: str) -> None:
        if self._section:
            self.texts[self._section] += data


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [("GET", "/nope", b""), ("PUT", "/v1/jobs", b""), ("POST", "/v1/predict", b"no video"), ("GET", "/v1/jobs/x", b"")],
)
def test_a_problem_leads_to_its_paragraph(server: Server, method: str, path: str, content: bytes) -> None:
    with server.client() as client:
        response = client.request(method, path, content=content, headers={"Content-Type": "video/mp4"})
        said = response.json()
        page, code = urldefrag(urljoin(str(response.url), said["type"]))
        text = Anchors(client.get(page).text).texts[code]
    assert said["title"] in text
    assert str(said["status"]) in text
    assert "What to do: " in text


def test_every_error_has_its_paragraph(client: httpx.Client) -> None:
    page = Anchors(client.get("/docs/errors").text)
    every = {error.code: error for error in error_classes()}
    assert set(page.texts) == set(every)
    for code, error in every.items():
        text = " ".join(page.texts[code].split())
        assert f"{code} · {error.status} · {error.title}" in text
        assert f"What to do: {error.remedy.replace('`', '')}." in text
    assert all(link.startswith("/") for link in page.links), "an address outside"


def test_the_documentation_leads_there(client: httpx.Client) -> None:
    [link] = re.findall(r"\]\((/[^)]*)\)", client.get("/openapi.json").json()["info"]["description"])
    assert client.get(link).headers["content-type"].startswith("text/html")
