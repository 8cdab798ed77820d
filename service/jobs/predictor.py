"""One item: find its file, predict, make a row of whatever comes out."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from service.bundle import file_sha256
from service.engine.shared import LoadedModel
from service.errors import Cancelled, DiskFull, EngineLost, NotReady, ReelserveError
from service.fairness import Priority
from service.jobs.errors import FetchFailed
from service.jobs.items import Item, Row
from service.jobs.job import Options
from service.jobs.remote import Remote, is_url
from service.names import path_of, utf8_path, visible
from service.pipeline import ClipRequest
from service.redaction import hidden, without_credentials
from service.serving import Serving

log = logging.getLogger(__name__)

# Of the service, not of the item: it has no row, and a resumed batch does it.
NOT_THE_ITEM_S = (Cancelled, DiskFull, EngineLost, NotReady)


@dataclass(frozen=True)
class Predictor:
    """For many threads.

    priority: interactive where nobody else waits, as in a batch of its own. cancelled: when it is set, clips in
    progress stop between chunks, and raise Cancelled.
    """

    serving: Serving
    model: LoadedModel
    remote: Remote
    options: Options = field(default_factory=Options)
    priority: Priority = Priority.INTERACTIVE
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __call__(self, item: Item, path: Path | None = None) -> Row:
        """The item's row, of its error too. path: the item's file, where its URI does not lead to it.

        Raises Cancelled, DiskFull, EngineLost, NotReady: then there is no row.
        """
        try:
            with opened(item.location, self.remote, self.cancelled, path) as (file, sha256):
                clip = ClipRequest(
                    file, sha256, self.options.answer, start_seconds=item.start_seconds, end_seconds=item.end_seconds,
                    stream=self.options.stream, strict=self.options.strict, priority=self.priority,
                    cancelled=self.cancelled,
                )  # fmt: skip
                [prediction] = self.serving.predict(clip, [self.model])
        except NOT_THE_ITEM_S:
            raise
        except Exception as error:  # noqa: BLE001  (a batch does not end by one item, whatever it is)
            return failed(item, error)
        return Row.ok(item, prediction)


def failed(item: Item, error: Exception) -> Row:
    """The item's row; what no one foresaw is in the log with its trace, and the row has the code `internal`."""
    if isinstance(error, ReelserveError):
        return Row.failed(item, error)
    log.error("item %s failed unforeseen", visible(item.id), exc_info=error)
    reason = without_credentials(f"{type(error).__name__}: {error}", item.location)
    return Row.failed(item, ReelserveError(f"{reason}; a fault of ours, the log has its trace"))


@contextlib.contextmanager
def opened(
    uri: str, remote: Remote, cancelled: threading.Event, path: Path | None = None
) -> Iterator[tuple[Path, str]]:
    """A file of this machine and its sha256, while the context lasts. path: where it is, if its URI does not say so.

    Raises as `Remote.fetched` does.
    """
    if path is None and uri.startswith("file://"):
        remote.check(uri)
        path = _path_of_url(uri)
    elif path is None and is_url(uri):
        with remote.fetched(uri, cancelled) as copy:
            yield copy.path, copy.sha256
        return
    path = path or path_of(uri)
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise FetchFailed(f"{hidden(uri)} can't be read: it is no regular file", value=hidden(uri))
        sha256 = file_sha256(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FetchFailed(f"{hidden(uri)} can't be read: {reason}", value=hidden(uri)) from error
    with utf8_path(path) as readable:
        yield readable, sha256


def _path_of_url(url: str) -> Path:
    """Of `file://`, with `?` and `#` as what they are in a name."""
    _, _, path = url.removeprefix("file://").partition("/")
    return Path(os.fsdecode(b"/" + unquote_to_bytes(path)))
