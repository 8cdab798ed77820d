"""For schemathesis: a file is a real clip, that of `CLIP_URI`; and a body of JSON lines has a row in each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import schemathesis
from hypothesis import strategies

from service.jobs.items import Row

_CLIP = Path(unquote(urlsplit(os.environ["CLIP_URI"]).path)).read_bytes()
_NO_LINE = {"id": "", "uri": "", "status": "ok"}

schemathesis.openapi.format("binary", strategies.just(_CLIP))


@schemathesis.deserializer("application/x-ndjson")
def rows(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """The schema is that of each line; the last one is handed back for it, once all others are rows."""
    lines = response.content.splitlines()
    for line in lines:
        Row.model_validate_json(line)
    return json.loads(lines[-1]) if lines else _NO_LINE
