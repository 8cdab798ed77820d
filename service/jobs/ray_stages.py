"""The stages of a batch on many machines, each an actor's: decode, score, join. What goes between them are records.

A record is a piece of a clip's way: `index` counts them for each id, and the last one says so. It carries frames to
`Score`, features from there to `Join` where a clip is longer than one piece, and the row in the end. Nothing here
imports Ray: what it asks of a stage is a callable class over batches of columns.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from service.answers import spec_with
from service.engine.chunks import Encoded, Features
from service.engine.head_run import HeadRun, pieces
from service.jobs.items import Item, Row
from service.jobs.job import Options
from service.jobs.predictor import NOT_THE_ITEM_S, failed, opened
from service.jobs.remote import Remote
from service.names import path_of
from service.receipts import conclude
from service.serving import Serving
from service.settings import ROOT, Settings
from service.spool import Spool
from service.timing import Watch
from service.video.chunk import FrameChunk, Times
from service.video.container import Container
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

# Frames of a piece: 19 MB at 224 x 224. Clips of so many ticks or fewer need no `Join`.
PIECE_FRAMES = 128

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """What all stages know. sent: settings, whose models_dir counts from the application's folder where it is in there.

    allowed: prefixes of URLs, as `Remote` has them.
    """

    sent: Settings
    model: str
    spec: ClipSpec
    options: Options
    allowed: tuple[str, ...] | None = None

    @property
    def settings(self) -> Settings:
        """On this machine, where Ray has unpacked the application elsewhere."""
        return self.sent.model_copy(update={"models_dir": ROOT / self.sent.models_dir})


@dataclass(frozen=True)
class Record:
    """One piece. data: frames (N, H, W, 3) uint8 or features (N, D) float32, raw; about: JSON, of the last one.

    ticks, seconds: as `FrameChunk` has them, int64 and float64, raw.
    """

    item: str
    index: int
    last: bool = False
    data: bytes = b""
    ticks: bytes = b""
    seconds: bytes = b""
    about: str = ""
    row: str = ""


def columns(records: Sequence[Record]) -> Batch:
    """As Ray Data takes them."""
    names = Record.__dataclass_fields__
    return {name: np.array([getattr(record, name) for record in records], dtype=object) for name in names}


def records_of(batch: Mapping[str, Any]) -> list[Record]:
    """Back."""
    names = list(Record.__dataclass_fields__)
    return [Record(**dict(zip(names, values, strict=True))) for values in zip(*(batch[n] for n in names), strict=True)]


class Decode:
    """Items in; frames out, piece by piece, or the row of an item that can't be read."""

    def __init__(self, task: Task) -> None:
        settings = task.settings
        self._task = task
        self._pool = DecodePool(1, settings.decode_limits()).__enter__()
        spool = Spool(settings.spool_dir, settings.spool_quota_bytes, settings.max_upload_bytes)
        self._remote = Remote(task.allowed, spool)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Batch]:
        for text, path in zip(batch["item"], batch["path"], strict=True):
            for record in self._records(str(text), path_of(path) if path else None):
                yield columns([record])

    def _records(self, text: str, path: Path | None) -> Iterator[Record]:
        item = Item(**json.loads(text))
        index = 0
        try:
            with opened(item.location, self._remote, threading.Event(), path) as (file, sha256):
                opening = self._pool.open(
                    file, self._task.spec, start_seconds=item.start_seconds, end_seconds=item.end_seconds,
                    stream=self._task.options.stream, strict=self._task.options.strict,
                )  # fmt: skip
                with opening as clip:
                    chunks: list[FrameChunk] = []
                    for chunk in clip.chunks():
                        if sum(len(held.frames) for held in chunks) + len(chunk.frames) > PIECE_FRAMES:
                            yield _piece(text, index, chunks)
                            index, chunks = index + 1, []
                        chunks.append(FrameChunk(chunk.frames.copy(), chunk.ticks, chunk.seconds))
                        chunk.release()
                    about = {"report": asdict(clip.report()), "container": asdict(clip.container), "sha256": sha256}
                    yield _piece(text, index, chunks, json.dumps(about))
        except NOT_THE_ITEM_S:
            raise
        except Exception as error:  # noqa: BLE001  (as in Predictor)
            yield _failed(text, index, error)


class Score:
    """Frames in; the rows of clips that are one piece, and features of the others, out."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._serving = Serving(task.settings)
        self._serving.load()
        self._model = self._serving.model(task.model)

    def __call__(self, batch: Mapping[str, Any]) -> Batch:
        records = records_of(batch)
        shape = (-1, *self._model.batcher.frame_shape)
        with self._model.batcher.lease() as lease:
            futures = [
                None if record.row else lease.submit(np.frombuffer(record.data, np.uint8).reshape(shape))
                for record in records
            ]
            return columns([
                record if future is None else self._settled(record, future)
                for record, future in zip(records, futures, strict=True)
            ])  # fmt: skip

    def _settled(self, record: Record, future: Future[Encoded]) -> Record:
        try:
            return self._scored(record, future.result())
        except NOT_THE_ITEM_S:
            raise
        except Exception as error:  # noqa: BLE001  (as in Predictor)
            return _failed(record.item, record.index, error)

    def _scored(self, record: Record, encoded: Encoded) -> Record:
        if record.last and record.index == 0:
            clip = _Clip(self._serving, self._task)
            return Record(record.item, 0, last=True, row=clip.push(record, encoded.features))
        data = np.ascontiguousarray(encoded.features, np.float32).tobytes()
        return replace(record, data=data)


class Join:
    """Features of clips of several pieces in, in whatever order; rows out. One actor: it is all clips' memory."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._serving: Serving | None = None
        self._clips: dict[str, _Clip] = {}
        self._failed: set[str] = set()  # items whose row is out, and of which more pieces may come

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        rows = [row for record in records_of(batch) if (row := self._row(record))]
        return {"row": np.array(rows, dtype=object)}

    def _row(self, record: Record) -> str:
        if record.item in self._failed:
            return ""
        if record.row:
            self._clips.pop(record.item, None)
            if record.index or not record.last:
                self._failed.add(record.item)
            return record.row
        if self._serving is None:  # most batches have no long clip
            self._serving = Serving(self._task.settings)
            self._serving.load()
        clip = self._clips.setdefault(record.item, _Clip(self._serving, self._task))
        clip.held[record.index] = record
        row = ""
        try:
            while (upcoming := clip.held.pop(clip.num_pushed, None)) is not None:
                row = clip.push(upcoming, np.frombuffer(upcoming.data, np.float32).reshape(-1, clip.feature_size))
        except NOT_THE_ITEM_S:
            raise
        except Exception as error:  # noqa: BLE001  (as in Predictor)
            return self._row(_failed(record.item, record.index, error))
        if row:
            del self._clips[record.item]
        return row


class _Clip:
    """One clip's head. held: pieces that came before their turn."""

    def __init__(self, serving: Serving, task: Task) -> None:
        model = serving.model(task.model)
        self.feature_size = model.batcher.feature_size
        self.num_pushed = 0
        self.held: dict[int, Record] = {}
        self._options = task.options
        self._head = HeadRun(model, spec_with(model.document.spec, task.options.answer))
        self._watch = Watch(None)
        self._seconds: list[Times] = []

    def push(self, record: Record, features: Features) -> str:
        """The next piece; the row, of the last one."""
        self.num_pushed += 1
        self._seconds.append(np.frombuffer(record.seconds, np.float64))
        for rows in pieces(np.frombuffer(record.ticks, np.int64)):
            self._head.push(features[rows])
        if not record.last:
            return ""
        about = json.loads(record.about)
        item = Item(**json.loads(record.item))
        report, container = DecodeReport(**about["report"]), TypeAdapter(Container).validate_python(about["container"])
        scores, options = self._head.finish(), self._options.answer
        said = conclude(
            self._head, scores, report, container, options, self._watch, np.concatenate(self._seconds),
            sha256=about["sha256"],
        )  # fmt: skip
        return Row.ok(item, said).to_json()


def _failed(text: str, index: int, error: Exception) -> Record:
    item = Item(**json.loads(text))
    return Record(text, index, last=index == 0, row=failed(item, error).to_json())


def _piece(item: str, index: int, chunks: Sequence[FrameChunk], about: str = "") -> Record:
    return Record(
        item, index, bool(about), np.concatenate([chunk.frames for chunk in chunks]).tobytes(),
        np.concatenate([chunk.ticks for chunk in chunks]).tobytes(),
        np.concatenate([chunk.seconds for chunk in chunks]).tobytes(), about,
    )  # fmt: skip
