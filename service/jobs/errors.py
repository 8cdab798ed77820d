"""What can go wrong with a batch or a job; the tree is in `service.errors`."""

from __future__ import annotations

from service.errors import ReelserveError


class JobError(ReelserveError):
    """A batch, a job, or an item of one."""

    status = 400
    code = "bad_job"
    title = "Bad job"


class BadInput(JobError):
    """What a batch or a job was given is missing, empty or malformed; nothing was done."""

    code = "bad_input"
    title = "Bad input"


class UriNotAllowed(JobError):
    """A URL that no allowed prefix covers: the service fetches nothing that its operator did not name."""

    status = 403
    code = "uri_not_allowed"
    title = "URI not allowed"


class UnknownJob(JobError):
    """No job has this id, or it was deleted."""

    status = 404
    code = "unknown_job"
    title = "Unknown job"


class TooManyItems(JobError):
    """A job of more items than `max_job_items`."""

    status = 413
    code = "too_many_items"
    title = "Too many items"


class IdempotencyMismatch(JobError):
    """An Idempotency-Key came again with another request (draft-ietf-httpapi-idempotency-key-header)."""

    status = 422
    code = "idempotency_mismatch"
    title = "Idempotency-Key reused"


class FetchFailed(JobError):
    """A file that is elsewhere, or on this disk, can't be read."""

    status = 422
    code = "fetch_failed"
    title = "Fetch failed"


class WrongKey(JobError):
    """What leads to the item's file was encrypted by another `secret_key` than this replica has."""

    status = 500
    code = "wrong_key"
    title = "Wrong key"


class GaveUp(JobError):
    """Several replicas ended while they had an item: it is tried no more."""

    status = 500
    code = "gave_up"
    title = "Gave up"


class JobsUnavailable(JobError):
    """The database of jobs can't be opened, or is away; predictions are answered all the same."""

    status = 503
    code = "jobs_unavailable"
    title = "Jobs unavailable"
