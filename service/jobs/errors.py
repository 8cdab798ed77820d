"""What can go wrong with a batch or a job; the tree is in `service.errors`."""

from __future__ import annotations

from service.errors import ReelserveError


class JobError(ReelserveError):
    """A batch, a job, or an item of one."""

    status = 400
    code = "bad_job"
    title = "Bad job"
    remedy = "the detail names what is wrong"


class BadInput(JobError):
    """What a batch or a job was given is missing, empty or malformed; nothing was done."""

    code = "bad_input"
    title = "Bad input"
    remedy = "the detail names the input, and a manifest's line"


class UriNotAllowed(JobError):
    """A URL that no allowed prefix covers: the service fetches nothing that its operator did not name."""

    status = 403
    code = "uri_not_allowed"
    title = "URI not allowed"
    remedy = "`job_uri_prefixes`, `job_webhook_prefixes`, or `batch --allow` name what is"


class UnknownJob(JobError):
    """No job has this id, or it was deleted."""

    status = 404
    code = "unknown_job"
    title = "Unknown job"
    remedy = "`/v1/jobs` lists them; finished ones go after `job_retention_seconds`"


class TooManyItems(JobError):
    """A job of more items than `max_job_items`."""

    status = 413
    code = "too_many_items"
    title = "Too many items"
    remedy = "send several jobs, or raise the setting"


class IdempotencyMismatch(JobError):
    """An Idempotency-Key came again with another request (draft-ietf-httpapi-idempotency-key-header)."""

    status = 422
    code = "idempotency_mismatch"
    title = "Idempotency-Key reused"
    remedy = "a key for each request"


class FetchFailed(JobError):
    """A file that is elsewhere, or on this disk, can't be read."""

    status = 422
    code = "fetch_failed"
    title = "Fetch failed"
    remedy = "the detail has the reason; what may pass (429, 5xx, a lost connection) was tried four times"


class WrongKey(JobError):
    """What leads to the item's file can't be decrypted: the database, or `secret_key`, was changed by hand."""

    status = 500
    code = "wrong_key"
    title = "Wrong key"
    remedy = "submit the item again; items of a key that a replica lacks wait for one that has it"


class GaveUp(JobError):
    """Several replicas ended while they had an item: it is tried no more."""

    status = 500
    code = "gave_up"
    title = "Gave up"
    remedy = "look for what kills replicas: the kernel's out-of-memory killer, a driver"


class JobsUnavailable(JobError):
    """The database of jobs can't be opened, or is away; predictions are answered all the same."""

    status = 503
    code = "jobs_unavailable"
    title = "Jobs unavailable"
    remedy = "the detail has the reason; predictions are answered all the same"
    retry_after_seconds = 5  # it is opened again as often
