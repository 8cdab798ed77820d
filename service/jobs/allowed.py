"""Which URLs the service may call: those below a prefix that its operator named, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from service.jobs.errors import UriNotAllowed
from service.redaction import hidden, without_credentials

_WEB = ("http", "https")


def prefixes_of(text: str) -> tuple[str, ...]:
    """Of a comma-separated setting; each ends at a slash, so that `s3://clips` does not allow `s3://clips-of-others`."""
    return tuple(prefix.strip().rstrip("/") + "/" for prefix in text.split(",") if prefix.strip())


def check_allowed(url: str, prefixes: Sequence[str], remedy: str) -> None:
    """Raises UriNotAllowed, also for what climbs out of a prefix by `..`, for a host behind a user name, and for one
    that no host can be.

    Some servers take a backslash for a slash, and leave out what follows a semicolon.
    """
    try:
        parts = _parts(url)
    except ValueError as error:
        reason = without_credentials(str(error), url)
        raise UriNotAllowed(f"{hidden(url)} is no URL: {reason}", value=hidden(url)) from error
    # In names of files and objects a `?` begins no query.
    path = parts.path if parts.scheme in _WEB else url
    folders = unquote(path).replace("\\", "/").split("/")
    climbs = any(folder.partition(";")[0] == ".." for folder in folders) or "@" in parts.netloc
    if climbs or not any(url.startswith(prefix) for prefix in prefixes):
        known, said = ", ".join(prefixes) or "none", hidden(url)
        raise UriNotAllowed(f"{said} may not be called; allowed: {known} ({remedy})", value=said)


def _parts(url: str) -> SplitResult:
    """Raises ValueError where there can be no such host or port."""
    parts = urlsplit(url)
    if parts.scheme in _WEB:
        _ = parts.port  # looked at only when it is asked for
        _check_host(parts.netloc.rpartition("@")[2])
    return parts


@lru_cache(maxsize=1024)  # of a hundred thousand items most have one
def _check_host(host: str) -> None:
    """As httpx and the resolver take it, which raise UnicodeError in the midst of a request. Raises ValueError."""
    try:
        url = httpx.URL(f"http://{host}/")
        if not url.host:
            raise ValueError("it names no host")
        url.raw_host.decode("ascii").encode("idna")
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
