"""s3://, gs:// and whatever else fsspec knows: listed, and read block by block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import fsspec

from service.jobs.errors import BadInput
from service.jobs.retries import SourceFailed, retry_after_seconds, status_may_pass
from service.redaction import hidden

Takes = Callable[[str], bool]

_CHUNK_BYTES = 1024 * 1024
# What one range request brings.
_BLOCK_BYTES = 8 * 1024 * 1024
# A request of S3 is tried so often, then the whole file: s3fs' own five times botocore's five are too many of a
# service that says SlowDown.
_S3_OPTIONS = {"config_kwargs": {"retries": {"total_max_attempts": 2, "mode": "standard"}}}
_S3, _GS = ("s3", "s3a"), ("gs", "gcs")
# By their status these would not pass.
_CODES_MAY_PASS = frozenset({"RequestTimeout", "Throttling", "ThrottlingException", "RequestThrottled"})
# No status comes with these, and no second try mends them.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def listed(url: str, below: Takes, matching: Takes) -> Iterator[str]:
    """As `Remote.listed`. Raises BadInput, SourceFailed."""
    with _failures_told(url):
        system, path = _system(url)
        kind = _kind(system, path)
        if kind == "file":
            yield url
        elif kind == "directory":
            yield from map(system.unstrip_protocol, filter(below, sorted(system.find(path))))
        elif fsspec.core.has_magic(path):
            found = system.glob(path, detail=True)
            files = sorted(name for name in found if found[name]["type"] == "file")
            yield from map(system.unstrip_protocol, filter(matching, files))
        else:
            raise BadInput(f"{hidden(url)} is no file or folder", value=hidden(url))


def _kind(system: Any, path: str) -> str | None:
    """`file`, `directory`, or None where nothing is."""
    try:
        return str(system.info(path)["type"])
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def opened(url: str) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """Its length, and its bytes, piece by piece. Raises SourceFailed, also between pieces."""
    with _failures_told(url):
        system, path = _system(url)
        # No prefetching in the background: it would write each failure to the log, thrice.
        stream = system.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
    with contextlib.closing(stream):
        yield stream.size, _pieces(url, stream)


def _pieces(url: str, stream: Any) -> Iterator[bytes]:
    num_bytes = 0
    with _failures_told(url):
        while piece := stream.read(_CHUNK_BYTES):
            num_bytes += len(piece)
            yield piece
    if stream.size is not None and num_bytes != stream.size:
        raise SourceFailed(f"{num_bytes} of {stream.size} bytes came", may_pass=True)


def _system(url: str) -> tuple[Any, str]:
    # Else gcsfs asks of each bucket what takes a right of its own, and gRPC.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    scheme = urlsplit(url).scheme
    kind = fsspec.get_filesystem_class(scheme)
    # Not by `url_to_fs`: it takes `::` in a name for a chain of file systems.
    # Of gs:// a `#` would begin a version of the object.
    options = {} if scheme in _GS else kind._get_kwargs_from_urls(url)
    system = kind(**options, **(_S3_OPTIONS if scheme in _S3 else {}))
    if scheme in _S3:
        system.retries = 1
    return system, kind._strip_protocol(url)


@contextlib.contextmanager
def _failures_told(url: str) -> Iterator[None]:
    """File systems have errors of their own; what they have in common is Exception."""
    try:
        yield
    except (BadInput, SourceFailed):
        raise
    except Exception as error:
        raise _failure(url, error) from error


@dataclass(frozen=True)
class _Answer:
    """What the service said, behind an error. status: 0 where no answer came."""

    status: int = 0
    code: str = ""
    reason: str = ""
    retry_after_seconds: float = 0.0


def _failure(url: str, error: Exception) -> SourceFailed:
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
    if isinstance(error, HttpError) and str(error.code).isdecimal():
        return _Answer(int(error.code))
    if isinstance(error, aiohttp.ClientResponseError):
        return _Answer(error.status, reason=error.message)
    if type(error) is OSError and str(error).startswith("Forbidden"):  # of gcsfs, without a status
        return _Answer(403)
    return _Answer()


def _is_of_the_line(error: BaseException) -> bool:
    """Whether it says that no answer came, or not all of one."""
    import aiohttp
    from botocore import exceptions as of_s3  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # some say SlowDown in no XML

    kinds = (of_s3.ConnectionError, of_s3.HTTPClientError, of_s3.IncompleteReadError, ResponseParserError)
    return isinstance(error, (OSError, aiohttp.ClientError, *kinds))
