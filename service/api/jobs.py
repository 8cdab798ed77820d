"""/v1/jobs: many clips in one request, done in the background, whatever happens to this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field, TypeAdapter
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

from service.api.job_request import JOB_BODY, received_job
from service.api.job_status import JobList, JobStatus
from service.api.methods import Router
from service.api.openapi import headers, problems, reference
from service.api.upload import Binary
from service.disk import full_disk_told
from service.errors import (
    BadParameter,
    DiskFull,
    MalformedUpload,
    NoFile,
    NotReady,
    SpoolFull,
    TooLarge,
    UnsupportedUpload,
    UploadTimeout,
)
from service.jobs.errors import (
    BadInput,
    IdempotencyMismatch,
    JobError,
    JobsUnavailable,
    TooManyItems,
    UnknownJob,
    UriNotAllowed,
)
from service.jobs.items import Row
from service.jobs.service import Jobs
from service.model_errors import MODEL_ERRORS
from service.parameters import NUMBER, JobParameters
from service.spool import Spool
from service.wording import UNIT

if TYPE_CHECKING:
    from service.jobs.store import JobStore  # SQLAlchemy: half a second, for those who keep jobs

router = Router(tags=["jobs"])

_PAGE_ROWS = 1000
_LAST_ITEM = 2**31 - 1  # as the column is
_AFTER = "Number of an item, from 0 in the manifest's order: rows after that one; -1: from the first."
_LIMIT = "Most rows of a page; without it all."
_Rows = Annotated[int, Field(ge=1, le=100_000), NUMBER]
NDJSON, CSV, PARQUET = "application/x-ndjson", "text/csv", "application/vnd.apache.parquet"
# Of one job, whose path has its id.
_LINKS = {
    name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}, "description": what}
    for name, what in (
        ("get_job", "The job as it stands."),
        ("get_job_results", "Its results, as far as they are there."),
        ("cancel_job", "Cancel it."),
    )
}


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
    responses=problems(
        JobError,
        BadInput,
        NoFile,
        MalformedUpload,
        UriNotAllowed,
        *MODEL_ERRORS,
        UploadTimeout,
        TooLarge,
        TooManyItems,
        UnsupportedUpload,
        IdempotencyMismatch,
        JobsUnavailable,
        NotReady,
        SpoolFull,
        DiskFull,
    )
    | {202: {"links": _LINKS, **headers("Location")}},
    openapi_extra={"requestBody": JOB_BODY},
    summary="Submit a job",
)
async def create_job(
    request: Request, query: Annotated[JobParameters, Query()], key: IdempotencyKey = None
) -> Response:
    """Many clips in one request: a manifest of URIs, or the clips themselves. They are done in the background.

    `curl -F video=@a.mp4 -F video=@b.mp4 http://127.0.0.1:3000/v1/jobs`
    """
    job = await received_job(request, query, key)
    return Response(
        JobStatus.of(job).model_dump_json(), 202, {"Location": f"/v1/jobs/{job.id}"}, media_type="application/json"
    )


MostJobs = Annotated[
    int, Field(ge=1, le=1000), NUMBER, Query(description="Most jobs of the answer.", json_schema_extra={UNIT: "jobs"})
]


@router.get("/v1/jobs", summary="List jobs", responses=problems(JobsUnavailable))
def list_jobs(request: Request, limit: MostJobs = 100) -> JobList:
    """The newest first."""
    return JobList(jobs=[JobStatus.of(job) for job in _store(request).newest(limit)])


@router.get("/v1/jobs/{job_id}", summary="Show a job", responses=problems(BadInput, UnknownJob, JobsUnavailable))
def get_job(request: Request, job_id: str) -> JobStatus:
    """Its state, its items by state, its rate, and when it will have finished."""
    return JobStatus.of(_store(request).get(job_id))


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job, or delete it",
    responses=problems(BadInput, UnknownJob, JobsUnavailable),
)
def cancel_job(
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
    responses=problems(BadInput, UnknownJob, JobsUnavailable, DiskFull)
    | {
        200: {
            "content": {
                NDJSON: {"schema": reference(Row)},  # of each line
                CSV: {"schema": TypeAdapter(str).json_schema()},
                PARQUET: {"schema": TypeAdapter(Binary).json_schema()},
            },
            **headers("Link", "Content-Disposition"),
        }
    },
)
def get_job_results(
    request: Request,
    job_id: str,
    kind: Annotated[Literal["jsonl", "csv", "parquet"], Query(alias="format")] = "jsonl",
    after: Annotated[int, Field(ge=-1, le=_LAST_ITEM), NUMBER, Query(description=_AFTER)] = -1,
    limit: Annotated[_Rows | None, Query(description=_LIMIT, json_schema_extra={UNIT: "rows"})] = None,
) -> Response:
    """Rows in the manifest's order, those that are there: JSON lines, CSV with a header, or a Parquet file.

    With `limit` the next page is in the header `Link` (RFC 8288), as long as there may be one.
    """
    store = _store(request)
    job = store.get(job_id)
    if kind == "parquet":
        if limit is not None or after != -1:
            raise BadParameter("a Parquet file has no pages; leave out limit and after, or take format=jsonl")
        return _parquet(request, store, job.id)
    media_type = CSV if kind == "csv" else NDJSON
    if limit is None:
        rows = _rows(store, job.id, after) if request.method != "HEAD" else ()
        return StreamingResponse(_lines(rows, kind), media_type=media_type)
    page = store.results(job.id, after, limit)
    links = {}
    if len(page) == limit:
        links["Link"] = f'</v1/jobs/{job.id}/results?format={kind}&after={page[-1][0]}&limit={limit}>; rel="next"'
    return Response(b"".join(_lines(page, kind)), media_type=media_type, headers=links)


def _lines(rows: Iterable[tuple[int, str]], kind: str) -> Iterator[bytes]:
    if kind == "jsonl":
        yield from (row.encode() + b"\n" for _, row in rows)
        return
    from service.jobs.lines import CSV_HEADER, csv_line

    yield CSV_HEADER
    yield from (csv_line(Row.model_validate_json(row)) for _, row in rows)


def _parquet(request: Request, store: JobStore, job_id: str) -> Response:
    from service.jobs.parquet import write_parquet  # 60 MB of memory, for those who want it

    name = f"{job_id}.parquet"
    if request.method == "HEAD":
        # Streamed, as a Content-Length of 0 would say what GET does not (RFC 9110, 8.6).
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse((), media_type=PARQUET, headers=disposition)
    spool: Spool = request.app.state.spool
    file = spool.open()
    try:
        with full_disk_told(file.path, "set spool_dir to a larger disk"):
            write_parquet((Row.model_validate_json(row) for _, row in _rows(store, job_id)), file.path)
    except BaseException:
        file.close()
        raise
    return _WholeFile(file.path, media_type=PARQUET, filename=name, background=BackgroundTask(file.close))


class _WholeFile(FileResponse):
    """Made for this request alone: a part of it would be one of another file."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del self.headers["Accept-Ranges"]
        asked = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": asked}, receive, send)


def _rows(store: JobStore, job_id: str, after: int = -1) -> Iterator[tuple[int, str]]:
    while page := store.results(job_id, after, _PAGE_ROWS):
        yield from page
        after = page[-1][0]


def _store(request: Request) -> JobStore:
    jobs: Jobs = request.app.state.jobs
    return jobs.store
