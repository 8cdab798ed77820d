"""What errors of s3fs, gcsfs and whatever is below them mean: the service's answer, and whether it may pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.jobs.retries import SourceFailed, retry_after_seconds, status_may_pass

# By their status these would not pass.
_CODES_MAY_PASS = frozenset({"RequestTimeout", "Throttling", "ThrottlingException", "RequestThrottled"})
# No status comes with these, and no second try mends them.
_FINAL = (FileExistsError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class _Answer:
    """What the service said, behind an error. status: 0 where no answer came."""

    status: int = 0
    code: str = ""
    reason: str = ""
    retry_after_seconds: float = 0.0


def failure_of(url: str, error: Exception) -> SourceFailed:
    """As `retrying` takes it. url: where from; s3:// has advice of its own."""
    chain = list(_chain(error))
    answer = next((found for each in chain if (found := _answer(each)).status), _Answer())
    reason = answer.reason or str(error) or type(error).__name__
    if answer.status and str(answer.status) not in reason:
        reason = f"{answer.status} {reason}"
    if (answer.status == 403 or isinstance(error, PermissionError)) and url.startswith("s3"):
        reason += "; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and what they may read"
    if answer.status:
        may_pass = status_may_pass(answer.status) or answer.code in _CODES_MAY_PASS
    else:
        may_pass = not isinstance(error, _FINAL) and any(map(_is_of_the_line, chain))
    return SourceFailed(reason, may_pass=may_pass, retry_after_seconds=answer.retry_after_seconds)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """It, and what it came from; s3fs stumbles over some errors, and raises another."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: BaseException) -> _Answer:
    import aiohttp
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]
    from gcsfs.retry import HttpError  # type: ignore[import-untyped]

    if isinstance(error, ClientError):
        about, said = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        status, wait = int(about.get("HTTPStatusCode", 0)), retry_after_seconds(about.get("HTTPHeaders", {}))
        # Without a body, as of HEAD, the code is the status.
        return _Answer(status, code, f"{status} {message if code == str(status) else f'{code}: {message}'}", wait)
    # One that has a cause is no answer: gcsfs says 401 when it got no token, whatever the reason.
    if isinstance(error, HttpError) and error.__cause__ is None and str(error.code).isdecimal():
        return _Answer(int(error.code))
    if isinstance(error, aiohttp.ClientResponseError):
        return _Answer(error.status, reason=error.message, retry_after_seconds=retry_after_seconds(error.headers or {}))
    if type(error) is OSError and str(error).startswith("Forbidden"):  # of gcsfs, without a status
        return _Answer(403)
    return _Answer()


def _is_of_the_line(error: BaseException) -> bool:
    """Whether it says that no answer came, or not all of one."""
    import aiohttp
    from botocore import exceptions as of_s3  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # some say SlowDown in no XML

    kinds = (of_s3.ConnectionError, of_s3.HTTPClientError, of_s3.IncompleteReadError, ResponseParserError)
    # Errors of google-auth, about tokens, know it themselves.
    return isinstance(error, (OSError, aiohttp.ClientError, *kinds)) or bool(getattr(error, "retryable", False))
