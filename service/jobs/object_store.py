"""s3://, gs:// and whatever else fsspec knows: listed, and read block by block, each retried by `retrying`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fsspec

from service.jobs.errors import BadInput
from service.jobs.failures import failure_of
from service.jobs.retries import SourceFailed, retrying, status_may_pass
from service.redaction import hidden

if TYPE_CHECKING:
    import aiohttp

Takes = Callable[[str], bool]

_CHUNK_BYTES = 1024 * 1024
# What one range request brings.
_BLOCK_BYTES = 8 * 1024 * 1024
_S3, _GS = ("s3", "s3a"), ("gs", "gcs")


def listed(url: str, below: Takes, matching: Takes) -> Iterator[str]:
    """As `Remote.listed`. Raises BadInput, SourceFailed."""
    with _failures_told(url):
        system, path = _system(url)
    # All of a listing or nothing: a try that broke off has told no file that the next one tells again.
    kind, files = retrying(threading.Event(), _failures_told(url)(_listed), system, path)
    if kind == "file":
        yield url
    elif kind == "directory" or fsspec.core.has_magic(path):
        yield from map(system.unstrip_protocol, filter(below if kind == "directory" else matching, files))
    else:
        raise BadInput(f"{hidden(url)} is no file or folder", value=hidden(url))


def _listed(system: Any, path: str) -> tuple[str | None, list[str]]:
    """Its kind, and the files below it, or that it matches if nothing is there; sorted."""
    kind = _kind(system, path)
    if kind == "directory":
        return kind, sorted(system.find(path))
    found = system.glob(path, detail=True) if kind != "file" and fsspec.core.has_magic(path) else {}
    return kind, sorted(name for name in found if found[name]["type"] == "file")


def _kind(system: Any, path: str) -> str | None:
    """`file`, `directory`, or None where nothing is."""
    try:
        return str(system.info(path)["type"])
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def opened(url: str, cancelled: threading.Event) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """Its length, and its bytes, piece by piece. Raises SourceFailed, also between pieces.

    Each block is retried by itself: of a service that is busy, no file of a hundred would come in one go.
    """
    stream = retrying(cancelled, _failures_told(url)(_stream), url)
    with contextlib.closing(stream):
        yield stream.size, _pieces(url, stream, cancelled)


def _stream(url: str) -> Any:
    system, path = _system(url)
    # No prefetching in the background: it would write each failure to the log, thrice.
    return system.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")


def _pieces(url: str, stream: Any, cancelled: threading.Event) -> Iterator[bytes]:
    num_bytes = 0
    read = _failures_told(url)(stream.read)
    while piece := retrying(cancelled, read, _CHUNK_BYTES):
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
    if scheme in _S3:
        system = _s3(kind, url)
    elif scheme in _GS:
        system = _gs(kind, url)
    else:
        system = kind(**kind._get_kwargs_from_urls(url))
    return system, kind._strip_protocol(url)


def _s3(kind: Any, url: str) -> Any:
    """Without tries of its own: neither botocore's (`retries` of botocore.config.Config) nor s3fs' (`retries`)."""
    options = kind._get_kwargs_from_urls(url)
    system = kind(**options, config_kwargs={"retries": {"total_max_attempts": 1, "mode": "standard"}})
    system.retries = 1
    system._call_s3 = _told(url, partial(kind._call_s3, system))
    return system


def _gs(kind: Any, url: str) -> Any:
    """Without tries of its own. They come from a decorator, `gcsfs.retry.retry_request`; no option turns it off."""
    # No options of the URL: a `#` would begin a version of the object.
    system = kind(session_kwargs={"raise_for_status": _raise_with_headers})
    system._request = _told(url, partial(kind._request.__wrapped__, system))
    return system


async def _raise_with_headers(response: aiohttp.ClientResponse) -> None:
    """What may pass, as aiohttp's error: those of gcsfs have no `Retry-After`."""
    if status_may_pass(response.status):
        response.raise_for_status()


def _told(url: str, request: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """It raises SourceFailed for what may pass. Of an OSError, file systems would make a folder that has no files."""

    async def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return await request(*args, **kwargs)
        except Exception as error:
            failure = failure_of(url, error)
            if failure.may_pass:
                raise failure from error
            raise

    return told


@contextlib.contextmanager
def _failures_told(url: str) -> Iterator[None]:
    """File systems have errors of their own; what they have in common is Exception."""
    try:
        yield
    except (BadInput, SourceFailed):
        raise
    except Exception as error:
        raise failure_of(url, error) from error
