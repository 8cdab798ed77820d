"""The inputs of a batch as its rows may name them: a URL that has credentials is redacted, and marked by the key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from service.jobs.errors import BadInput
from service.jobs.inputs import Found
from service.jobs.keys import KEY_LETTERS, Keys
from service.redaction import hidden
from service.settings import Settings

_MARKED = re.compile(rf"\?redacted=([0-9a-f]{{{KEY_LETTERS}}})[0-9a-f]{{16}}")


class Named:
    """Iterate as often as you like. A key is read, or made, with the first URL that needs it."""

    def __init__(self, inputs: Iterable[Found], settings: Settings) -> None:
        self._inputs = inputs
        self._settings = settings
        self._keys: Keys | None = None

    def __iter__(self) -> Iterator[Found]:
        """Raises what the inputs raise, and BadInput where there is no place for a key."""
        for found in self._inputs:
            item = found.item
            if hidden(item.uri) != item.uri or hidden(item.id) != item.id:
                item = self._known().named(item)
            yield replace(found, item=item)

    def follow(self, row_ids: Iterable[str]) -> bool:
        """Mark from now on by the key that has marked these, where it is one of ours.

        Returns whether that is another one than before: then what was listed has other names now.
        """
        if self._keys is None or len(self._keys.ids) == 1:
            return False
        marked = next((found[1] for row_id in row_ids if (found := _MARKED.search(row_id))), self._keys.ids[0])
        if marked not in self._keys.ids[1:]:
            return False
        self._keys = self._keys.led_by(marked)
        return True

    def check(self, row_id: str) -> None:
        """Raises BadInput for the id of a row that another key has marked: its item would be done again."""
        marked = _MARKED.search(row_id)
        if marked and self._keys and marked[1] != self._keys.ids[0]:
            raise BadInput(
                f"the output names {row_id}, redacted by another secret_key than this one; set REELSERVE_SECRET_KEY to "
                "the one that it was begun with (or that file in jobs_dir), name another output, or give items ids",
                value=row_id,
            )

    def _known(self) -> Keys:
        if self._keys is None:
            try:
                self._keys = Keys.of(self._settings)
            except OSError as error:
                raise BadInput(
                    f"URLs with a query need a key that tells their rows apart, and {self._settings.jobs_dir} can't "
                    f"hold one: {error.strerror}; set REELSERVE_SECRET_KEY, or REELSERVE_JOBS_DIR to a folder"
                ) from error
        return self._keys
