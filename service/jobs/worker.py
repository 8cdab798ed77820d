"""Jobs in the background of a service: claims items, predicts at job priority, records, renews its leases."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from service.errors import Cancelled, DiskFull, EngineLost, NotReady
from service.jobs.errors import GaveUp
from service.jobs.items import Row
from service.jobs.job import Claim
from service.metrics import JOB_ITEMS, JOB_ITEMS_RUNNING

if TYPE_CHECKING:
    from service.jobs.store import JobStore  # SQLAlchemy: half a second, for those who keep jobs

log = logging.getLogger(__name__)

# An idle service asks the database so often for work; a new job of its own wakes it at once.
_POLL_SECONDS = 2.0
_MOST_TRIES = 5

Predict = Callable[[Claim, threading.Event], Row]


class JobWorker:
    """One replica's.

    models: sha256 of what it serves now. predict: an item's row; raises Cancelled, DiskFull, EngineLost or NotReady
    where it has none. settled: called after items were recorded, and now and then.
    """

    def __init__(
        self,
        store: JobStore,
        models: Callable[[], Collection[str]],
        predict: Predict,
        *,
        workers: int,
        lease_seconds: float,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._models = models
        self._predict = predict
        self._workers = workers
        self._settled = settled
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[Claim, threading.Event] = {}
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="job-item")  # with 0 it gets nothing to do
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._dispatch, _POLL_SECONDS, self._wake), name="jobs"),
            threading.Thread(
                target=self._repeat, args=(self._renew, lease_seconds / 3.0, self._stopping), name="job-leases"
            ),
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop this replica's items of the job between chunks; others see it when they renew."""
        with self._lock:
            events = [event for claim, event in self._running.items() if claim.job_id == job_id]
        for event in events:
            event.set()

    def stop(self) -> None:
        """Claim no more; what is in progress ends within a chunk, and is given back."""
        self._stopping.set()
        self._wake.set()
        with self._lock:
            for event in self._running.values():
                event.set()

    def close(self) -> None:
        """Stop, and wait for all threads."""
        self.stop()
        self._pool.shutdown(wait=True)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _repeat(self, work: Callable[[], None], every_seconds: float, pause: threading.Event) -> None:
        while not self._stopping.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001  (a database that is away for a while is no reason to end)
                log.warning("jobs: trying again in %g s: %s", every_seconds, error)
            pause.wait(every_seconds)
            if pause is not self._stopping:
                pause.clear()

    def _dispatch(self) -> None:
        with self._lock:
            free = self._workers - len(self._running)
        models = self._models()
        for claim in self._store.claim(free, models) if free and models else []:
            cancelled = threading.Event()
            with self._lock:
                self._running[claim] = cancelled
                JOB_ITEMS_RUNNING.set(len(self._running))
                if self._stopping.is_set():
                    cancelled.set()
            self._pool.submit(self._run, claim, cancelled).add_done_callback(_log_failure)
        self._settled()

    def _renew(self) -> None:
        with self._lock:
            running = dict(self._running)
        for claim in self._store.renew(list(running)):
            running[claim].set()

    def _run(self, claim: Claim, cancelled: threading.Event) -> None:
        try:
            if claim.tries > _MOST_TRIES:
                row = Row.failed(claim.item, GaveUp(f"{claim.tries - 1} times a replica ended with this item in hand"))
            else:
                row = self._predict(claim, cancelled)
            if self._store.record(claim, row):
                JOB_ITEMS.labels(row.status).inc()
            else:
                log.info("job %s item %d: another replica has it, or the job was cancelled", claim.job_id, claim.number)
        except (Cancelled, DiskFull, EngineLost, NotReady) as error:
            if not isinstance(error, Cancelled):
                log.warning("job %s item %d waits again: %s", claim.job_id, claim.number, error)
            self._store.give_back(claim)
        finally:
            with self._lock:
                del self._running[claim]
                JOB_ITEMS_RUNNING.set(len(self._running))
            self._wake.set()


def _log_failure(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("an item of a job failed unforeseen; its lease ends, and it is tried again", exc_info=error)
