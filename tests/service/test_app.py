"""What stands around our app in BentoML's."""

from __future__ import annotations

import subprocess
import sys

_REQUEST = """
import asyncio

from service import app
from bentoml._internal.server.http.traffic import TimeoutMiddleware

async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})

async def request():
    timers, sent = [], []
    asyncio.get_running_loop().call_later = lambda seconds, *rest: timers.append(seconds)
    async def send(message):
        sent.append(message["status"])
    await TimeoutMiddleware(answer, timeout=60.0)({"type": "http"}, None, send)
    print(sent, timers)

asyncio.run(request())
"""


def test_a_request_leaves_no_timer_behind() -> None:
    """BentoML's own left one for as long as its timeout, whatever the answer."""
    said = subprocess.run([sys.executable, "-c", _REQUEST], capture_output=True, text=True, check=True).stdout
    assert said.strip().splitlines()[-1] == "[200] []"
