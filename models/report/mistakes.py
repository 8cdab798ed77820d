"""The clips that a model is most wrong about, with the frames that the network saw of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.data.decode_ahead import FAULTS_OF_FILES, decode_ahead, said
from models.data.manifests import Clip
from models.data.spans import Span, runs
from models.report.figures import SAID_FROM, shown
from models.report.tested import Tested
from models.report.word_errors import served_runs
from service.names import visible
from service.video.spec import ClipSpec

_MOST_CLIPS = 12
_FRAMES = 6
_FRAMES_OF_TICKS = 8
# A page of many frames still goes into a mail.
_LONGEST_SIDE = 160
_JPEG_QUALITY = 82
_BATCH_FRAMES = 4


@dataclass(frozen=True)
class Frame:
    """image: a data URI. seconds: of its tick, from the stream's start."""

    image: str
    seconds: float


@dataclass(frozen=True)
class Mistake:
    """One clip. facts: name and value, for people. tracks: its labels in time, by name, spans of ticks.

    no_frames: why there are none.
    """

    name: str
    facts: list[tuple[str, str]]
    frames: list[Frame]
    tracks: dict[str, list[Span]] = field(default_factory=dict)
    no_frames: str = ""


def worst_mistakes(tested: Tested, shortest_seconds: float = 0.0, most: int = _MOST_CLIPS) -> list[Mistake]:
    """At most so many, the worst first; clips that are all right are none.

    Of one label a clip by how much more the wrong one scored, of a label a tick by wrong ticks, else by the mean error
    of scores. shortest_seconds: of runs. Frames are decoded anew; a file that is gone by now has none.
    """
    badness = _badness(tested)
    order = [index for index in np.argsort(-badness, kind="stable").tolist() if badness[index] > 0][:most]
    clips = [tested.clips[index] for index in order]
    count = _FRAMES_OF_TICKS if tested.targets.task.every_tick else _FRAMES
    lengths = {clip.path: len(tested.loaded.features[clip.path]) for clip in clips}
    wanted = {
        path: np.unique(((np.arange(count) + 0.5) * ticks / count).astype(int)) for path, ticks in lengths.items()
    }
    pictures, why = seen_frames(wanted, tested.held.spec)
    found = []
    for index, clip in zip(order, clips, strict=True):
        times = tested.tick_times(clip)
        frames = [Frame(as_uri(picture), times.at(tick)) for tick, picture in pictures.get(clip.path, ())]
        facts, tracks = _facts(tested, index), {}
        if tested.targets.task.every_tick:
            tracks = _tracks(tested, index, clip, shortest_seconds)
        found.append(Mistake(visible(clip.path.name), facts, frames, tracks, why.get(clip.path, "")))
    return found


def seen_frames(
    wanted: Mapping[Path, NDArray[np.int64]], spec: ClipSpec
) -> tuple[dict[Path, list[tuple[int, NDArray[np.uint8]]]], dict[Path, str]]:
    """Frames as the network gets them, (H, W, 3) uint8 RGB, with their ticks, by clip; and why a clip has none.

    wanted: ticks of each clip, in order.
    """
    found: dict[Path, list[tuple[int, NDArray[np.uint8]]]] = {}
    why = {path: "the file is gone" for path in wanted if not path.is_file()}
    with decode_ahead([path for path in wanted if path not in why], spec, _BATCH_FRAMES) as clips:
        for clip in clips:
            left, at, kept = wanted[clip.path].tolist(), 0, []
            try:
                for batch in clip.batches():
                    for frame, ticks in zip(batch.frames, batch.ticks.tolist(), strict=True):
                        at += ticks
                        while left and left[0] < at:
                            kept.append((left.pop(0), frame))
            except FAULTS_OF_FILES as error:
                why[clip.path] = visible(said(error).replace(str(clip.path), clip.path.name))
            else:
                found[clip.path] = kept
    return found, why


def as_uri(picture: NDArray[np.uint8]) -> str:
    """A JPEG of at most 160 pixels a side, as a data URI; picture: (H, W, 3) uint8 RGB."""
    scale = _LONGEST_SIDE / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(packed.tobytes()).decode()}"


def _badness(tested: Tested) -> NDArray[np.float64]:
    """(C), 0 where nothing is wrong."""
    scores, truths = tested.scores.astype(np.float64), tested.truths
    task = tested.targets.task.name
    if task == "label":
        missed: NDArray[np.float64] = scores.max(axis=1) - scores[np.arange(len(scores)), truths]
        return missed
    if task == "tick_label":
        wrong = tested.by_clip(scores.argmax(axis=1) != truths)
        return np.array([each.sum() for each in wrong], np.float64)
    error: NDArray[np.float64] = np.abs(scores - truths).mean(axis=1)
    return np.where(((scores > SAID_FROM) != (truths > 0)).any(axis=1), error, 0.0) if task == "labels" else error


def _facts(tested: Tested, index: int) -> list[tuple[str, str]]:
    labels, task = tested.targets.labels, tested.targets.task.name
    if task == "tick_label":
        wrong = tested.by_clip(tested.scores.argmax(axis=1) != tested.truths)[index]
        return [("wrong", f"{wrong.sum()} of {len(wrong)} ticks")]
    scores, truth = tested.scores[index], tested.truths[index]
    if task == "label":
        best = int(scores.argmax())
        return [
            ("label", f"{labels[truth]} ({shown(float(scores[truth]))})"),
            ("predicted", f"{labels[best]} ({shown(float(scores[best]))})"),
        ]
    if task == "value":
        pairs = zip(labels, truth.tolist(), scores.tolist(), strict=True)
        return [(name, f"{true:.4g}, predicted {claimed:.4g}") for name, true, claimed in pairs]
    return [("labels", _named(labels, scores, truth > 0)), ("predicted", _named(labels, scores, scores > SAID_FROM))]


def _named(labels: Sequence[str], scores: NDArray[np.floating], held: NDArray[np.bool_]) -> str:
    said = [f"{labels[at]} ({shown(float(scores[at]))})" for at in np.flatnonzero(held).tolist()]
    return ", ".join(said) or "none"


def _tracks(tested: Tested, index: int, clip: Clip, shortest_seconds: float) -> dict[str, list[Span]]:
    labels = tested.targets.labels
    true = [labels[at] for at in tested.by_clip(tested.truths)[index].tolist()]
    predicted = served_runs(tested.by_clip(tested.scores)[index], tested.tick_times(clip), shortest_seconds)
    return {
        "true": list(runs(true, "")),
        "predicted": [Span(run.start, run.stop, labels[run.label_index]) for run in predicted],
    }
