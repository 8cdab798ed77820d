"""The clips of a job that come in its request: each into a file of its own, under an id of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from service.api.asked import FIELD, Asked
from service.api.form import Part, Write
from service.disk import full_disk_told
from service.errors import NoFile, TooLarge
from service.jobs.errors import TooManyItems
from service.jobs.items import Item
from service.jobs.service import UPLOAD, Jobs
from service.parameters import JobParameters

MAX_CLIPS = 1000
_REMEDY = "set jobs_dir to a larger disk"


class Clips:
    """The files of a form, numbered in the order that they come; other fields go to `asked`.

    check: called when the first file begins, as fields before it may be wrong.
    """

    def __init__(
        self, jobs: Jobs, job_id: str, max_bytes: int, asked: Asked[JobParameters], check: Callable[[], object]
    ) -> None:
        self.items: list[Item] = []
        self._jobs = jobs
        self._folder = jobs.uploads / job_id
        self._max_bytes = max_bytes
        self._max_clips = min(MAX_CLIPS, jobs.max_items)
        self._asked = asked
        self._check = check
        self._ids = DistinctIds()
        self._file: Any = None
        self._named = True
        self._num_bytes = 0
        self._hash = hashlib.sha256()

    def take(self, part: Part) -> Write:
        """As `Form` asks. Raises TooManyItems, SpoolFull, DiskFull, and what `Asked.field` and `check` raise."""
        self._check_last()
        if part.name != FIELD or part.file_name is None:
            return self._asked.field(part, has_clip=bool(self.items))
        if not self.items:
            self._check()
        if len(self.items) == self._max_clips:
            raise TooManyItems(
                f"the form has more than {self._max_clips} clips; send several jobs, or a manifest of where they are",
                value=self._max_clips + 1, limit=self._max_clips,
            )  # fmt: skip
        self.close()
        self._jobs.check_uploads()
        with full_disk_told(self._folder, _REMEDY):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = (self._folder / str(len(self.items))).open("wb")
        self._named, self._num_bytes = bool(part.file_name), 0
        name = part.file_name or FIELD
        self._hash.update(json.dumps(["clip", name]).encode())
        self.items.append(Item(self._ids.of(name), f"{UPLOAD}{name}"))
        return self._write

    def digest(self) -> str:
        """Of all names and bytes."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """After the last part. Raises NoFile."""
        self._check_last()
        if not self.items:
            raise NoFile(f"the form has no file in the field {FIELD!r}; send clips as: curl -F {FIELD}=@clip.mp4 URL")

    def close(self) -> None:
        """After the last byte of a clip."""
        if self._file is not None:
            with full_disk_told(self._folder, _REMEDY):
                self._file.close()

    def _check_last(self) -> None:
        """A page's form has a field in which nothing was chosen, too."""
        if self.items and not self._named and not self._num_bytes:
            raise NoFile(
                f"no file was chosen in field {FIELD!r} number {len(self.items)} of the form: it has no name and no "
                "bytes; choose one, or leave it out"
            )

    def _write(self, data: memoryview) -> None:
        self._num_bytes += len(data)
        if self._num_bytes > self._max_bytes:
            raise TooLarge(
                f"{self.items[-1].id} has more than {self._max_bytes} bytes; send a shorter clip, or raise "
                "max_upload_bytes",
                value=self._num_bytes, limit=self._max_bytes,
            )  # fmt: skip
        with full_disk_told(self._folder, _REMEDY):
            self._file.write(data)
        self._hash.update(data)


class DistinctIds:
    """Phones name every clip alike: the second `IMG.mp4` is `IMG.mp4 (2)`, or the next number that no other has."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._next: dict[str, int] = {}

    def of(self, name: str) -> str:
        """The next id; it depends on the names before, and on nothing else."""
        found, number = name, self._next.get(name, 2)
        while found in self._given:
            found, number = f"{name} ({number})", number + 1
        self._given.add(found)
        self._next[name] = number
        return found
