"""What a model is held against on the same clips: its frames shuffled, and single frames."""

from __future__ import annotations

import torch
from torch import nn

from models.data.manifests import DatasetError
from models.data.parts import Parts, cut
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.heads import EachFrame
from models.intervals import ratio_interval
from models.recipe import DataSettings
from models.report.figures import Figure, figures_of
from models.report.tested import Tested
from models.served import right_when_shuffled, served_scores
from models.study.methods import train_method
from models.twice import train_twice


def shuffled_frames(tested: Tested) -> Figure:
    """Accuracy of the same model of one label a clip, a mean over orders of the frames."""
    share, clips = right_when_shuffled(tested.model, tested.windows, seed=0), len(tested.clips)
    right = float(share.sum())
    said = f"{right:.0f}" if right == round(right) else f"{right:.1f}"
    ones = torch.ones(clips).numpy()
    return Figure("accuracy", ratio_interval(share, ones, tested.groups), f"{said} of {clips} clips")


def single_frame(tested: Tested, shortest_seconds: float) -> tuple[list[Figure], str]:
    """Figures of a linear layer on single frames, trained on the train part as this model was; or why there are none.

    Of one label a clip the window's middle frame, of a label a tick each frame by itself.
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
    scores = served_scores(_trained(tested, parts), tested.windows, tested.targets.task).numpy()
    return figures_of(tested, scores, shortest_seconds), ""


def _trained(tested: Tested, parts: Parts) -> nn.Module:
    num_labels, settings = len(tested.targets.labels), FitSettings()
    if not tested.targets.task.every_tick:
        return train_method("single_frame", parts, num_labels, HeadSettings(), settings, seed=0)[0]

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return EachFrame(parts.train.rows.shape[1], num_labels, HeadSettings.input_dropout)

    return train_twice(fresh, parts, settings, 0, task=tested.targets.task, num_labels=num_labels)[0]
