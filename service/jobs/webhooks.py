"""Telling somebody that a job has finished: signed, tried again with growing pauses, and never lost.

Signed as Standard Webhooks 1.0 has it (standardwebhooks.com): HMAC-SHA256 of `id.timestamp.body`. What is due stands in
the database, so that another replica goes on where one ends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from service.jobs.errors import UriNotAllowed, WrongKey
from service.jobs.job import Job
from service.jobs.web import request_line
from service.metrics import JOB_WEBHOOKS

if TYPE_CHECKING:
    from service.jobs.store import JobStore  # SQLAlchemy: half a second, for those who keep jobs

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 3600.0
_TRIES = 12  # over some two hours and a half


def pause_seconds(tries: int) -> float:
    """Before the next try, after so many."""
    return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 30))


def key_of(secret: str) -> bytes:
    """`whsec_` and base64, as the libraries of the standard make them; or any text."""
    return base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,…`, the value of the header `webhook-signature`."""
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Webhooks:
    """check: raises UriNotAllowed for a URL that may not be called (any more). body: what is told of a job, JSON."""

    def __init__(self, store: JobStore, secret: str, check: Callable[[str], None], body: Callable[[Job], str]) -> None:
        self._store = store
        self._key = key_of(secret)
        self._check = check
        self._body = body

    def send_due(self) -> None:
        """All that is due now. Raises what the database raises.

        A receiver that fails is asked again later; whatever else is wrong with a webhook ends that one alone.
        """
        while job := self._store.due_webhook():
            try:
                self._send(job)
            except httpx.HTTPError as error:
                again = None if job.webhook_tries >= _TRIES else pause_seconds(job.webhook_tries)
                self._failed(job, str(error) or type(error).__name__, again)
            except (UriNotAllowed, WrongKey) as error:
                self._failed(job, error.detail, None)
            except Exception as error:
                log.exception("webhook of job %s failed unforeseen", job.id)
                self._failed(job, f"{type(error).__name__}; a fault of ours, the log has its trace", None)
            else:
                JOB_WEBHOOKS.labels("delivered").inc()
                self._store.webhook_delivered(job.id)

    def _failed(self, job: Job, why: str, again_seconds: float | None) -> None:
        """again_seconds: from now; None gives up."""
        JOB_WEBHOOKS.labels("given_up" if again_seconds is None else "failed").inc()
        self._store.webhook_failed(job.id, why, again_seconds)
        log.warning("webhook of job %s, try %d: %s", job.id, job.webhook_tries, why)

    def _send(self, job: Job) -> None:
        url = self._store.webhook(job)
        self._check(url)
        body, timestamp = self._body(job).encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": job.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, job.id, timestamp, body),
        }
        with httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client:
            answer = client.post(**request_line(url), content=body, headers=headers)
        if not answer.is_success:  # a redirect too: it might lead to a host that nobody allowed
            said = f"{answer.status_code} of {job.webhook_url}"
            raise httpx.HTTPStatusError(said, request=answer.request, response=answer)
