"""What a batch is asked to do, and what it answers: an item in, a row out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import ReelserveError
from service.results import LabelScore, ModelName, Prediction, Receipt, Segment, Timing


@dataclass(frozen=True)
class Item:
    """One video. id: unique in the batch, and what a resumed batch knows it by. Times in seconds from its start.

    source: the whole URL, where `uri` is one without its credentials (`Keys.named`); never in a row, a log, a message.
    """

    id: str
    uri: str
    start_seconds: float = 0.0
    end_seconds: float = math.inf
    source: str = field(default="", repr=False)

    @property
    def location(self) -> str:
        """Where its file is."""
        return self.source or self.uri


class Row(BaseModel):
    """What became of an item. An error has `code` and `message`, as the HTTP API says them; a success all the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    uri: str
    status: Literal["ok", "error"]
    code: str | None = Field(default=None, description="Stable; `not_a_video`, `fetch_failed`, …")
    message: str | None = None
    model: ModelName | None = None
    predictions: list[LabelScore] | None = None
    segments: list[Segment] | None = None
    receipt: Receipt | None = None
    timing_ms: Timing | None = None
    warnings: list[str] | None = None

    def to_json(self) -> str:
        """One line; what a row does not have is left out, what a receipt does not know is null."""
        return self.model_dump_json(exclude={name for name in type(self).model_fields if getattr(self, name) is None})

    @classmethod
    def ok(cls, item: Item, prediction: Prediction) -> Row:
        """The answer for an item."""
        answer = {name: getattr(prediction, name) for name in cls.model_fields if name in Prediction.model_fields}
        return cls(id=item.id, uri=item.uri, status="ok", **answer)

    @classmethod
    def failed(cls, item: Item, error: ReelserveError) -> Row:
        """The error of an item; the batch goes on."""
        return cls(id=item.id, uri=item.uri, status="error", code=error.code, message=error.detail)
