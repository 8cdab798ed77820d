"""What a durable job is: as it is asked for, as it stands, and an item of it that a replica has claimed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from service.answers import AnswerOptions
from service.jobs.items import Item


def new_id() -> str:
    """Of a job; it can't be guessed."""
    return str(uuid.uuid4())


State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Options:
    """What is wanted of every item. stream: the number of its video stream; None: the one that players take."""

    answer: AnswerOptions = field(default_factory=AnswerOptions)
    strict: bool = False
    stream: int | None = None

    def to_json(self) -> str:
        """For the database."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Options:
        """Back; rows of an older service have fewer names."""
        said = json.loads(text)
        return cls(**said | {"answer": AnswerOptions(**said["answer"])})


@dataclass(frozen=True)
class NewJob:
    """What is asked for, without its items. request_sha256: equal for equal requests. webhook_url: whole."""

    model: str
    model_sha256: str
    options: Options
    request_sha256: str
    idempotency_key: str | None = field(default=None, repr=False)  # may be a URL too
    webhook_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Job:
    """A job as it stands. counts: items by state. Times in seconds since 1970, by the database's clock; read: now.

    webhook_url: redacted; webhook_source: the whole one, encrypted, where it is another.
    """

    id: str
    model: str
    model_sha256: str
    created: float
    started: float | None
    finished: float | None
    cancelled: float | None
    num_items: int
    counts: Mapping[str, int]
    read: float
    webhook_url: str | None
    webhook_source: str | None = field(repr=False)
    webhook_due: float | None
    webhook_tries: int
    webhook_error: str | None
    webhook_delivered: float | None

    @property
    def state(self) -> State:
        """succeeded: each item has its row, and one at least is no error."""
        if self.cancelled is not None:
            return "cancelled"
        if self.num_done == self.num_items:
            return "succeeded" if self.counts.get("ok") else "failed"
        return "queued" if self.counts.get("queued", 0) == self.num_items else "running"

    @property
    def num_done(self) -> int:
        """Items that have their row."""
        return self.counts.get("ok", 0) + self.counts.get("error", 0)


@dataclass(frozen=True)
class Claim:
    """An item that is ours until the lease ends. sealed: the item's source, encrypted, where it has one."""

    job_id: str
    number: int
    fence: int
    tries: int
    item: Item
    model_sha256: str
    options: Options
    sealed: str | None = field(default=None, repr=False)
