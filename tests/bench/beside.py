"""Clips in open loop while something else is in progress, or not: what they notice of it, and what it still gets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.load import Answer, Clip, Target, closed_loop, open_loop
from tests.bench.summary import Quantiles, only_ok, rate
from tests.bench.tree import MemoryTrace, MemoryUse
from tests.server import Server

_ENCODED = "reelserve_encode_batch_frames_sum"
_CONCURRENCY = 16


@dataclass(frozen=True)
class Phase:
    """One open loop of clips. film_share: of the frames encoded meanwhile, those that were of none of these clips."""

    latency: Quantiles
    frames: int
    film_share: float
    memory: MemoryUse


@dataclass(frozen=True)
class Beside:
    """One server, and the clips that are sent to it."""

    server: Server
    target: Target
    clips: Sequence[Clip]

    async def capacity(self, seconds: float, seed: int) -> float:
        """Clips a second in a closed loop, its beginning aside."""
        started = time.perf_counter()
        peak = await closed_loop(self.target, self.clips, concurrency=_CONCURRENCY, seconds=seconds, seed=seed)
        return rate(only_ok(peak, "capacity"), started + seconds / 6, started + seconds)

    async def phase(self, arrivals: float, seconds: float, seed: int) -> tuple[list[Answer], Phase]:
        """An open loop; the same seed, the same arrivals."""
        with MemoryTrace(self.server.pid) as memory:
            before = await self.encoded()
            shots = await open_loop(self.target, self.clips, rate=arrivals, seconds=seconds, seed=seed)
            frames = await self.encoded() - before
        of_clips = sum(frames_used(shot) for shot in only_ok(shots, "clips"))
        return shots, Phase(latency_of(shots), frames, round(1.0 - of_clips / max(frames, 1), 4), memory.use())

    async def encoded(self) -> int:
        """Frames, since the server's start."""
        return int((await asyncio.to_thread(self.server.samples))[_ENCODED])


def latency_of(shots: Sequence[Answer]) -> Quantiles:
    """From the scheduled arrivals."""
    return Quantiles.of(shot.latency_seconds for shot in shots)


def frames_used(answer: Answer) -> int:
    """By the receipt."""
    return int(json.loads(answer.body)["receipt"]["frames_used"])
