"""Jobs of a running service: the store, this replica's worker, webhooks, uploads that wait, and what is too old."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import SpoolFull
from service.fairness import Priority
from service.jobs.allowed import check_allowed, prefixes_of
from service.jobs.errors import JobsUnavailable, UnknownJob, WrongKey
from service.jobs.items import Row
from service.jobs.job import Claim, Job
from service.jobs.kept import kept, made_key
from service.jobs.predictor import Predictor
from service.jobs.remote import Remote
from service.jobs.webhooks import Webhooks
from service.jobs.worker import JobWorker
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool

if TYPE_CHECKING:
    from service.jobs.store import JobStore  # SQLAlchemy: half a second, for those who keep jobs

log = logging.getLogger(__name__)

_OPEN_AGAIN_SECONDS = 5.0
_EXPIRE_SECONDS = 60.0
_WEBHOOK_POLL_SECONDS = 2.0
# Of one job a thousand clips may come, and there may be as many of a hundred others: counted for each, that took 8 s.
_COUNT_SECONDS = 1.0
UPLOAD = "upload:"


class Jobs:
    """A database that is away is tried again for ever, and predictions go on.

    Who never had a job does without one: SQLite's file, and SQLAlchemy in memory, come with the first job.
    """

    def __init__(self, settings: Settings, serving: Serving, spool: Spool, body: Callable[[Job], str]) -> None:
        """body: what a webhook is told of a job."""
        self._settings = settings
        self._serving = serving
        self._body = body
        self.uri_prefixes = prefixes_of(settings.job_uri_prefixes)
        self.webhook_prefixes = prefixes_of(settings.job_webhook_prefixes)
        self.max_items = settings.max_job_items
        self.uploads = settings.jobs_dir / "uploads"
        self._remote = Remote(self.uri_prefixes, spool, "the setting job_uri_prefixes")
        self._file = settings.jobs_dir.absolute() / "jobs.sqlite"
        self._store: JobStore | None = None
        self._opening = threading.Lock()
        self._worker: JobWorker | None = None
        self._webhooks: Webhooks | None = None
        self._reason = "the service starts"
        self._upload_bytes = 0
        self._count_again = 0.0
        self._stopping = threading.Event()
        self._housekeeping = threading.Thread(target=self._keep_house, name="jobs-house", daemon=True)
        self._told = threading.Event()
        self._telling = threading.Thread(target=self._tell, name="jobs-webhooks", daemon=True)

    def start(self) -> None:
        """Open the database where there is one, or go on trying in the background; blocks for some seconds at most."""
        self._open(wanted=False)
        self._housekeeping.start()
        self._telling.start()

    @property
    def store(self) -> JobStore:
        """Blocks for a second where it is not open yet. Raises JobsUnavailable."""
        if self._store is None and not self._reason:
            self._open(wanted=True)
        if self._store is None:
            raise JobsUnavailable(
                f"jobs can't be kept: {self._reason or 'the service stops'}; see jobs_dir and jobs_url"
            )
        return self._store

    def check_uri(self, uri: str) -> None:
        """Raises UriNotAllowed."""
        check_allowed(uri, self.uri_prefixes, "the setting job_uri_prefixes")

    def check_webhook(self, url: str) -> None:
        """Raises UriNotAllowed."""
        check_allowed(url, self.webhook_prefixes, "the setting job_webhook_prefixes")

    def check_uploads(self) -> None:
        """Before another one is taken. Raises SpoolFull."""
        if time.monotonic() > self._count_again:
            self._upload_bytes = sum(map(_num_bytes, self.uploads.iterdir() if self.uploads.is_dir() else ()))
            self._count_again = time.monotonic() + _COUNT_SECONDS
        if (used := self._upload_bytes) >= (limit := self._settings.job_uploads_quota_bytes):
            raise SpoolFull(
                f"uploads of jobs that wait hold {used} of {limit} bytes; wait for those jobs, or raise "
                "job_uploads_quota_bytes",
                value=used, limit=limit,
            )  # fmt: skip

    def submitted(self) -> None:
        """There is a new job."""
        self._count_again = 0.0
        if self._worker:
            self._worker.wake()

    def cancel(self, job_id: str) -> Job:
        """Raises UnknownJob, JobsUnavailable."""
        job = self.store.cancel(job_id)
        if self._worker:
            self._worker.cancel(job_id)
        return job

    def delete(self, job_id: str) -> None:
        """Cancel it, and forget all of it. Raises UnknownJob, JobsUnavailable."""
        self.cancel(job_id)
        self.store.delete(job_id)
        shutil.rmtree(self.uploads / job_id, ignore_errors=True)

    def stop(self) -> None:
        """Begin nothing new; what is in progress is given back, to another replica or to the next start."""
        self._stopping.set()
        self._told.set()
        if self._worker:
            self._worker.stop()

    def close(self) -> None:
        """Stop, and wait for it."""
        self.stop()
        if self._worker:
            self._worker.close()

    def _keep_house(self) -> None:
        while self._store is None and not self._stopping.wait(_OPEN_AGAIN_SECONDS):
            if self._reason or self._file.exists():
                self._open(wanted=False)
        while not self._stopping.wait(_EXPIRE_SECONDS):
            try:
                self.store.expire(self._settings.job_retention_seconds)
                self._sweep_uploads()
                self._warn_of_keys()
            except (JobsUnavailable, OSError) as error:
                log.warning("jobs: old ones stay for now: %s", error)

    def _sweep_uploads(self) -> None:
        """Of jobs that have ended, and of requests that never became one."""
        for folder in self.uploads.iterdir() if self.uploads.is_dir() else ():
            try:
                needed = self.store.get(folder.name).finished is None
            except UnknownJob:
                needed = time.time() - folder.stat().st_mtime < 2 * self._settings.upload_seconds
            if not needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _warn_of_keys(self) -> None:
        items, webhooks = self.store.num_unreadable()
        if items or webhooks:
            log.warning(
                "jobs: %d items and %d webhooks wait for a secret_key that this replica does not have; set it here "
                "too, behind the others, or cancel their jobs", items, webhooks,
            )  # fmt: skip

    def _tell(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._webhooks:
                    self._webhooks.send_due()
            except JobsUnavailable as error:
                log.warning("jobs: webhooks wait: %s", error)
            except Exception:  # those of others are sent all the same
                log.exception("jobs: webhooks wait")
            self._told.wait(_WEBHOOK_POLL_SECONDS)
            self._told.clear()

    def _open(self, *, wanted: bool) -> None:
        """wanted: there is a use for it, even if there is none yet. An error is in `_reason`."""
        with self._opening:
            if self._store is not None or self._stopping.is_set():
                return
            try:
                self._settings.jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                # A name of the folder: who shares it has the same uploads.
                place = kept(self._settings.jobs_dir, "place", str(uuid.uuid4()))
                if not self._settings.secret_keys():
                    made_key(self._settings.jobs_dir)
                if wanted or self._settings.jobs_url or self._file.exists():
                    self._open_database(place)
                self._reason = ""
            except (JobsUnavailable, OSError) as error:
                self._reason = str(error)
                log.warning("jobs can't be kept, trying again: %s", self._reason)

    def _open_database(self, place: str) -> None:
        from service.jobs.database import open_database
        from service.jobs.keys import Keys
        from service.jobs.store import JobStore

        settings = self._settings
        url = settings.jobs_url
        keys = Keys.of(settings)
        engine = open_database(url.get_secret_value() if url else f"sqlite:///{self._file}", keys)
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        store = JobStore(engine, keys=keys, owner=owner, place=place, lease_seconds=settings.job_lease_seconds)
        if key := settings.job_webhook_secret:
            self._webhooks = Webhooks(store, key.get_secret_value(), self.check_webhook, self._body)
        self._worker = JobWorker(
            store, self._models, self._predict, workers=settings.max_job_items_in_progress,
            lease_seconds=settings.job_lease_seconds, settled=self._settled,
        )  # fmt: skip
        self._store = store
        self._worker.start()

    def _models(self) -> Collection[str]:
        return [model.sha256 for model in self._serving.models.values()]

    def _predict(self, claim: Claim, cancelled: threading.Event) -> Row:
        [model] = [model for model in self._serving.models.values() if model.sha256 == claim.model_sha256]
        predict = Predictor(self._serving, model, self._remote, claim.options, Priority.JOB, cancelled)
        uploaded = self.uploads / claim.job_id / str(claim.number) if claim.item.uri.startswith(UPLOAD) else None
        try:
            item = self.store.item(claim)
        except WrongKey as error:
            return Row.failed(claim.item, error)
        return predict(item, uploaded)

    def _settled(self) -> None:
        if self.store.finish():
            self._told.set()


def _num_bytes(folder: Path) -> int:
    """Of the files in it; none once it is gone."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except FileNotFoundError:  # its job has ended meanwhile
        return 0
