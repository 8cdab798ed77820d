"""What of a URL may be said: not its user name, not its query, not its fragment, as those are credentials.

`https://user:word@host/clip.mp4?Signature=…` is said as `https://host/clip.mp4?redacted`. Of s3://, gs:// and file:// a
`?` or `#` is part of a name, and stays.
"""

from __future__ import annotations

import logging
import re
import string
from urllib.parse import quote, unquote

_WORD = "redacted"
_NAMES = frozenset({"s3", "s3a", "gs", "gcs", "file"})
_SCHEME = "[a-z][a-z0-9+.-]{0,20}"  # bounded: a text of many letters is searched once
_URL = re.compile(rf"({_SCHEME})://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# In prose it ends at a space; in quotes, as of JSON and Python, at the one that it began with.
_IN_TEXT = re.compile(
    rf"""(?P<quote>['"])?(?P<url>{_SCHEME}://(?(quote)(?:\\.|(?!(?P=quote)).)*|\S*[^\s.,:;)]))""", re.IGNORECASE
)
_MARKED = re.compile(rf"\?{_WORD}(=[0-9a-f]{{20}})?")
_SHORT = 3  # letters that stand in any text


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
    """The same text with each URL in it hidden. Of what may have spaces, `hidden` has to be said in the first place."""
    if "://" not in text:
        return text
    return _IN_TEXT.sub(lambda found: (found["quote"] or "") + hidden(found["url"]), text)


def without_credentials(text: str, url: str) -> str:
    """What others say about a URL: they may repeat it, or its credentials in pieces that no pattern finds."""
    text = text.replace(url, hidden(url))
    if (found := _URL.search(url)) is None:
        return text
    scheme, authority, _, rest = found.groups()
    user = authority.rpartition("@")[0]
    query, _, fragment = rest.removeprefix("?").partition("#")
    pieces = {user, user.partition(":")[2]}
    if scheme.lower() not in _NAMES and not _MARKED.fullmatch(rest):
        pieces |= {query, fragment}
    spelled = {how for each in pieces for how in (each, unquote(each), quote(each, safe=""), _quoted(each)) if how}
    for piece in sorted(spelled, key=len, reverse=True):
        pattern = re.escape(piece) if len(piece) > _SHORT else rf"(?<!\w){re.escape(piece)}(?!\w)"
        text = re.sub(pattern, _WORD, text, flags=re.IGNORECASE)
    return text


def _quoted(text: str) -> str:
    return quote(text, safe=string.punctuation)


def scrubbed_value(value: object) -> object:
    """Of what a problem repeats of a request: text, which may be a URL with spaces, or lists and objects of text."""
    match value:
        case str():
            return scrubbed(hidden(value))
        case list() | tuple():
            return [scrubbed_value(each) for each in value]
        case dict():
            return {scrubbed_value(name): scrubbed_value(each) for name, each in value.items()}
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
