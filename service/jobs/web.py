"""http:// and https://: a URL goes out as it was given, to whoever it names and nobody else; the body streams."""

from __future__ import annotations

import contextlib
import ssl
import string
import threading
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from service.jobs.retries import SourceFailed, retry_after_seconds, status_may_pass
from service.redaction import hidden

_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_WHOLE = (httpx.codes.OK, httpx.codes.NON_AUTHORITATIVE_INFORMATION)
# `identity`: it is the file that is wanted, and its length is that of Content-Length.
_HEADERS = {"User-Agent": "reelserve", "Accept": "*/*", "Accept-Encoding": "identity"}


def is_web(url: str) -> bool:
    """Whether it is of this module."""
    return url.lower().startswith(("http://", "https://"))


def request_line(url: str) -> dict[str, Any]:
    """`url` and `extensions` of a request of httpx, whose request line has the URL byte for byte.

    As RFC 3986 wants, what is not ASCII goes out as UTF-8, percent-encoded, and a fragment does not. httpx by itself
    would write some characters otherwise, remove dots from paths, and have the whole URL in its log.
    """
    scheme, _, rest = url.partition("://")
    end = next((at for at, letter in enumerate(rest) if letter in "/?#"), len(rest))
    target = rest[end:].partition("#")[0]
    if not target.startswith("/"):
        target = f"/{target}"
    raw = quote(target, safe=string.punctuation)
    return {"url": f"{scheme}://{rest[:end]}/", "extensions": {"target": raw.encode("ascii")}}


class Web:
    """For many threads; connections are kept."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._made: httpx.Client | None = None

    @contextlib.contextmanager
    def opened(self, url: str) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """Its length, where that is said, and its bytes, piece by piece. Raises SourceFailed, also between pieces."""
        with _failures_told():
            timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
            request = self._client().build_request("GET", **request_line(url), timeout=timeout)
            response = self._client().send(request, stream=True)
        with contextlib.closing(response):
            length, coding = response.headers.get("content-length", ""), _coding(response)
            yield int(length) if length.isdecimal() and not coding else None, _pieces(response)

    def _client(self) -> httpx.Client:
        with self._making:
            if self._made is None:
                # Whom the machine trusts. No proxy and no password of its user: the operator names who is called.
                context = ssl.create_default_context()
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
                self._made = httpx.Client(
                    headers=_HEADERS, verify=context, limits=limits, trust_env=False, follow_redirects=False,
                    event_hooks={"response": [_check]},  # before httpx looks where a redirect leads, and repeats it
                )  # fmt: skip
                weakref.finalize(self, self._made.close)
            return self._made


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    with _failures_told():
        yield from response.iter_bytes()  # as they come: who cancels does not wait


def _coding(response: httpx.Response) -> str:
    """How a server has packed it, though nobody asked it to; one packing, as several grow without bounds in memory."""
    coding: str = response.headers.get("content-encoding", "").lower()
    if coding not in ("", "identity", "gzip", "deflate"):
        raise SourceFailed(f"its Content-Encoding is {coding}; serve the file as it is, or as gzip", may_pass=False)
    return coding.removeprefix("identity")


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status in _WHOLE:
        return
    said = f"{status} {httpx.codes.get_reason_phrase(status)}".strip()  # the server's own phrase may repeat the query
    if response.has_redirect_location:  # whoever is allowed must not send us to whoever is not
        said += f": it redirects{_target(response)}, and redirects are not followed"
    raise SourceFailed(
        said, may_pass=status_may_pass(status), retry_after_seconds=retry_after_seconds(response.headers)
    )


def _target(response: httpx.Response) -> str:
    """Where a redirect leads, as it may be said; empty where that is nothing we know to hide."""
    asked = str(response.request.url).rstrip("/") + response.request.extensions["target"].decode("ascii")
    try:
        target = urljoin(asked, response.headers["location"])
    except ValueError:  # half an address of IPv6
        return ""
    return f" to {hidden(target)}" if is_web(target) else ""


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise SourceFailed(_reason(error), may_pass=_may_pass(error)) from error
    except (httpx.RequestError, httpx.InvalidURL, ValueError, OverflowError) as error:  # no URL, or no port
        raise SourceFailed(_reason(error), may_pass=False) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _may_pass(error: httpx.TransportError) -> bool:
    """Not a certificate that is wrong, nor a request that can't be made."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLCertVerificationError):
            return False
        chain = chain.__cause__ or chain.__context__
    return not isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
