"""What a batch is asked to do, and what it answers: an item in, a row out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import ReelserveError
from service.results import LabelScore, ModelName, Prediction, Receipt, Segment, Timing

# As JSON has them; null is none, and nothing with a structure is one.
JsonId = str | int | float | bool


def id_text(json_id: JsonId) -> str:
    """As CSV and Parquet hold it, and what tells ids apart: a string as it is, anything else as JSON writes it."""
    return json_id if isinstance(json_id, str) else json.dumps(json_id)


@dataclass(frozen=True)
class Item:
    """One video. id: unique in the batch, and what a resumed batch knows it by. Times in seconds from its start.

    uri: a URL, or a path of this machine as `names.written` has it. json_id: the id as it was given, where that is no
    string; a row has it so again. source: the whole URL, where `uri` is one without its credentials (`Keys.named`);
    never in a row, a log, a message.
    """

    id: str
    uri: str
    start_seconds: float = 0.0
    end_seconds: float = math.inf
    json_id: JsonId | None = None
    source: str = field(default="", repr=False)

    @classmethod
    def of(cls, json_id: JsonId | None, uri: str, start_seconds: float = 0.0, end_seconds: float = math.inf) -> Item:
        """With its id as JSON has it; without one its URI is it."""
        if json_id is None or json_id == "":
            return cls(uri, uri, start_seconds, end_seconds)
        given = None if isinstance(json_id, str) else json_id
        return cls(id_text(json_id), uri, start_seconds, end_seconds, json_id=given)

    @property
    def row_id(self) -> JsonId:
        """As its row has it."""
        return self.id if self.json_id is None else self.json_id

    @property
    def finite_end(self) -> float | None:
        """None: the end is the video's."""
        return None if self.end_seconds == math.inf else self.end_seconds

    @property
    def location(self) -> str:
        """Where its file is."""
        return self.source or self.uri


class Row(BaseModel):
    """What became of an item. An error has `code` and `message`, as the HTTP API says them; a success all the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: JsonId = Field(description="As the item's; without one its URI.")
    uri: str
    start_seconds: float | None = Field(default=None, description="As the item's; without it from the start.")
    end_seconds: float | None = Field(default=None, description="As the item's; without it to the end.")
    status: Literal["ok", "error"]
    code: str | None = Field(default=None, description="Stable; `not_a_video`, `fetch_failed`, …")
    message: str | None = None
    model: ModelName | None = None
    predictions: list[LabelScore] | None = None
    abstained: bool | None = Field(default=None, description="Probably none of the labels.")
    segments: list[Segment] | None = None
    receipt: Receipt | None = None
    timing_ms: Timing | None = None
    warnings: list[str] | None = None

    @property
    def id_text(self) -> str:
        """Of the item that it is the row of."""
        return id_text(self.id)

    def to_json(self) -> str:
        """One line; what a row does not have is left out, what a receipt does not know is null."""
        return self.model_dump_json(exclude={name for name in type(self).model_fields if getattr(self, name) is None})

    @classmethod
    def ok(cls, item: Item, prediction: Prediction) -> Row:
        """The answer for an item."""
        answer = {name: getattr(prediction, name) for name in cls.model_fields if name in Prediction.model_fields}
        return cls(**_asked(item), status="ok", **answer)

    @classmethod
    def failed(cls, item: Item, error: ReelserveError) -> Row:
        """The error of an item; the batch goes on."""
        said = error.detail.encode("utf-8", "backslashreplace").decode()  # it may name a file that is no UTF-8
        return cls(**_asked(item), status="error", code=error.code, message=said)


def _asked(item: Item) -> dict[str, Any]:
    """What a row repeats of its item, so that it is a line of a manifest too."""
    start = item.start_seconds or None
    return {"id": item.row_id, "uri": item.uri, "start_seconds": start, "end_seconds": item.finite_end}
