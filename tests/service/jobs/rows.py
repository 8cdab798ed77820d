"""Rows for tests of whatever keeps rows: real types, made-up content."""

from __future__ import annotations

from typing import Any

from service.jobs.errors import FetchFailed
from service.jobs.items import Item, Row
from service.results import LabelScore, ModelName, Receipt, Segment, Timing

MODEL = ModelName(name="tiny", version="1", task="clip", sha256="a" * 64)


def ok(number: int, model: ModelName = MODEL) -> Row:
    receipt: dict[str, Any] = {name: _made_up(field.annotation, number) for name, field in Receipt.model_fields.items()}
    timing = Timing(**dict.fromkeys(Timing.model_fields, number / 8))
    return Row(
        id=f"clip-{number}", uri=f"folder/clip {number}.mp4", start_seconds=number / 4 or None, status="ok",
        model=model,
        predictions=[LabelScore(label="Archery, “far”", score=0.75), LabelScore(label="Bowling", score=0.25)],
        abstained=False,
        segments=[Segment(start_seconds=0.0, end_seconds=2.5, label="Archery", score=0.75)],
        receipt=Receipt.model_validate(receipt), timing_ms=timing, warnings=["two lines\nof a warning"],
    )  # fmt: skip


def failed(number: int) -> Row:
    return Row.failed(Item(f"clip-{number}", f"{number}.mp4"), FetchFailed('can\'t be read:\nno such file, "really"'))


def _made_up(kind: object, number: int) -> object:
    if kind is bool:
        return number % 2 == 0
    if kind is int:
        return number
    if kind is float:
        return number / 4
    return (
        "off" if "Literal" in str(kind) else (None if "None" in str(kind) and number % 3 == 0 else _text(kind, number))
    )


def _text(kind: object, number: int) -> object:
    if "float" in str(kind):
        return number / 4
    return number if "int" in str(kind) else f"text {number}"
