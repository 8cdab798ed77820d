"""Training's own scores as a table, for networks that `python -m models train` did not train."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from export.errors import ExportError
from export.prove.clips import ProofClip
from export.prove.frames import reference_of
from export.prove.reference import Reference, feature_size
from export.source import VideoModel
from export.trace.head import HeadGraph
from models.data.training_clips import TrainingClip
from service.bundle import file_sha256
from service.video.pool import DecodePool

_FIELDS, _SCORE = ("name", "sha256", "label"), "score:"


def score_clips(model: VideoModel, clips: Sequence[ProofClip]) -> tuple[TrainingClip, ...]:
    """What the modules in memory say of each clip, decoded and sampled by the code that serves; PyTorch in float64."""
    graph = HeadGraph(model.head, feature_size(model), model.task)
    reference = Reference(model, graph)
    with DecodePool(num_credits=1) as pool:
        rows = [(clip.path, clip.label, reference_of(clip, reference, pool).mean.tolist()) for clip in clips]
    return scored_by(model.labels, rows)


def write_scores(table: Path, labels: Sequence[str], clips: Sequence[TrainingClip]) -> None:
    """A CSV with one row a clip, 8 or more, 24 if there are; the export's `--scores` takes it.

    Columns: name, sha256, label (empty where it has none), and `score:<label>` for each label. The scores are those of
    the networks that were trained, as they were trained: of the training's own validation loop (`scored_by`), or, where
    it decodes and samples by our code, of `score_clips` on the modules in its memory. Those of a factory that the
    export calls again prove nothing of the training. Clips of the validation part show most.
    """
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_FIELDS, *(f"{_SCORE}{label}" for label in labels)])
        for clip in clips:
            writer.writerow([clip.name, clip.sha256, clip.label or "", *(repr(clip.scores[label]) for label in labels)])


def scored_by(
    labels: Sequence[str], rows: Iterable[tuple[Path, str | None, Sequence[float]]]
) -> tuple[TrainingClip, ...]:
    """Of a validation loop of one's own: path, label and scores (K) of each clip, in the order of `labels`."""
    return tuple(
        TrainingClip(path.name, file_sha256(path), label, dict(zip(labels, map(float, scores), strict=True)))
        for path, label, scores in rows
    )


def read_scores(table: Path) -> tuple[TrainingClip, ...]:
    """Raises ExportError, which names line and column."""
    clips = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            labels = [name.removeprefix(_SCORE) for name in columns if name.startswith(_SCORE)]
            if missing := [name for name in _FIELDS if name not in columns] or ([] if labels else [f"{_SCORE}<label>"]):
                raise ExportError(
                    f"{table}: column {missing[0]!r} is missing, there are {columns}; "
                    "`export.scores.write_scores` writes such a table"
                )
            for row in reader:
                clips.append(
                    TrainingClip(
                        row["name"],
                        (row["sha256"] or "").lower(),
                        row["label"] or None,
                        {label: _number(row[f"{_SCORE}{label}"], f"{table}:{reader.line_num}") for label in labels},
                    )
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExportError(f"{table} can't be read as a table of scores: {error}") from error
    return tuple(clips)


def _number(text: str | None, where: str) -> float:
    try:
        score = float(text or "")
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ExportError(f"{where}: {text!r} is no score; write finite numbers with a point")
    return score
