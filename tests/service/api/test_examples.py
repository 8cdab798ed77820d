"""The answers that /docs shows are what a server answers today."""

from __future__ import annotations

import json
from typing import Any

import httpx

from service.api.examples import FILE
from tests.record_examples import record
from tests.server import Server

CHANGES = frozenset({"request_id", "timing_ms"})


def without(part: Any, names: tuple[str, ...]) -> Any:
    """Of an object, or of each of a list."""
    if isinstance(part, list):
        return [without(each, names) for each in part]
    return {name: value for name, value in part.items() if name not in names}


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what is new in every answer, or measured; scores to 3 digits, as CPUs round differently."""
    kept = {name: value for name, value in answer.items() if name not in CHANGES}
    for part, measured in (
        ("video", ("speed",)),
        ("cost", ("decode_milliseconds", "encode_milliseconds")),
        ("models", ("head_memory_bytes", "encoder_memory_bytes")),
        ("receipt", ("cache",)),  # another test may have sent the clip before
    ):
        if part in kept:
            kept[part] = without(kept[part], measured)
    for line in (*kept.get("predictions", ()), *kept.get("segments", ())):
        line["score"] = round(line["score"], 3)
    return kept


def test_the_recorded_answers_are_those_of_a_server(server: Server) -> None:
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    live = record(server.url)
    assert {name: lasting(answer) for name, answer in live.items()} == {
        name: lasting(answer) for name, answer in recorded.items()
    }


def test_the_documentation_shows_them(client: httpx.Client) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    assert responses["200"]["content"]["application/json"]["example"]["predictions"]
    assert responses["422"]["content"]["application/problem+json"]["example"]["code"] == "not_a_video"
    assert "application/json" not in responses["413"]["content"]
