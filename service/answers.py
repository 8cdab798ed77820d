"""From a clip's scores to its answer: the best labels, the segments, and what is to be said with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.bundle import ModelDocument
from service.engine.clip_scores import ClipScores
from service.errors import BadParameter
from service.results import LabelScore, Segment
from service.video.chunk import NO_TIMES, Times
from service.video.region import Region
from service.video.report import DecodeReport
from service.video.spec import ClipSpec
from service.video.ticks import TickTimes
from service.video.windows import Labels, Scores, Window, absorb, runs, smooth

# A window's features (D = 1280) are then at most 5 MB for each clip in progress.
MAX_WINDOW_FRAMES = 1024
# Windows that read one tick: a tick in a window is some 3.5 µs of the head, and 5.7 ms of the CNN (measured, CPU).
MAX_WINDOWS_PER_FRAME = 64


@dataclass(frozen=True)
class AnswerOptions:
    """What a request wants of its answer; the defaults are the model's own windows, and every run of its timeline.

    top_k: how many labels. window_frames, stride_frames: in ticks, None for the model's own. min_score: segments
    below it are left out; None leaves out none. min_segment_seconds: shorter runs are merged into a neighbour.
    region: `x,y,width,height`, the part of the picture to look at, as `Region.parse`; None for the model's own.
    smoothing_cells: odd width of a centred moving mean over the timeline's cells; 1 leaves them. Raises BadParameter.
    """

    top_k: int = 5
    window_frames: int | None = None
    stride_frames: int | None = None
    min_score: float | None = None
    min_segment_seconds: float = 0.0
    smoothing_cells: int = 1
    region: str | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("top_k", self.top_k), ("window", self.window_frames), ("stride", self.stride_frames),
            ("smoothing", self.smoothing_cells),
        ):  # fmt: skip
            if value is not None and value < 1:
                raise BadParameter(f"{name} is {value}; the least is 1", value=value, limit=1)
        if self.smoothing_cells % 2 == 0:
            raise BadParameter(
                f"smoothing is {self.smoothing_cells}, and an even mean has no centre; give {self.smoothing_cells + 1}",
                value=self.smoothing_cells,
            )
        if self.region is not None:
            Region.parse(self.region)
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise BadParameter(f"min_score is {self.min_score}; give a number, or leave it out", value=self.min_score)
        if not 0 <= self.min_segment_seconds < math.inf:
            raise BadParameter(
                f"min_segment_seconds is {self.min_segment_seconds}; give 0 or more seconds",
                value=self.min_segment_seconds,
                limit=0,
            )


@dataclass(frozen=True)
class Answer:
    """A clip's answer: labels over the whole clip, best first; segments in order; what the caller should know.

    abstained: the clip is probably none of the labels, as the best score is below the model's threshold.
    """

    predictions: list[LabelScore]
    abstained: bool
    segments: list[Segment]
    warnings: list[str]


def answer(
    document: ModelDocument,
    scores: ClipScores,
    report: DecodeReport,
    options: AnswerOptions,
    seconds: Times = NO_TIMES,
) -> Answer:
    """The answer for a clip that was decoded as `report` says; `scores` are of the windows of `spec_with`.

    seconds: (ticks,), when each begins, of a model that sees every frame (`sample_fps` None).
    """
    times = TickTimes(document.spec.sample_fps, report.origin_seconds, report.ticks_end_seconds, seconds)
    return Answer(
        _best(document.labels, scores, options.top_k),
        document.abstain is not None and float(scores.mean.max()) < document.abstain.threshold,
        _segments(document.labels, scores, times, options),
        _warnings(document.spec, options),
    )


def spec_with(spec: ClipSpec, options: AnswerOptions) -> ClipSpec:
    """The model's spec with the request's region, window and stride. Raises BadParameter.

    A window alone keeps the model's stride as far as that leaves no gap and is not too fine for it; for a model of
    whole clips the windows then stand side by side. A stride alone keeps the model's window.
    """
    if options.region is not None:
        spec = spec.model_copy(update={"region": Region.parse(options.region)})
    window = options.window_frames or spec.window_frames
    if options.window_frames is None and options.stride_frames is None:
        return spec
    if window is None:
        raise BadParameter(
            f"stride is {options.stride_frames}, and the model sees a clip whole: there is no window to move; "
            "give a window too",
            value=options.stride_frames,
        )
    longest = max(MAX_WINDOW_FRAMES, spec.window_frames or 0)
    if window > longest:
        raise BadParameter(
            f"window is {window} ticks, the limit is {longest}; give a shorter one", value=window, limit=longest
        )
    own = math.ceil(spec.window_frames / spec.stride_frames) if spec.window_frames and spec.stride_frames else 1
    most = max(MAX_WINDOWS_PER_FRAME, own)
    least = math.ceil(window / most)
    stride = options.stride_frames or min(window, max(least, spec.stride_frames or window))
    if stride > window:
        raise BadParameter(
            f"stride {stride} is more than the window's {window} ticks, and the ticks between two windows would "
            f"not be seen; give a stride of at most {window}",
            value=stride,
            limit=window,
        )
    if stride < least:
        raise BadParameter(
            f"with window {window} and stride {stride} a tick is read by {math.ceil(window / stride)} windows, the "
            f"limit is {most}; give a stride of at least {least}",
            value=stride,
            limit=least,
        )
    return spec.model_copy(update={"window_frames": window, "stride_frames": stride})


def _best(labels: tuple[str, ...], scores: ClipScores, top_k: int) -> list[LabelScore]:
    """The clip's own scores, highest first; ties by label order."""
    mean = scores.mean
    order = np.argsort(-mean, kind="stable")[:top_k]
    return [LabelScore(label=labels[i], score=round(float(mean[i]), 6)) for i in order]


def _segments(labels: tuple[str, ...], scores: ClipScores, times: TickTimes, options: AnswerOptions) -> list[Segment]:
    """Runs of the timeline; a segment ends where the next tick begins, the last one with the last tick."""
    table = smooth(scores.table, options.smoothing_cells)
    found = runs(scores.cells, table, _labels(table, scores.cells, times, options.min_segment_seconds))
    return [
        Segment(
            start_seconds=round(times.at(run.start), 6),
            end_seconds=round(times.at(run.stop) if run.stop < scores.num_ticks else times.end_seconds, 6),
            label=labels[run.label_index],
            score=round(run.score, 6),
        )
        for run in found
        if options.min_score is None or run.score >= options.min_score
    ]


def _labels(table: Scores, cells: list[Window], times: TickTimes, shortest_seconds: float) -> Labels:
    best: Labels = table.argmax(axis=1)
    if shortest_seconds == 0:
        return best
    edges, least = times.measured(cells, shortest_seconds)
    return absorb(best, edges, table, least)


def _warnings(spec: ClipSpec, options: AnswerOptions) -> list[str]:
    unknown, said = "how right it is on these is not known", []
    window = options.window_frames
    if window is not None and window != spec.window_frames:
        own = "whole clips" if spec.window_frames is None else f"windows of {spec.window_frames}"
        said.append(f"windows of {window} ticks, where the model was trained on {own}: {unknown}")
    if options.region is not None and Region.parse(options.region) != spec.region:
        own = "whole pictures" if spec.region is None else f"the region {spec.region}"
        said.append(f"the region {options.region}, where the model was trained on {own}: {unknown}")
    return said
