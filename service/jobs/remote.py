"""Files that are elsewhere, and only from where it is allowed: http(s):// by `web`, the rest by `object_store`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from io import BufferedReader

from service.errors import Cancelled, ReelserveError
from service.jobs import object_store
from service.jobs.allowed import check_allowed
from service.jobs.errors import FetchFailed
from service.jobs.object_store import Takes
from service.jobs.retries import SourceFailed, retrying
from service.jobs.web import Web, is_web
from service.redaction import hidden, is_hidden, without_credentials
from service.spool import Spool, SpoolFile

# Its length, where that is known, and its bytes; each call asks anew.
_Opened = Callable[[], AbstractContextManager[tuple[int | None, Iterator[bytes]]]]
# Of one file, as of an upload.
_LONGEST_FETCH_SECONDS = 1800.0


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
        self._web = Web()

    def check(self, url: str) -> None:
        """Raises UriNotAllowed."""
        if self._allowed is None and not is_web(url) and not url.lower().startswith("file:"):
            return
        check_allowed(url, self._allowed or (), self._remedy)

    def listed(self, url: str, below: Takes, matching: Takes) -> Iterator[str]:
        """The URL itself where there is such a file, or the files below it, or else those that it matches; sorted.

        below, matching: which of them, by their paths. Raises BadInput, UriNotAllowed, FetchFailed.
        """
        self.check(url)
        if is_web(url):
            yield url  # the web has no folders
            return
        try:
            yield from object_store.listed(url, below, matching)
        except SourceFailed as error:
            raise _failed(url, error) from error

    @contextlib.contextmanager
    def reading(self, url: str) -> Iterator[BufferedReader]:
        """A file as a stream, for manifests; it is fetched whole first. Raises as `fetched` does."""
        with self.fetched(url, threading.Event()) as file, file.path.open("rb") as stream:
            yield stream

    def head(self, url: str, num_bytes: int) -> bytes:
        """A file's first bytes, or all of it. Raises UriNotAllowed, FetchFailed."""
        self.check(url)
        never = threading.Event()
        try:
            return retrying(never, _head, self._opened(url, never), num_bytes)
        except SourceFailed as error:
            raise _failed(url, error) from error

    @contextlib.contextmanager
    def fetched(self, url: str, cancelled: threading.Event) -> Iterator[SpoolFile]:
        """A copy in the spool while the context lasts; blocks. What may pass is tried again, as `retries` has it.

        Raises UriNotAllowed, FetchFailed, TooLarge, DiskFull, and Cancelled when `cancelled` is set.
        """
        self.check(url)
        try:
            file = retrying(cancelled, self._fetch, url, cancelled)
        except (ReelserveError, SourceFailed) as error:
            if cancelled.is_set():  # it might have come with the next try
                raise Cancelled(f"while {hidden(url)} was read") from error
            if isinstance(error, SourceFailed):
                raise _failed(url, error) from error
            raise
        try:
            yield file
        finally:
            file.close()

    def _opened(self, url: str, cancelled: threading.Event) -> _Opened:
        if is_hidden(url):
            raise FetchFailed(
                f"{hidden(url)} was redacted: its query was left out of what it was copied from; name all of it"
            )
        return partial(self._web.opened, url) if is_web(url) else partial(object_store.opened, url, cancelled)

    def _fetch(self, url: str, cancelled: threading.Event) -> SpoolFile:
        until = time.monotonic() + _LONGEST_FETCH_SECONDS
        file = self._spool.open()
        try:
            with self._opened(url, cancelled)() as (num_bytes, pieces):
                file.reserve(num_bytes or 0)  # too large, or no room for it: nothing is read
                for piece in pieces:
                    file.write(piece)
                    if cancelled.is_set():
                        raise Cancelled(f"while {hidden(url)} was read")
                    if time.monotonic() > until:
                        said = f"{file.num_bytes} bytes came in {_LONGEST_FETCH_SECONDS:g} s"
                        raise SourceFailed(said, may_pass=False)
        except BaseException:
            file.close()
            raise
        return file


def _head(opened: _Opened, num_bytes: int) -> bytes:
    data = b""
    with opened() as (_, pieces):
        for piece in pieces:
            data += piece
            if len(data) >= num_bytes:
                break
    return data[:num_bytes]


def _failed(url: str, error: SourceFailed) -> FetchFailed:
    reason = without_credentials(error.reason, url)
    tried = f" (tried {error.tries} times)" if error.tries > 1 else ""
    return FetchFailed(f"{hidden(url)} can't be read: {reason}{tried}", value=hidden(url))
