"""/docs in a browser: "Try it out" sends what was filled in, and nothing that Swagger UI made up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from openapi_spec_validator import validate

from tests.drawn import Drawn
from tests.server import DEADLINE_SECONDS, Server

BROWSER = shutil.which("chromium")


@pytest.fixture
def shown(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/docs/openapi.json").json()
    return document


def test_its_document_is_valid(shown: dict[str, Any]) -> None:
    validate(shown)


def test_its_document_differs_in_examples_alone(shown: dict[str, Any], client: httpx.Client) -> None:
    openapi = client.get("/openapi.json").json()
    assert shown != openapi
    same = deepcopy(shown)
    for form in ("PredictForm", "ProbeForm", "ClipsForm"):
        fields = same["components"]["schemas"][form]["properties"]
        assert {name for name, field in fields.items() if field.pop("example", None) == ""} == fields.keys() - {"video"}
    for parameter in same["paths"]["/v1/predict"]["post"]["parameters"]:
        if "examples" in parameter:
            assert next(iter(parameter["examples"].values())) == {"value": ""}, "the first is the one that is filled in"
            del parameter["examples"]["not sent"]
    assert same == openapi


class Page:
    """A page of a browser, over the Chrome DevTools Protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (said := await self._socket.receive_json()).get("id") != number:
            pass
        answer: dict[str, Any] = said["result"]
        return answer

    async def until(self, expression: str) -> Any:
        """The value of an expression of JavaScript, once it is true."""
        while True:
            answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
            if value := answer["result"].get("value"):
                return value
            await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        """What is there, or will be."""
        await self.until(f"(found => found && !found.click())(document.querySelector({selector!r}))")

    async def choose(self, selector: str, file: Path) -> None:
        """In a field for a file, once it is there."""
        await self.until(f"!!document.querySelector({selector!r})")
        root = await self.call("DOM.getDocument", depth=0)
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node["nodeId"])


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[Page]:
    """A browser at the page. It names its port in the profile."""
    assert BROWSER is not None
    arguments = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
    )
    silent = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(BROWSER, *arguments, url, stdout=silent, stderr=silent)
    try:
        named = profile / "DevToolsActivePort"
        while not (named.exists() and "\n" in named.read_text()):
            assert process.returncode is None, "the browser ended"
            await asyncio.sleep(0.05)
        port = named.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as listed:
                [tab] = [each for each in await listed.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()


async def tried(url: str, file: Path, profile: Path) -> tuple[str, str]:
    """What "Try it out" of a prediction sends, as a line of curl, and the status of the answer."""
    predict = "#operations-predict-predict"
    async with asyncio.timeout(DEADLINE_SECONDS), browsing(f"{url}/docs", profile) as page:
        await page.click(f"{predict} .opblock-summary-control")
        await page.click(f"{predict} .try-out__btn")
        await page.choose(f"{predict} input[type=file]", file)
        await page.click(f"{predict} .execute")
        curl = await page.until(f"document.querySelector('{predict} .curl')?.innerText")
        live = f"{predict} .live-responses-table .response-col_status"
        return curl, await page.until(f"document.querySelectorAll('{live}')[1]?.innerText")


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_a_clip_is_sent_alone(server: Server, clip: Drawn, tmp_path: Path) -> None:
    curl, status = asyncio.run(tried(server.url, clip.path, tmp_path))
    assert [line.strip(" \\") for line in curl.splitlines()] == [
        "curl -X 'POST'",
        f"'{server.url}/v1/predict'",
        "-H 'accept: application/json'",
        "-H 'Content-Type: multipart/form-data'",
        f"-F 'video=@{clip.path.name};type=video/mp4'",
    ]
    assert status.split()[0] == "200"
