"""A job as an answer has it, and as a webhook tells it."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.jobs.job import Job, State


class WebhookStatus(BaseModel):
    """Whether somebody was told that the job has finished."""

    url: str
    delivered: datetime.datetime | None
    tries: int
    next_try: datetime.datetime | None
    error: str | None = Field(description="Of the last try.")


class JobStatus(BaseModel):
    """A job as it stands."""

    id: str
    state: State = Field(description="succeeded: each item has its row, and one at least is no error.")
    model: str
    model_sha256: str
    created: datetime.datetime
    started: datetime.datetime | None
    finished: datetime.datetime | None
    num_items: int
    counts: dict[Literal["queued", "running", "ok", "error", "cancelled"], int]
    clips_per_second: float | None = Field(description="Items done since it started; null before.")
    eta_seconds: float | None = Field(description="To its end, at that rate; null where it can't be told.")
    webhook: WebhookStatus | None
    results: str = Field(description="Path of its results; those that are there can be read at any time.")

    @classmethod
    def of(cls, job: Job) -> JobStatus:
        """For an answer."""
        seconds = (job.finished or job.read) - job.started if job.started is not None else 0.0
        rate = job.num_done / seconds if seconds > 0 else None
        left = job.counts.get("queued", 0) + job.counts.get("running", 0)
        webhook = None
        if job.webhook_url is not None:
            webhook = WebhookStatus(
                url=job.webhook_url, delivered=_time(job.webhook_delivered), tries=job.webhook_tries,
                next_try=_time(job.webhook_due), error=job.webhook_error,
            )  # fmt: skip
        return cls(
            id=job.id, state=job.state, model=job.model, model_sha256=job.model_sha256, created=_time(job.created),
            started=_time(job.started), finished=_time(job.finished), num_items=job.num_items, counts=job.counts,
            clips_per_second=rate, eta_seconds=left / rate if rate and not job.finished else None, webhook=webhook,
            results=f"/v1/jobs/{job.id}/results",
        )  # fmt: skip


def webhook_body(job: Job) -> str:
    """What a webhook is told: the same as whoever asks, without the webhook."""
    return JobStatus.of(job).model_dump_json(exclude={"webhook"})


class JobList(BaseModel):
    """The newest jobs."""

    jobs: list[JobStatus]


def _time(seconds: float | None) -> Any:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
