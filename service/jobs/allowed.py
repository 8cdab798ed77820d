"""Which URLs the service may call: those below a prefix that its operator named, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from service.jobs.errors import UriNotAllowed


def prefixes_of(text: str) -> tuple[str, ...]:
    """Of a comma-separated setting; each ends at a slash, so that `s3://clips` does not allow `s3://clips-of-others`."""
    return tuple(prefix.strip().rstrip("/") + "/" for prefix in text.split(",") if prefix.strip())


def check_allowed(url: str, prefixes: Sequence[str], remedy: str) -> None:
    """Raises UriNotAllowed, also for what climbs out of a prefix by `..` and for a host behind a user name."""
    try:
        parts = urlsplit(url)
    except ValueError as error:  # a bracket in its host, for one
        raise UriNotAllowed(f"{url} is no URL: {error}", value=url) from error
    # In names of files and objects a `?` begins no query.
    path = parts.path if parts.scheme in ("http", "https") else url
    climbs = ".." in unquote(path).split("/") or "@" in parts.netloc
    if climbs or not any(url.startswith(prefix) for prefix in prefixes):
        known = ", ".join(prefixes) or "none"
        raise UriNotAllowed(f"{url} may not be called; allowed: {known} ({remedy})", value=url)
