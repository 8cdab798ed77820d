"""The answer for a clip does not depend on its neighbours: hundreds of random mixes against each clip alone.

Real clips of random lengths and sizes, each with the model's own windows and with overlapping ones. First every one
is answered alone by the idle server, then in mixes of 2 to 16 at once, in random order, each mix begun over a random
fraction of a second; the feature cache is off. Scores are compared as answered (6 decimals), all labels and all
segments; segments must have the same labels and times. Run: `python -m tests.bench mixes [--mixes 500]`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from tests.bench.cuts import random_lengths
from tests.bench.load import Answer, Clip, Target, send
from tests.bench.report import finish, parser
from tests.bench.summary import OK, outcome
from tests.server import serve

SMALLEST_MIX, LARGEST_MIX = 2, 16
ALL_LABELS = "top_k=1000"
QUERIES = ("", "window=16&stride=4")
_LONGEST_SECONDS = 6.0
_WITHIN_SECONDS = 0.3


class _Score(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str
    score: float


class _Segment(_Score):
    start_seconds: float
    end_seconds: float


class Scores(BaseModel):
    """What must not change of an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    predictions: tuple[_Score, ...]
    segments: tuple[_Segment, ...]

    def difference(self, other: Scores) -> float:
        """Largest |Δ score| over labels and segments; infinite where labels or times of segments differ."""
        mine, theirs = ({each.label: each.score for each in one.predictions} for one in (self, other))
        spans, their_spans = (
            {(each.start_seconds, each.end_seconds, each.label): each.score for each in one.segments}
            for one in (self, other)
        )
        if mine.keys() != theirs.keys() or spans.keys() != their_spans.keys():
            return float("inf")
        labels = [abs(score - theirs[label]) for label, score in mine.items()]
        return max([*labels, *(abs(score - their_spans[span]) for span, score in spans.items())])


@dataclass(frozen=True)
class Question:
    """A clip and a query."""

    clip: Clip
    query: str

    async def ask(self, target: Target) -> Answer:
        """Alone on a connection."""
        return await send(replace(target, path=f"{target.path}?{self.query}"), self.clip)


@dataclass(frozen=True)
class OfSize:
    """All mixes of one size."""

    clips_at_once: int
    mixes: int
    largest_difference: float


@dataclass(frozen=True)
class Mixes:
    """exact: not a single score differs, as answered. refused: answers other than 200, which compare nothing."""

    questions: int
    mixes: int
    answers: int
    refused: int
    exact: bool
    largest_difference: float
    by_size: tuple[OfSize, ...]

    def __str__(self) -> str:
        lines = [f"  {each.clips_at_once:>7}{each.mixes:>7}{each.largest_difference:>14.2g}" for each in self.by_size]
        return "\n".join(
            (
                f"{self.mixes} mixes, {self.answers} answers to {self.questions} questions, {self.refused} refused",
                f"  {'at once':>7}{'mixes':>7}{'largest |Δ|':>14}",
                *lines,
                f"largest |Δ score| {self.largest_difference:.2g}: {'exactly' if self.exact else 'not'} as alone",
            )
        )


def main(arguments: list[str]) -> None:
    """Print the largest difference by the size of the mix."""
    flags = parser("mixes", __doc__)
    flags.add_argument("--mixes", type=int, default=500, help="at least so many")
    flags.add_argument("--clips", type=int, default=60)
    flags.add_argument("--seconds", type=float, default=1800.0, help="stop after so long, however few mixes there were")
    options = flags.parse_args(arguments)
    if options.quick:
        options.mixes, options.clips = 8, 12
    with tempfile.TemporaryDirectory() as folder:
        clips = random_lengths(Path(folder) / "clips", options.data, options.seed, options.clips, _LONGEST_SECONDS)
        with serve(Path(folder), feature_cache_bytes=0) as server:
            result = asyncio.run(measure(Target("reelserve", server.url), questions(clips), options))
    print(result)
    finish("mixes", result, options)


def questions(clips: Sequence[Clip]) -> list[Question]:
    """Every clip with every query."""
    return [Question(clip, "&".join(filter(None, (ALL_LABELS, query)))) for clip in clips for query in QUERIES]


async def measure(target: Target, asked: Sequence[Question], options: Namespace) -> Mixes:
    """options: seed, mixes, seconds. RuntimeError where a question alone gets no answer."""
    alone = [_scores(await question.ask(target), question) for question in asked]
    generator = np.random.default_rng([options.seed, 3])
    by_size: dict[int, list[float]] = {}
    refused = answers = 0
    until = time.monotonic() + options.seconds
    for number in range(options.mixes):
        if time.monotonic() > until:
            break
        # Every size comes up equally often.
        size = SMALLEST_MIX + number % (LARGEST_MIX - SMALLEST_MIX + 1)
        chosen = generator.integers(len(asked), size=size)
        offsets = generator.uniform(0.0, _WITHIN_SECONDS, size)
        got = await asyncio.gather(
            *(_later(asked[which], float(wait), target) for which, wait in zip(chosen, offsets, strict=True))
        )
        good = [(which, answer) for which, answer in zip(chosen, got, strict=True) if answer.status == OK]
        answers += len(good)
        refused += size - len(good)
        differences = [alone[which].difference(Scores.model_validate_json(answer.body)) for which, answer in good]
        by_size.setdefault(size, []).append(max(differences, default=0.0))
    largest = max(max(values) for values in by_size.values())
    return Mixes(
        questions=len(asked),
        mixes=sum(map(len, by_size.values())),
        answers=answers,
        refused=refused,
        exact=largest == 0.0,
        largest_difference=largest,
        by_size=tuple(OfSize(size, len(values), max(values)) for size, values in sorted(by_size.items())),
    )


async def _later(question: Question, wait_seconds: float, target: Target) -> Answer:
    await asyncio.sleep(wait_seconds)
    return await question.ask(target)


def _scores(answer: Answer, question: Question) -> Scores:
    if answer.status != OK:
        detail = json.loads(answer.body).get("detail") if answer.body else answer.lost
        raise RuntimeError(f"{question.clip.name}?{question.query} alone: {outcome(answer)}, {detail}")
    return Scores.model_validate_json(answer.body)
