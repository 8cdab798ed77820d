"""/v1/jobs: many clips in one request, done in the background, whatever happens to this process."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from service.api.job_request import JOB_BODY, received_job
from service.api.problems import JOB_PROBLEM_RESPONSES
from service.errors import BadParameter
from service.jobs.items import Row
from service.jobs.job import Job, State
from service.jobs.service import Jobs
from service.parameters import Count, JobParameters
from service.spool import Spool
from service.wording import UNIT

if TYPE_CHECKING:
    from service.jobs.store import JobStore  # SQLAlchemy: half a second, for those who keep jobs

router = APIRouter(tags=["jobs"])

_PAGE_ROWS = 1000
_PROBLEMS: dict[int | str, dict[str, Any]] = {status: JOB_PROBLEM_RESPONSES[status] for status in (404, 503)}
_ROWS: dict[str, Any] = {UNIT: "rows"}
_LAST_ITEM = 2**31 - 1  # as the column is
_AFTER = "Number of an item, from 0 in the manifest's order: rows after that one; -1: from the first."
_LIMIT = "Most rows of a page; without it all."
NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


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


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same request with the same key is the same job, however often it comes.",
    ),
]


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobStatus,
    responses=JOB_PROBLEM_RESPONSES,
    openapi_extra={"requestBody": JOB_BODY},
    summary="Submit a job",
)
async def submit(request: Request, query: Annotated[JobParameters, Query()], key: IdempotencyKey = None) -> Response:
    """Many clips in one request: a manifest of URIs, or the clips themselves. They are done in the background.

    `curl -F video=@a.mp4 -F video=@b.mp4 http://127.0.0.1:3000/v1/jobs`
    """
    job = await received_job(request, query, key)
    return Response(
        JobStatus.of(job).model_dump_json(), 202, {"Location": f"/v1/jobs/{job.id}"}, media_type="application/json"
    )


MostJobs = Annotated[
    Count, Query(ge=1, le=1000, description="Most jobs of the answer.", json_schema_extra={UNIT: "jobs"})
]


@router.get("/v1/jobs", summary="List jobs", responses={503: JOB_PROBLEM_RESPONSES[503]})
def list_jobs(request: Request, limit: MostJobs = 100) -> JobList:
    """The newest first."""
    return JobList(jobs=[JobStatus.of(job) for job in _store(request).newest(limit)])


@router.get("/v1/jobs/{job_id}", summary="Show a job", responses=_PROBLEMS)
def show(request: Request, job_id: str) -> JobStatus:
    """Its state, its items by state, its rate, and when it will have finished."""
    return JobStatus.of(_store(request).get(job_id))


@router.delete("/v1/jobs/{job_id}", summary="Cancel a job, or delete it", responses=_PROBLEMS)
def cancel(
    request: Request,
    job_id: str,
    purge: Annotated[bool, Query(description="Forget the job, its uploads and its results too.")] = False,
) -> JobStatus:
    """Clips in progress stop within a chunk; what is done stays, unless `purge` is set."""
    jobs: Jobs = request.app.state.jobs
    job = jobs.cancel(job_id)
    if purge:
        jobs.delete(job_id)
    return JobStatus.of(job)


@router.get(
    "/v1/jobs/{job_id}/results",
    summary="Results of a job",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": Row.model_json_schema()}, PARQUET: {}}}, **_PROBLEMS},
)
def results(
    request: Request,
    job_id: str,
    kind: Annotated[Literal["jsonl", "parquet"], Query(alias="format")] = "jsonl",
    after: Annotated[Count, Query(ge=-1, le=_LAST_ITEM, description=_AFTER)] = -1,
    limit: Annotated[Count | None, Query(ge=1, le=100_000, description=_LIMIT, json_schema_extra=_ROWS)] = None,
) -> Response:
    """Rows in the manifest's order, those that are there: JSON lines, or a Parquet file.

    With `limit` the next page is in the header `Link` (RFC 8288), as long as there may be one.
    """
    store = _store(request)
    job = store.get(job_id)
    if kind == "parquet":
        if limit is not None or after != -1:
            raise BadParameter("a Parquet file has no pages; leave out limit and after, or take format=jsonl")
        from service.jobs.parquet import write_parquet  # 60 MB of memory, for those who want it

        spool: Spool = request.app.state.spool
        file = spool.open()
        try:
            write_parquet((Row.model_validate_json(row) for _, row in _rows(store, job.id)), file.path)
        except BaseException:
            file.close()
            raise
        return FileResponse(
            file.path, media_type=PARQUET, filename=f"{job.id}.parquet", background=BackgroundTask(file.close)
        )
    if limit is None:
        lines = (row + "\n" for _, row in _rows(store, job.id, after))
        return StreamingResponse(lines, media_type=NDJSON)
    page = store.results(job.id, after, limit)
    headers = {}
    if len(page) == limit:
        headers["Link"] = f'</v1/jobs/{job.id}/results?after={page[-1][0]}&limit={limit}>; rel="next"'
    return Response("".join(row + "\n" for _, row in page), media_type=NDJSON, headers=headers)


def _rows(store: JobStore, job_id: str, after: int = -1) -> Iterator[tuple[int, str]]:
    while page := store.results(job_id, after, _PAGE_ROWS):
        yield from page
        after = page[-1][0]


def _store(request: Request) -> JobStore:
    jobs: Jobs = request.app.state.jobs
    return jobs.store


def _time(seconds: float | None) -> Any:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
