"""FastAPI as its documentation has it: an `UploadFile`, a plain `def` route in the thread pool, uvicorn, no batching.

https://fastapi.tiangolo.com/tutorial/request-files/, https://fastapi.tiangolo.com/async/
`python -m uvicorn tests.bench.peers.fastapi_service:app`
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI, UploadFile

from tests.bench.peers.clip_model import ClipModel, answer, decode

app = FastAPI()
model = ClipModel.from_environment()


@app.get("/ready")
def ready() -> None:
    """Answers once the model is loaded."""


@app.post("/predict")
def predict(video: UploadFile) -> dict[str, Any]:
    """Keep the upload as a file, decode it, run the model."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        shutil.copyfileobj(video.file, file)
        file.flush()
        clip = decode(Path(file.name), model.spec)
    return answer(model.predict([clip])[0])
