"""Files that are elsewhere: s3://, gs://, http(s)://, read by fsspec, and only from where it is allowed."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fsspec
import tenacity

from service.errors import Cancelled, ReelserveError, SpoolFull
from service.jobs.allowed import check_allowed
from service.jobs.errors import BadInput, FetchFailed
from service.spool import Spool, SpoolFile

_CHUNK_BYTES = 1024 * 1024
# Of a remote file, what one range request brings.
_BLOCK_BYTES = 8 * 1024 * 1024
_TRIES = 4
_LONGEST_WAIT_SECONDS = 20.0
# A file system says these of what no second try mends.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, ImportError)

Takes = Callable[[str], bool]


def is_url(text: str) -> bool:
    """`scheme://…`; anything else is a path of this machine."""
    return "://" in text


class Remote:
    """allowed: prefixes of URLs that may be read, `s3://bucket/` or `https://host/folder/`; None: any but http(s).

    remedy: where an operator allows more.
    """

    def __init__(self, allowed: Sequence[str] | None, spool: Spool, remedy: str = "batch --allow") -> None:
        self._allowed = allowed
        self._spool = spool
        self._remedy = remedy

    def check(self, url: str) -> None:
        """Raises UriNotAllowed."""
        if self._allowed is None and not _is_http(url) and _scheme(url) != "file":
            return
        check_allowed(url, self._allowed or (), self._remedy)

    def listed(self, url: str, below: Takes, matching: Takes) -> Iterator[str]:
        """The URL itself where there is such a file, or the files below it, or else those that it matches; sorted.

        below, matching: which of them, by their paths. Raises BadInput, UriNotAllowed, FetchFailed.
        """
        self.check(url)
        with _said_of(url):
            system, path = _system(url)
            kind = "file" if _is_http(url) else _kind(system, path)  # looking would read the whole file
            if kind == "file":
                yield url
            elif kind == "directory":
                yield from map(system.unstrip_protocol, filter(below, sorted(system.find(path))))
            elif fsspec.core.has_magic(path):
                found = system.glob(path, detail=True)
                files = sorted(name for name in found if found[name]["type"] == "file")
                yield from map(system.unstrip_protocol, filter(matching, files))
            else:
                raise BadInput(f"{url} is no file or folder", value=url)

    @contextlib.contextmanager
    def reading(self, url: str) -> Iterator[io.BufferedReader]:
        """A file as a stream, for manifests. Raises UriNotAllowed, FetchFailed."""
        self.check(url)
        with _said_of(url), _opened(url) as stream:
            yield io.BufferedReader(stream)

    def head(self, url: str, num_bytes: int) -> bytes:
        """A file's first bytes, or all of it. Raises UriNotAllowed, FetchFailed."""
        with self.reading(url) as file:
            return file.read(num_bytes)

    @contextlib.contextmanager
    def fetched(self, url: str, cancelled: threading.Event) -> Iterator[SpoolFile]:
        """A copy in the spool while the context lasts; blocks. What may pass is tried again, with growing pauses.

        A spool that is full is waited for: other items will end. Raises UriNotAllowed, FetchFailed, TooLarge, DiskFull,
        and Cancelled when `cancelled` is set.
        """
        self.check(url)
        retrying = tenacity.Retrying(
            stop=lambda state: cancelled.is_set() or _given_up(state),
            sleep=tenacity.sleep_using_event(cancelled),
            wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, SpoolFull) or _may_pass(error)),
            reraise=True,
        )
        try:
            file: SpoolFile = retrying(self._fetch, url, cancelled)
        except ReelserveError as error:
            if cancelled.is_set():  # it might have come with the next try
                raise Cancelled(f"while {url} was read") from error
            raise
        try:
            yield file
        finally:
            file.close()

    def _fetch(self, url: str, cancelled: threading.Event) -> SpoolFile:
        file = self._spool.open()
        try:
            with _said_of(url), _opened(url) as stream:
                while data := stream.read(_CHUNK_BYTES):
                    file.write(data)
                    if cancelled.is_set():
                        raise Cancelled(f"while {url} was read")
        except BaseException:
            file.close()
            raise
        return file


def _system(url: str) -> tuple[Any, str]:
    # Else gcsfs asks of each bucket what takes a right of its own, and gRPC.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    protocol, _ = fsspec.core.split_protocol(url)
    kind = fsspec.get_filesystem_class(protocol)
    # Not by fsspec's own way from a URL to these: it chains file systems at `::`, and a key may have that. Of gs:// a
    # `#` would begin a version of the object.
    options = {} if protocol in ("gs", "gcs") else kind._get_kwargs_from_urls(url)
    if _is_http(url):
        options |= {"get_client": _session, "allow_redirects": False}
    return fsspec.filesystem(protocol, **options), kind._strip_protocol(url)


def _kind(system: Any, path: str) -> str | None:
    """`file`, `directory`, or None where nothing is."""
    try:
        return str(system.info(path)["type"])
    except FileNotFoundError:
        return None


def _opened(url: str) -> Any:
    system, path = _system(url)
    # Many web servers know no ranges: of those a file is one stream.
    return system.open(path, "rb", block_size=0 if _is_http(url) else _BLOCK_BYTES)


def _is_http(url: str) -> bool:
    return _scheme(url) in ("http", "https")


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


async def _session(**options: Any) -> Any:
    """Of aiohttp, where a redirect is an error: whoever is allowed must not send us to whoever is not."""
    import aiohttp

    async def refuse(response: Any) -> None:
        if 300 <= response.status < 400:
            raise PermissionError(f"it redirects to {response.headers.get('location')}, and redirects are not followed")
        response.raise_for_status()

    return aiohttp.ClientSession(raise_for_status=refuse, **options)


@contextlib.contextmanager
def _said_of(url: str) -> Iterator[None]:
    """What file systems raise, said of the URL. Each has errors of its own; what they have in common is Exception."""
    try:
        yield
    except ReelserveError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error) or type(error).__name__  # of a web server, its status
        if isinstance(error, PermissionError) and url.startswith("s3://"):
            reason += "; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and what they may read"
        raise FetchFailed(f"{url} can't be read: {reason}", value=url) from error


def _given_up(state: tenacity.RetryCallState) -> bool:
    full = state.outcome is not None and isinstance(state.outcome.exception(), SpoolFull)
    return not full and state.attempt_number >= _TRIES


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, FetchFailed) and not isinstance(error.__cause__, _FINAL)
