"""Real answers for /docs: recorded from a server by `python -m tests.record_examples`, compared with one by a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("examples.json")
_RECORDED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def example(name: str) -> dict[str, Any]:
    """The OpenAPI field `example` with the recorded answer `name`; nothing where there is none."""
    return {"example": _RECORDED[name]} if name in _RECORDED else {}
