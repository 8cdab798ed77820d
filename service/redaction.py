"""What of a URL may be said: not its user name, not its query, not its fragment, as those are credentials.

`https://user:word@host/clip.mp4?Signature=…` is said as `https://host/clip.mp4?redacted`. Of s3://, gs:// and file:// a
`?` or `#` is part of a name, and stays.
"""

from __future__ import annotations

import logging
import re

_WORD = "redacted"
_NAMES = frozenset({"s3", "s3a", "gs", "gcs", "file"})
_SCHEME = "[a-z][a-z0-9+.-]{0,20}"  # bounded: a text of many letters is searched once
_URL = re.compile(rf"({_SCHEME})://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# In prose it ends at a space, or at the quote that it began with.
_IN_TEXT = re.compile(
    rf"""(?P<quote>['"])?(?P<url>{_SCHEME}://(?(quote)(?:(?!(?P=quote))\S)*|\S*[^\s.,:;)]))""", re.IGNORECASE
)
_MARKED = re.compile(rf"\?{_WORD}(=[0-9a-f]{{20}})?")


def hidden(url: str, mark: str = "") -> str:
    """The URL as it may be said; any other text as it is. mark: keeps apart what is equal without its query."""
    found = _URL.search(url)
    if found is None:
        return url
    scheme, authority, path, rest = found.groups()
    host = authority.rpartition("@")[2]
    secret = rest.strip("?#") != "" and scheme.lower() not in _NAMES and not _MARKED.fullmatch(rest)
    if host == authority and not secret:
        return url
    if secret or mark:
        rest = f"?{_WORD}={mark}" if mark else f"?{_WORD}"
    return f"{url[: found.start()]}{scheme}://{host}{path}{rest}"


def is_hidden(url: str) -> bool:
    """Whether something was left out of it by `hidden`, so that it leads nowhere."""
    found = _URL.search(url)
    return found is not None and found[1].lower() not in _NAMES and _MARKED.fullmatch(found[4]) is not None


def scrubbed(text: str) -> str:
    """The same text with each URL in it hidden."""
    if "://" not in text:
        return text
    return _IN_TEXT.sub(lambda found: (found["quote"] or "") + hidden(found["url"]), text)


def scrubbed_value(value: object) -> object:
    """Of what a problem repeats of a request: text, or lists and objects of text."""
    match value:
        case str():
            return scrubbed(value)
        case list() | tuple():
            return [scrubbed_value(each) for each in value]
        case dict():
            return {name: scrubbed_value(each) for name, each in value.items()}
    return value


class ScrubbedFormatter(logging.Formatter):
    """What another one writes, scrubbed: libraries name URLs as well, and so do tracebacks."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """As logging calls it."""
        return scrubbed(self._inner.format(record))


def scrub_logs() -> None:
    """Of all handlers that there are, whoever made them."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for handler in {each for logger in loggers if isinstance(logger, logging.Logger) for each in logger.handlers}:
        if not isinstance(handler.formatter, ScrubbedFormatter):
            handler.setFormatter(ScrubbedFormatter(handler.formatter or logging.Formatter()))
