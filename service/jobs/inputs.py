"""What a batch is made of: files, folders, patterns, manifests and URLs, listed one by one and never all in memory."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

from service.jobs.errors import BadInput, FetchFailed
from service.jobs.folders import VIDEO_SUFFIXES, PassedOver, is_named_video, is_video_file, suffix_of, videos_below
from service.jobs.ids import Ids
from service.jobs.items import Item
from service.jobs.magic import is_text
from service.jobs.manifest_items import id_place, item_of
from service.jobs.manifests import HEAD_BYTES, is_manifest, is_named_manifest, rows_of
from service.jobs.remote import Remote, is_url
from service.jobs.web import is_web
from service.names import written
from service.parameters import AnswerParameters, JobParameters
from service.redaction import hidden
from service.wording import as_flag

_PATTERN = frozenset("*?[")
# Of a path that leads to nothing.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
# What is asked of all items at once, and where.
_IN_THE_QUERY = {name: f"{name} in the query" for name in JobParameters.model_fields}
_AS_FLAGS = {name: as_flag(name) for name in AnswerParameters.model_fields}


@dataclass(frozen=True)
class Found:
    """An item and where it is named: `manifest.csv line 7`; id_at: where in there its id is, if it is known."""

    item: Item
    where: str
    id_at: str = ""


class Inputs:
    """The inputs of a batch, in order; iterate as often as you like.

    What exists is that file or folder, whatever its name; only what does not is a pattern. passed_over: files of
    folders and patterns that are no video, of the last time.
    """

    def __init__(self, inputs: Iterable[str], remote: Remote) -> None:
        self.passed_over = PassedOver()
        self._inputs = tuple(inputs)
        self._remote = remote
        self._are_manifests: dict[str, bool] = {}  # by URL; asked once

    def __iter__(self) -> Iterator[Found]:
        """Raises BadInput for what is missing, not allowed, empty or malformed."""
        self.passed_over = PassedOver()
        for text in self._inputs:
            num_found = 0
            for found in self._of(text):
                num_found += 1
                yield found
            if not num_found:
                name = hidden(text) if is_url(text) else written(text)
                also = f"; {self.passed_over}" if self.passed_over else ""
                raise BadInput(f"{name} names no video{also}", value=name)

    def _of(self, text: str) -> Iterator[Found]:
        if is_url(text):
            yield from self._of_url(text)
            return
        mode = _mode(text)
        if mode is None and text and _PATTERN & set(text):
            yield from self._of_pattern(text)
        elif mode is None or not text:
            raise BadInput(f"{written(text)!r} is no file, folder or pattern that matches one", value=written(text))
        elif stat.S_ISDIR(mode):
            for path in videos_below(Path(text), self.passed_over):
                yield Found(Item(path, path), written(text))
        elif stat.S_ISREG(mode):
            _check_text(text)
            yield from self._of_file(text)
        else:
            raise BadInput(f"{written(text)} is no regular file", value=written(text))

    def _of_file(self, text: str) -> Iterator[Found]:
        path, name = Path(text), written(text)
        if _is_manifest(text):
            yield from _manifest(name, path, path.parent)
        else:
            yield Found(Item(name, name), name)

    def _of_pattern(self, text: str) -> Iterator[Found]:
        named = _names_suffix(text)
        for path in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207
            if os.path.isdir(path):  # noqa: PTH112  (which raises nothing)
                continue
            if named and os.path.isfile(path):  # noqa: PTH113
                yield from self._of_file(path)
            elif is_video_file(Path(path)):
                yield Found(Item(written(path), written(path)), written(text))
            else:
                self.passed_over.add(path)

    def _of_url(self, text: str) -> Iterator[Found]:
        matching = (lambda path: True) if _names_suffix(text) else self._takes
        for url in self._remote.listed(text, self._takes, matching):
            if self._is_manifest_at(url) if url == text else is_named_manifest(url):
                with self._remote.reading(url) as file:
                    yield from items_of(hidden(url), file)
            else:
                yield Found(Item(url, url), hidden(text))

    def _takes(self, path: str) -> bool:
        """Of files that are listed elsewhere."""
        taken = is_named_video(path)
        if not taken:
            self.passed_over.add(path)
        return taken

    def _is_manifest_at(self, url: str) -> bool:
        """By its name without a query; by content where the name says nothing."""
        name = urlsplit(url).path if is_web(url) else url.partition("?versionId=")[0]
        if is_named_manifest(name) or suffix_of(name) in VIDEO_SUFFIXES:
            return is_named_manifest(name)
        if url not in self._are_manifests:
            try:
                self._are_manifests[url] = is_manifest(self._remote.head(url, HEAD_BYTES))
            except FetchFailed:  # its row will say so
                self._are_manifests[url] = False
        return self._are_manifests[url]


def read_manifest(name: str, path: Path, folder: Path | None = None) -> Generator[Found]:
    """Items of a job's manifest, which messages call `name`, each id once.

    folder: relative paths count from there; None: all are URLs. Raises BadInput with the line.
    """
    return once(_manifest(name, path, folder, _IN_THE_QUERY))


def once(all_found: Iterable[Found]) -> Generator[Found]:
    """The same, each id once; whoever may leave it before its end closes it, in the thread that iterates.

    Raises BadInput as `add_once`.
    """
    with Ids() as ids:
        for found in all_found:
            add_once(ids, found)
            yield found


def add_once(ids: Ids, found: Found) -> None:
    """Raises BadInput for an id that is there already, with both places."""
    item = found.item
    if (first := ids.add(item.id, found.where)) is not None:
        alike = "" if item.json_id is None else " (as text they are one)"
        said = hidden(item.id)
        raise BadInput(
            f"{found.id_at or found.where}: id {said} stands at {first} already{alike}; each needs its own", value=said
        )


def items_of(
    name: str, file: BufferedReader, folder: Path | None = None, of_all: Mapping[str, str] = _AS_FLAGS
) -> Iterator[Found]:
    """As `read_manifest`, of an open file, and without looking for ids that are there twice.

    of_all: as `item_of`; of a batch without it.
    """
    for row in rows_of(name, file):
        yield Found(item_of(row, folder, of_all), row.where, id_place(row))


def _manifest(name: str, path: Path, folder: Path | None, of_all: Mapping[str, str] = _AS_FLAGS) -> Iterator[Found]:
    try:
        with path.open("rb") as file:
            yield from items_of(name, file, folder, of_all)
    except OSError as error:
        raise BadInput(f"{name} can't be read: {error.strerror or error}", value=name) from error


def _is_manifest(file: str) -> bool:
    return is_named_manifest(file) or (suffix_of(file) not in VIDEO_SUFFIXES and is_manifest(_head(Path(file))))


def _check_text(file: str) -> None:
    """Raises BadInput for a text that is no manifest, as a list of paths: no video is one."""
    if suffix_of(file) not in VIDEO_SUFFIXES and not _is_manifest(file) and is_text(_head(Path(file))):
        raise BadInput(
            f"{written(file)} is a text, and no manifest by its content: CSV or TSV whose first line names a column "
            'uri (or path), or JSON lines as {"uri": "clip.mp4"}; make it one, or leave it out',
            value=written(file),
        )


def _names_suffix(pattern: str) -> bool:
    """Whoever names it wants such files, whatever they are."""
    suffix = suffix_of(pattern)
    return suffix != "" and not _PATTERN & set(suffix)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:  # its row will say so
        return b""


def _mode(path: str | Path) -> int | None:
    """Of the file there, None where there is none. Raises BadInput where nobody may look."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _ABSENT:
            raise BadInput(f"{written(path)} can't be read: {error.strerror}", value=written(path)) from error
        return None
