"""Record service/api/examples.json from a real server: `python -m tests.record_examples`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from service.api.examples import FILE
from tests.real_clips import real_clip
from tests.server import serve


def record(url: str) -> dict[str, Any]:
    """Answers by name, as /docs shows them."""
    clip = {"video": real_clip("bikes.mp4").read_bytes()}
    predict, probe, models = f"{url}/v1/predict", f"{url}/v1/probe", f"{url}/v1/models"
    answers = {
        "predict": httpx.post(predict, files=clip, params={"top_k": 3}, timeout=60),
        "probe": httpx.post(probe, files=clip, params={"full": True}, timeout=60),
        "models": httpx.get(models),
        "problem 400": httpx.post(predict, files=clip, params={"top_k": 0}, timeout=60),
        "problem 404": httpx.post(predict, files=clip, params={"model": "nobody"}, timeout=60),
        "problem 415": httpx.post(predict, content=b"{}", headers={"Content-Type": "application/json"}),
        "problem 422": httpx.post(predict, files={"video": b"not a video"}),
    }
    return {name: answer.json() for name, answer in answers.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as server:
        FILE.write_text(json.dumps(record(server.url), indent=1) + "\n", encoding="utf-8")
