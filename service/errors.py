"""The exception tree. The HTTP status and the stable `code` live on the class.

ReelserveError 500 internal
├── RequestError 400 bad_request
│   ├── BadParameter        400 bad_parameter
│   ├── NoFile              400 no_file
│   ├── EmptyFile           400 empty_file
│   ├── MalformedUpload     400 malformed_upload
│   ├── PreflightRefused    400 preflight_refused
│   ├── UnknownModel        404 unknown_model         (service/model_errors.py)
│   ├── ModelNotLoaded      404 model_not_loaded
│   ├── ModelRefused        404 model_refused
│   ├── NotFound            404 not_found
│   ├── MethodNotAllowed    405 method_not_allowed
│   ├── UploadTimeout       408 upload_timeout
│   ├── TooLarge            413 too_large
│   └── UnsupportedUpload   415 unsupported_media_type
├── VideoError 422 bad_video                          (service/video/errors.py)
│   ├── NotAVideo           422 not_a_video
│   ├── NoVideoStream       422 no_video_stream
│   ├── CodecNotSupported   415 codec_not_supported
│   ├── NoDecodableFrame    422 no_decodable_frame
│   ├── CorruptVideo        422 corrupt_video
│   ├── NoSuchStream        422 no_such_stream
│   ├── RegionOutside       422 region_outside
│   ├── TooShort            422 too_short
│   ├── PastTheEnd          422 past_the_end
│   ├── TooLong             413 too_long
│   ├── TooLongForOnline    413 too_long_for_online
│   ├── TooManyPixels       413 too_many_pixels
│   ├── TooManyFrames       413 too_many_frames
│   ├── DecodeTimeout       422 decode_timeout
│   ├── DecodeMemory        422 decode_memory
│   └── DecoderCrashed      422 decoder_crashed
├── JobError 400 bad_job                              (service/jobs/errors.py)
│   ├── BadInput            400 bad_input
│   ├── UriNotAllowed       403 uri_not_allowed
│   ├── UnknownJob          404 unknown_job
│   ├── TooManyItems        413 too_many_items
│   ├── IdempotencyMismatch 422 idempotency_mismatch
│   ├── FetchFailed         422 fetch_failed
│   ├── GaveUp              500 gave_up
│   ├── WrongKey            500 wrong_key
│   └── JobsUnavailable     503 jobs_unavailable
├── Busy                    429 busy
├── Cancelled               499 cancelled
├── EngineFailed            500 engine_failed
├── NotReady                503 not_ready
├── Overloaded              503 overloaded
├── DecoderLost             503 decoder_lost          (service/video/errors.py)
├── EngineLost              503 engine_lost
├── SpoolFull               503 spool_full
├── DeadlineExceeded        504 deadline_exceeded
├── DiskFull                507 disk_full
└── BundleError             500 bad_bundle

Every message names the value, the limit it broke and the remedy. Over HTTP each becomes an RFC 9457
problem details object (`application/problem+json`); `limit` and `value` are extension members. URLs in them have no
query, whoever wrote the message. Its `type` leads to the error's paragraph in /docs/errors, which is made of the first
line of each docstring and of `remedy`.
"""

from __future__ import annotations

from typing import ClassVar

from service.redaction import scrubbed, scrubbed_value


class ReelserveError(Exception):
    """Root of the tree."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    remedy: ClassVar[str] = "a bug: the log has it under the answer's `request_id`"
    retry_after_seconds: int | None = None

    def __init__(
        self, detail: str, *, value: object = None, limit: object = None, retry_after_seconds: int | None = None
    ) -> None:
        self.detail = scrubbed(detail)
        super().__init__(self.detail)
        self.value = scrubbed_value(value)
        self.limit = limit
        if retry_after_seconds is not None:  # where the real drain rate is known
            self.retry_after_seconds = retry_after_seconds

    @classmethod
    def when(cls) -> str:
        """What it means, in one line."""
        return "An error that nobody foresaw." if cls is ReelserveError else (cls.__doc__ or "").partition("\n")[0]


class RequestError(ReelserveError):
    """The request is wrong whatever the video."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    remedy = "the detail names what is wrong"


class BadParameter(RequestError):
    """A parameter is unknown, malformed, out of range or given twice: in query, form, JSON or header."""

    code = "bad_parameter"
    title = "Bad parameter"
    remedy = "the detail names the parameter and what it may be"


class NoFile(RequestError):
    """The request carries no video."""

    code = "no_file"
    title = "No file"
    remedy = "send the file in the form's field `video`, or as the raw body"


class EmptyFile(RequestError):
    """The video has zero bytes."""

    code = "empty_file"
    title = "Empty file"
    remedy = "send the whole file"


class MalformedUpload(RequestError):
    """The multipart body breaks RFC 7578."""

    code = "malformed_upload"
    title = "Malformed upload"
    remedy = "let an HTTP library make the form, with that one file in it"


class PreflightRefused(RequestError):
    """A browser asks whether a page may call (a CORS preflight), and it may not."""

    code = "preflight_refused"
    title = "Preflight refused"
    remedy = "the setting `cors_origins` has the pages that may call"


class NotFound(RequestError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"
    title = "Not found"
    remedy = "`/docs` has the paths"


class MethodNotAllowed(RequestError):
    """The path is there, and takes other methods."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"
    remedy = "the header `Allow` has the methods that it takes"


class UploadTimeout(RequestError):
    """The client sends nothing for `upload_idle_seconds`, or for longer than `upload_seconds` in all."""

    status = 408
    code = "upload_timeout"
    title = "Upload timeout"
    remedy = "send faster, or raise the setting"


class TooLarge(RequestError):
    """The body has more bytes than `max_upload_bytes`."""

    status = 413
    code = "too_large"
    title = "Upload too large"
    remedy = "send a smaller file, or raise the setting"


class UnsupportedUpload(RequestError):
    """The body is neither multipart/form-data nor video/*."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"
    remedy = "`multipart/form-data`, `video/*` or `application/octet-stream`"


class Busy(ReelserveError):
    """The work that waits would make this request miss its deadline: it is refused before it costs anything."""

    status = 429
    code = "busy"
    title = "Busy"
    remedy = "again after `Retry-After`, or allow more with `X-Request-Timeout`"
    retry_after_seconds = 2


class Cancelled(ReelserveError):
    """The client went away, or the service stops; nobody reads this (499 as nginx has it)."""

    status = 499
    code = "cancelled"
    title = "Cancelled"
    remedy = "nothing"


class EngineFailed(ReelserveError):
    """The runtime failed on this clip, alone and twice; its neighbours were answered."""

    code = "engine_failed"
    title = "Engine failed"
    remedy = "the log has the runtime's words; a float16 encoder may overflow"


class NotReady(ReelserveError):
    """Models are still being verified, loaded or warmed up, or one of them is refused."""

    status = 503
    code = "not_ready"
    title = "Not ready"
    remedy = "wait; `/readyz` says what is missing"
    retry_after_seconds = 2


class Overloaded(ReelserveError):
    """As many requests as `max_requests_in_flight` are being served."""

    status = 503
    code = "overloaded"
    title = "Overloaded"
    remedy = "again after `Retry-After`"
    retry_after_seconds = 2


class EngineLost(ReelserveError):
    """The device is in an error that only a new process mends (a sticky CUDA error); this one ends."""

    status = 503
    code = "engine_lost"
    title = "Engine lost"
    remedy = "again after `Retry-After`; look at the device"
    retry_after_seconds = 10


class SpoolFull(ReelserveError):
    """Uploads in flight fill `spool_quota_bytes`."""

    status = 503
    code = "spool_full"
    title = "Spool full"
    remedy = "again after `Retry-After`, or raise the setting"
    retry_after_seconds = 2


class DeadlineExceeded(ReelserveError):
    """The request's deadline passed before its answer was ready."""

    status = 504
    code = "deadline_exceeded"
    title = "Deadline exceeded"
    remedy = "again later, allow more with `X-Request-Timeout`, or send it to `/v1/jobs`"


class DiskFull(ReelserveError):
    """A file system has no space left (ENOSPC, EDQUOT): the one of `spool_dir`, or of a batch's output."""

    status = 507
    code = "disk_full"
    title = "Disk full"
    remedy = "free space, or set `spool_dir` to a larger disk"


class BundleError(ReelserveError):
    """A bundle can't be read: a file is missing or breaks its schema."""

    code = "bad_bundle"
    title = "Bad bundle"
    remedy = "export the bundle again"
