"""BentoML as its documentation has it: `Path` upload, decoding in the handler, a `batchable` model service behind.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html
Calls inside one service are not batched, hence two. The handler is `async` and decodes in a thread: a plain `def` has
one thread by default, so that the model would never see a batch.
`python -m bentoml serve tests.bench.peers.bentoml_service:ClipService`
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from tests.bench.peers.clip_model import ClipModel, DecodedClip, answer, decode
from tests.zoo import DOCUMENT


@bentoml.service
class Model:
    """Batches of clips, formed by BentoML."""

    def __init__(self) -> None:
        self.model = ClipModel.from_environment()

    @bentoml.api(batchable=True)  # type: ignore[untyped-decorator]
    def score(self, clips: list[np.ndarray]) -> list[dict[str, Any]]:  # type: ignore[type-arg]  # BentoML reads it
        """Frames of each tick (T, H, W, 3) uint8 → the answer of each clip."""
        decoded = [DecodedClip(frames, np.ones(len(frames), np.int64)) for frames in clips]
        return [answer(best) for best in self.model.predict(decoded)]


@bentoml.service
class ClipService:
    """What clients see."""

    model = bentoml.depends(Model)

    def __init__(self) -> None:
        self.spec = DOCUMENT.spec

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, video: Path) -> dict[str, Any]:
        """Decode the upload, ask the model."""
        clip = await asyncio.to_thread(decode, video, self.spec)
        answers: list[dict[str, Any]] = await self.model.to_async.score([np.repeat(clip.frames, clip.ticks, axis=0)])
        return answers[0]
