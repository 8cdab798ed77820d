"""What a model is held against on the same clips: its frames shuffled, single frames, and a few frames around each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from models.data.manifests import DatasetError
from models.data.parts import Parts, cut
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.heads import EachFrame, FramesAround
from models.intervals import ratio_interval
from models.recipe import DataSettings
from models.report.figures import Figure, figures_of
from models.report.tested import Tested
from models.served import right_when_shuffled, served_scores
from models.study.methods import train_method
from models.twice import train_twice

# A word or a transition is told by some frames: as many as a third of a second at 25 a second.
_SPAN_FRAMES, _SPAN_HIDDEN = 9, 128


def shuffled_frames(tested: Tested) -> Figure:
    """Accuracy of the same model of one label a clip, a mean over orders of the frames."""
    share, clips = right_when_shuffled(tested.model, tested.windows, seed=0), len(tested.clips)
    right = float(share.sum())
    said = f"{right:.0f}" if right == round(right) else f"{right:.1f}"
    ones = torch.ones(clips).numpy()
    return Figure("accuracy", ratio_interval(share, ones, tested.groups), f"{said} of {clips} clips")


def without_recurrence(tested: Tested, shortest_seconds: float) -> tuple[list[tuple[str, Figure]], str]:
    """Figures of what carries no state, by name, trained on the train part as this model was; or why there are none.

    Of one label a clip a linear layer on the window's middle frame. Of a label a tick a linear layer on each frame by
    itself, and a hidden layer on the frames around each.
    """
    if tested.targets.task.name not in ("label", "tick_label"):
        return [], f"none is trained for the task {tested.targets.task.name!r}"
    if not tested.has_train:
        return [], "the data has no train part"
    try:
        parts = cut(
            tested.loaded.clips, tested.loaded.features, tested.targets, tested.held.spec,
            DataSettings.validation_fraction, DataSettings.validation_seed, tested.loaded.times,
        )  # fmt: skip
    except DatasetError as error:  # of the train part: no validation groups
        return [], str(error)
    rows = []
    for name, model in _trained(tested, parts):
        scores = served_scores(model, tested.windows, tested.targets.task).numpy()
        rows += [(name, figure) for figure in figures_of(tested, scores, shortest_seconds)]
    return rows, ""


def _trained(tested: Tested, parts: Parts) -> Iterator[tuple[str, nn.Module]]:
    num_labels, settings, task = len(tested.targets.labels), FitSettings(), tested.targets.task
    if not task.every_tick:
        yield "single frame", train_method("single_frame", parts, num_labels, HeadSettings(), settings, seed=0)[0]
        return
    feature_size, dropout = parts.train.rows.shape[1], HeadSettings.input_dropout
    builders: dict[str, Callable[[], nn.Module]] = {
        "single frame": lambda: EachFrame(feature_size, num_labels, dropout),
        f"{_SPAN_FRAMES} frames around": lambda: FramesAround(
            feature_size, num_labels, _SPAN_FRAMES, _SPAN_HIDDEN, dropout
        ),
    }
    for name, build in builders.items():

        def fresh(build: Callable[[], nn.Module] = build) -> nn.Module:
            torch.manual_seed(0)
            return build()

        yield name, train_twice(fresh, parts, settings, 0, task=task, num_labels=num_labels)[0]
