"""Which URLs the service may call: those below a prefix that its operator named, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from service.jobs.errors import UriNotAllowed
from service.redaction import hidden


def prefixes_of(text: str) -> tuple[str, ...]:
    """Of a comma-separated setting; each ends at a slash, so that `s3://clips` does not allow `s3://clips-of-others`."""
    return tuple(prefix.strip().rstrip("/") + "/" for prefix in text.split(",") if prefix.strip())


def check_allowed(url: str, prefixes: Sequence[str], remedy: str) -> None:
    """Raises UriNotAllowed, also for what climbs out of a prefix by `..` and for a host behind a user name.

    Some servers take a backslash for a slash, and leave out what follows a semicolon.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # half an address of IPv6
        raise UriNotAllowed(f"{hidden(url)} is no URL: {error}", value=hidden(url)) from error
    # In names of files and objects a `?` begins no query.
    path = parts.path if parts.scheme in ("http", "https") else url
    folders = unquote(path).replace("\\", "/").split("/")
    climbs = any(folder.partition(";")[0] == ".." for folder in folders) or "@" in parts.netloc
    if climbs or not any(url.startswith(prefix) for prefix in prefixes):
        known, said = ", ".join(prefixes) or "none", hidden(url)
        raise UriNotAllowed(f"{said} may not be called; allowed: {known} ({remedy})", value=said)
