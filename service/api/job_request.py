"""What POST /v1/jobs takes: a manifest as JSON, JSON lines or CSV, or the clips themselves as a form."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from python_multipart.multipart import parse_options_header

from service.api.asked import FIELD, Asked, boundary_of, media_type, models_asked
from service.api.body import Body, check_encoding
from service.api.form import Form
from service.api.job_clips import MAX_CLIPS, Clips
from service.api.json_body import json_object, parsed_items
from service.api.openapi import reference
from service.api.upload import Binary, never_null, spooled
from service.engine.shared import LoadedModel
from service.errors import TooLarge, UnsupportedUpload
from service.jobs.errors import BadInput, TooManyItems
from service.jobs.inputs import Found, once, read_manifest
from service.jobs.items import Item
from service.jobs.job import Job, NewJob, Options, new_id
from service.jobs.service import Jobs
from service.parameters import EndSeconds, JobParameters, StartSeconds
from service.serving import Serving
from service.spool import Spool

_MANIFESTS = {
    b"application/x-ndjson": "body.jsonl", b"application/jsonl": "body.jsonl", b"text/csv": "body.csv",
    b"text/tab-separated-values": "body.tsv",
}  # fmt: skip
_FORM_BYTES = MAX_CLIPS * 1024
# JSON is parsed in memory, some twenty times its size; lines are not.
_MAX_JSON_BYTES = 16 * 1024 * 1024

_Text = Annotated[str, Field(min_length=1, max_length=1024)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class ItemRequest(BaseModel):
    """One clip of a JSON body."""

    model_config = ConfigDict(extra="forbid")

    id: _Text | int | _Number | bool | None = Field(default=None, description="Without it the URI.")
    uri: str = Field(min_length=1, max_length=8192, description="Below one of the service's `job_uri_prefixes`.")
    start_seconds: StartSeconds = 0.0
    end_seconds: EndSeconds = None

    def at(self, place: str) -> Found:
        """The item, which stands there."""
        end = math.inf if self.end_seconds is None else self.end_seconds
        item = Item.of(self.id, self.uri, self.start_seconds, end)
        return Found(item, place, f"{place}.{'uri' if self.id is None else 'id'}")


class JobRequest(JobParameters):
    """A JSON body."""

    items: list[ItemRequest]


class _Clips(BaseModel):
    """Before the parameters."""

    model_config = ConfigDict(json_schema_extra=never_null)

    video: list[Binary] = Field(min_length=1, max_length=MAX_CLIPS, description="A file each.")


class ClipsForm(JobParameters, _Clips):
    """A form with the clips of a job (RFC 7578), and what is asked for."""


# Generators of clients know no lines and no tables: those stand in words.
JOB_BODY: dict[str, Any] = {
    "required": True,
    "description": "A manifest of where the clips are, as JSON; or the clips, as files in fields `video` of a form. "
    "Manifests that are long come as `application/x-ndjson`, a line for each of `items`, or as `text/csv` or "
    "`text/tab-separated-values`, with columns of the same names; what else is wanted is in the query then. A form may "
    "have it in its fields.",
    "content": {
        "application/json": {"schema": reference(JobRequest, "validation")},
        "multipart/form-data": {"schema": reference(ClipsForm, "validation")},
    },
}


async def received_job(request: Request, query: JobParameters, key: str | None) -> Job:
    """Read the request, store its job, wake the worker.

    Raises what its parts are refused for, and JobsUnavailable; nothing is left behind then.
    """
    jobs: Jobs = request.app.state.jobs
    store = await asyncio.to_thread(lambda: jobs.store)
    check_encoding(request)
    new_job = _Request(request, query, key)
    new_job.check()  # what no model takes is refused before the upload
    receive = _clips if media_type(request) == b"multipart/form-data" else _manifest
    folder = jobs.uploads / new_job.id
    try:
        job = await receive(new_job)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise
    if job.id != new_job.id:  # the same job came before
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    jobs.submitted()
    return await asyncio.to_thread(store.get, job.id)


class _Request:
    """A job as its request has it so far."""

    def __init__(self, request: Request, query: JobParameters, key: str | None) -> None:
        self.http = request
        self.asked = Asked(request, query)
        self.asked.more |= media_type(request) == b"application/json"
        self.id = new_id()
        self.jobs: Jobs = request.app.state.jobs
        self.serving: Serving = request.app.state.serving
        self._key = key

    def check(self) -> Sequence[LoadedModel]:
        """The model, as far as it is known. Raises UriNotAllowed, and as `models_asked`."""
        url = self.asked.parameters().webhook_url
        if url is not None:
            self.jobs.check_webhook(url)
        return models_asked(self.asked, self.serving, lambda name: [self.serving.model(name)])

    def store(self, items: Iterator[Item], body_sha256: str, *, uploads: bool = False) -> Job:
        """Once the body has ended; blocks. Raises as `check` does, and as the store."""
        self.asked.close()
        [model], asked = self.check(), self.asked.parameters()
        said = json.dumps([asked.model_dump(mode="json"), body_sha256], sort_keys=True)
        new = NewJob(
            model.document.name, model.sha256, Options(asked.options(), asked.strict, asked.stream),
            hashlib.sha256(said.encode()).hexdigest(), self._key, asked.webhook_url,
        )  # fmt: skip
        return self.jobs.store.get(self.jobs.store.create(self.id, new, items, uploads=uploads))


async def _manifest(new_job: _Request) -> Job:
    request, settings = new_job.http, new_job.serving.settings
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"application/json" and content_type not in _MANIFESTS:
        raise UnsupportedUpload(
            f"Content-Type {content_type.decode('latin-1')!r} is not accepted; send application/json, "
            "application/x-ndjson, text/csv, text/tab-separated-values, or the clips as multipart/form-data with "
            f"fields {FIELD!r}",
            value=content_type.decode("latin-1"),
        )
    if (charset := options.get(b"charset", b"utf-8").lower()) not in (b"utf-8", b"us-ascii"):
        said = charset.decode("latin-1")
        raise UnsupportedUpload(f"charset={said!r} of the manifest is not accepted; send it in UTF-8", value=said)
    spool: Spool = request.app.state.spool
    body = Body(request.scope, request.receive)
    async with spooled(spool) as file:
        async for piece in body.pieces(settings.upload_idle_seconds, settings.upload_seconds):
            await asyncio.to_thread(file.write, piece)
        return await asyncio.to_thread(partial(_store_manifest, new_job, content_type, file.path, file.sha256))


def _store_manifest(new_job: _Request, content_type: bytes, path: Path, sha256: str) -> Job:
    items = (
        _items_of_json(new_job, path)
        if content_type == b"application/json"
        else read_manifest(_MANIFESTS[content_type], path)
    )
    with contextlib.closing(items):
        return new_job.store(_allowed(new_job.jobs, items), sha256)


def _items_of_json(new_job: _Request, path: Path) -> Generator[Found]:
    """Of the body's `items`; what stands beside them is asked for."""
    if (num_bytes := path.stat().st_size) > _MAX_JSON_BYTES:
        raise TooLarge(
            f"the JSON body has {num_bytes} bytes, the limit is {_MAX_JSON_BYTES}; send the items as "
            "application/x-ndjson or text/csv",
            value=num_bytes, limit=_MAX_JSON_BYTES,
        )  # fmt: skip
    said = json_object(path.read_bytes())
    items = said.pop("items", None)
    for name, value in said.items():
        new_job.asked.give(name, value, "in the JSON body")
    return once(item.at(f"items[{number}]") for number, item in enumerate(parsed_items(ItemRequest, items)))


def _allowed(jobs: Jobs, items: Iterator[Found]) -> Iterator[Item]:
    for number, found in enumerate(items, start=1):
        item = found.item
        if number > jobs.max_items:
            raise TooManyItems(
                f"the job has more than {jobs.max_items} items; send several jobs, or raise max_job_items",
                value=number, limit=jobs.max_items,
            )  # fmt: skip
        if item.end_seconds <= item.start_seconds:
            raise BadInput(
                f"{found.where}: end_seconds {item.end_seconds:g} must be after start_seconds {item.start_seconds:g}"
            )
        jobs.check_uri(item.uri)
        yield item


async def _clips(new_job: _Request) -> Job:
    request, settings = new_job.http, new_job.serving.settings
    clips = Clips(new_job.jobs, new_job.id, settings.max_upload_bytes, new_job.asked, new_job.check)
    form = Form(boundary_of(request), clips.take, _FORM_BYTES)
    body = Body(request.scope, request.receive)
    try:
        async for piece in body.pieces(settings.upload_idle_seconds, settings.upload_seconds):
            await asyncio.to_thread(form.feed, piece)
        form.finish()
    finally:
        clips.close()
    clips.finish()
    return await asyncio.to_thread(partial(new_job.store, iter(clips.items), clips.digest(), uploads=True))
