"""What POST /v1/jobs takes: a manifest as JSON, JSON lines or CSV, or the clips themselves as a form."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header

from service.answers import spec_with
from service.api.body import FIELD, Body
from service.api.form import Form, Write
from service.api.openapi import reference
from service.api.query import AnswerQuery
from service.api.upload import Binary, spooled
from service.disk import full_disk_told
from service.engine.shared import LoadedModel
from service.errors import BadParameter, MalformedUpload, TooLarge, UnsupportedUpload
from service.jobs.errors import BadInput, TooManyItems
from service.jobs.inputs import read_manifest
from service.jobs.items import Item
from service.jobs.job import Job, NewJob, Options, new_id
from service.jobs.service import UPLOAD, Jobs
from service.serving import Serving
from service.spool import Spool

_MANIFESTS = {b"application/x-ndjson": "body.jsonl", b"application/jsonl": "body.jsonl", b"text/csv": "body.csv"}
_MAX_CLIPS = 1000
_CLIP_HEADER_BYTES = 1024
# JSON is parsed in memory, some twenty times its size; lines are not.
_MAX_JSON_BYTES = 16 * 1024 * 1024
_REMEDY = "set jobs_dir to a larger disk"


class JobQuery(AnswerQuery):
    """What is wanted of every item; in the query, or in a JSON body beside `items`."""

    model: str | None = Field(default=None, description="Model name; without it the default one.")
    webhook_url: str | None = Field(default=None, description="Told once when the job has finished, by a signed POST.")


_Text = Annotated[str, Field(min_length=1, max_length=1024)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class ItemRequest(BaseModel):
    """One clip of a JSON body."""

    model_config = ConfigDict(extra="forbid")

    id: _Text | int | _Number | bool | None = Field(default=None, description="Without it the URI.")
    uri: str = Field(min_length=1, max_length=8192)
    start_seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    end_seconds: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)

    def to_item(self) -> Item:
        """For the store."""
        end = math.inf if self.end_seconds is None else self.end_seconds
        return Item.of(self.id, self.uri, self.start_seconds, end)


class JobRequest(JobQuery):
    """A JSON body."""

    items: list[ItemRequest]


class ClipsForm(BaseModel):
    """A form with the clips of a job (RFC 7578)."""

    video: list[Binary] = Field(min_length=1, max_length=_MAX_CLIPS, description="A file each.")


# Generators of clients know no lines and no tables: those stand in words.
JOB_BODY: dict[str, Any] = {
    "required": True,
    "description": "A manifest of where the clips are, as JSON; or the clips, as files in fields `video` of a form. "
    "Manifests that are long come as `application/x-ndjson`, a line for each of `items`, or as `text/csv`, "
    "with columns of the same names; what else is wanted is in the query then, as it is with a form.",
    "content": {
        "application/json": {"schema": reference(JobRequest, "validation")},
        "multipart/form-data": {"schema": reference(ClipsForm, "validation")},
    },
}


async def received_job(request: Request, query: JobQuery, key: str | None) -> Job:
    """Read the request, store its job, wake the worker.

    Raises what its parts are refused for, and JobsUnavailable; nothing is left behind then.
    """
    jobs: Jobs = request.app.state.jobs
    store = await asyncio.to_thread(lambda: jobs.store)
    content_type, options = parse_options_header(request.headers.get("content-type"))
    receive = _clips if content_type == b"multipart/form-data" else _manifest
    job_id = new_id()
    folder = jobs.uploads / job_id
    try:
        job = await receive(request, query, key, job_id, content_type, options)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise
    if job.id != job_id:  # the same job came before
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    jobs.submitted()
    return await asyncio.to_thread(store.get, job.id)


async def _manifest(
    request: Request, query: JobQuery, key: str | None, job_id: str, content_type: bytes, _: dict[bytes, bytes]
) -> Job:
    if content_type != b"application/json" and content_type not in _MANIFESTS:
        raise UnsupportedUpload(
            f"Content-Type {content_type.decode('latin-1')!r} is not accepted; send application/json, "
            f"application/x-ndjson, text/csv, or the clips as multipart/form-data with fields {FIELD!r}",
            value=content_type.decode("latin-1"),
        )
    serving: Serving = request.app.state.serving
    spool: Spool = request.app.state.spool
    body = Body(request.scope, request.receive)
    async with spooled(spool) as file:
        async for piece in body.pieces(serving.settings.upload_idle_seconds, serving.settings.upload_seconds):
            await asyncio.to_thread(file.write, piece)
        store = partial(_store_manifest, request, query, key, job_id, content_type, file.path, file.sha256)
        return await asyncio.to_thread(store)


def _store_manifest(
    request: Request, query: JobQuery, key: str | None, job_id: str, content_type: bytes, path: Path, sha256: str
) -> Job:
    jobs: Jobs = request.app.state.jobs
    if content_type == b"application/json":
        if request.query_params:
            raise BadParameter("with a JSON body the query is empty; put its names into the body, beside items")
        if (num_bytes := path.stat().st_size) > _MAX_JSON_BYTES:
            raise TooLarge(
                f"the JSON body has {num_bytes} bytes, the limit is {_MAX_JSON_BYTES}; send the items as "
                "application/x-ndjson or text/csv",
                value=num_bytes, limit=_MAX_JSON_BYTES,
            )  # fmt: skip
        try:
            asked = JobRequest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise BadInput(f"{where}: {first['msg']} (got {str(first.get('input'))[:200]})") from error
        query, items = asked, (item.to_item() for item in asked.items)
    else:
        items = (found.item for found in read_manifest(_MANIFESTS[content_type], path))
    new = _new(request, query, key, sha256)
    return jobs.store.get(jobs.store.create(job_id, new, _allowed(jobs, items)))


def _allowed(jobs: Jobs, items: Iterator[Item]) -> Iterator[Item]:
    for number, item in enumerate(items, start=1):
        if number > jobs.max_items:
            raise TooManyItems(
                f"the job has more than {jobs.max_items} items; send several jobs, or raise max_job_items",
                value=number, limit=jobs.max_items,
            )  # fmt: skip
        if item.end_seconds <= item.start_seconds:
            raise BadInput(
                f"item {item.id}: end_seconds {item.end_seconds:g} must be after start_seconds {item.start_seconds:g}"
            )
        jobs.check_uri(item.uri)
        yield item


async def _clips(
    request: Request, query: JobQuery, key: str | None, job_id: str, _: bytes, options: dict[bytes, bytes]
) -> Job:
    if not options.get(b"boundary"):
        raise MalformedUpload("multipart/form-data without a boundary; let your HTTP library set Content-Type")
    jobs: Jobs = request.app.state.jobs
    serving: Serving = request.app.state.serving
    settings = serving.settings
    clips = _Clips(jobs, job_id, settings.max_upload_bytes)
    form = Form(options[b"boundary"], clips.take, _MAX_CLIPS, _MAX_CLIPS * _CLIP_HEADER_BYTES)
    body = Body(request.scope, request.receive)
    try:
        async for piece in body.pieces(settings.upload_idle_seconds, settings.upload_seconds):
            await asyncio.to_thread(form.feed, piece)
        form.finish()
    finally:
        clips.close()

    def stored() -> Job:
        new = _new(request, query, key, clips.digest())
        return jobs.store.get(jobs.store.create(job_id, new, iter(clips.items), uploads=True))

    return await asyncio.to_thread(stored)


class _Clips:
    """The files of a form, each in a file of its own, numbered."""

    def __init__(self, jobs: Jobs, job_id: str, max_bytes: int) -> None:
        self.items: list[Item] = []
        self._jobs = jobs
        self._folder = jobs.uploads / job_id
        self._max_bytes = max_bytes
        self._file: Any = None
        self._num_bytes = 0
        self._hash = hashlib.sha256()

    def take(self, name: str, file_name: str | None) -> Write:
        """As `Form` asks."""
        if name != FIELD or not file_name:
            raise BadInput(f"the form has a field {name!r}; send clips as files in fields {FIELD!r}, the rest as query")
        self.close()
        self._jobs.check_uploads()
        with full_disk_told(self._folder, _REMEDY):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = (self._folder / str(len(self.items))).open("wb")
        self._num_bytes = 0
        self._hash.update(json.dumps(["clip", file_name]).encode())
        self.items.append(Item(file_name, f"{UPLOAD}{file_name}"))
        return self._write

    def digest(self) -> str:
        """Of all names and bytes."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """After the last byte of a clip."""
        if self._file is not None:
            with full_disk_told(self._folder, _REMEDY):
                self._file.close()

    def _write(self, data: memoryview) -> None:
        self._num_bytes += len(data)
        if self._num_bytes > self._max_bytes:
            raise TooLarge(
                f"{self.items[-1].id} has more than {self._max_bytes} bytes; send a shorter clip, or raise "
                "max_upload_bytes",
                value=self._num_bytes, limit=self._max_bytes,
            )  # fmt: skip
        with full_disk_told(self._folder, _REMEDY):
            self._file.write(data)
        self._hash.update(data)


def _new(request: Request, query: JobQuery, key: str | None, body_sha256: str) -> NewJob:
    serving: Serving = request.app.state.serving
    jobs: Jobs = request.app.state.jobs
    model: LoadedModel = serving.model(query.model)
    options = query.options()
    spec_with(model.document.spec, options)
    if query.webhook_url is not None:
        jobs.check_webhook(query.webhook_url)
    asked = query.model_dump(exclude={"items"}, mode="json")
    digest = hashlib.sha256(json.dumps([asked, body_sha256], sort_keys=True).encode()).hexdigest()
    return NewJob(model.document.name, model.sha256, Options(options, query.strict), digest, key, query.webhook_url)
