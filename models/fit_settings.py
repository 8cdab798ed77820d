"""Settings of training, as a recipe has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from models.settings import TABLE

# Beyond these float32 overflows in the first step, or nothing moves.
_LEAST_RATE, _MOST_RATE = 1e-9, 1e3
Options = dict[str, bool | int | float | str | list[int | float]]
MixedPrecision = Literal["off", "bfloat16", "float16"]


@dataclass(frozen=True)
class FitSettings:
    """Hyperparameters; the defaults are for a head on stored features. `python -m models choose` compares others."""

    __pydantic_config__ = TABLE

    epochs: Annotated[int, Field(ge=1, description="At most; early stopping finds how many.")] = 30
    patience: Annotated[int, Field(ge=1, description="Epochs without a lower validation loss that end training.")] = 6
    batch_windows: Annotated[int, Field(ge=1, description="Windows of a step.")] = 64
    windows_per_clip: Annotated[
        int | None, Field(ge=1, description="Windows of a clip that an epoch draws, anew in each; not set: all.")
    ] = None
    learning_rate: Annotated[
        float, Field(ge=_LEAST_RATE, le=_MOST_RATE, description="Of the optimizer, at the start of the schedule.")
    ] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=_MOST_RATE, description="Of the optimizer.")] = 1e-2
    label_smoothing: Annotated[float, Field(ge=0, le=1, description="Share of each label given to all.")] = 0.0
    gradient_norm: Annotated[float, Field(ge=_LEAST_RATE, description="Gradients are scaled down to this norm.")] = 1.0
    gradient_value: Annotated[
        float | None, Field(ge=_LEAST_RATE, description="Each gradient is cut to ± this before; not set: it isn't.")
    ] = None
    loss: Annotated[str, Field(description="Of torch.nn; empty: the task's first.")] = ""
    class_weights: Annotated[
        Literal["none", "balanced"], Field(description="Whether rare labels weigh as much as frequent ones.")
    ] = "none"
    optimizer: Annotated[str, Field(description="Of torch.optim.")] = "AdamW"
    optimizer_options: Annotated[
        Options | None, Field(description="What else the optimizer is given, by PyTorch's names.")
    ] = None
    schedule: Annotated[
        str, Field(description="Of torch.optim.lr_scheduler, a step an epoch; `none`: the rate stays.")
    ] = "CosineAnnealingLR"
    schedule_options: Annotated[
        Options | None, Field(description="What the schedule is given; not set: as many epochs as there are.")
    ] = None
    truncate_ticks: Annotated[
        int | None,
        Field(ge=1, description="Ticks that gradients run back through (TBPTT); not set: the whole window."),
    ] = None
    mixed_precision: Annotated[
        MixedPrecision, Field(description="What trained stages of the encoder compute in where PyTorch deems it safe.")
    ] = "off"
    flip: Annotated[
        bool, Field(description="Half of the windows are mirrored, in each epoch others; where pixels are trained on.")
    ] = False
    shift_pixels: Annotated[
        int, Field(ge=0, le=1024, description="Windows are moved by up to so much; where pixels are trained on.")
    ] = 0
    brightness: Annotated[
        float,
        Field(
            ge=0, lt=1, description="Windows are brighter or darker by up to this share; where pixels are trained on."
        ),
    ] = 0.0

    @property
    def augments(self) -> tuple[str, ...]:
        """The settings that change pixels at random, those that are set."""
        return tuple(name for name in ("flip", "shift_pixels", "brightness") if getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint: plain types only."""
        return asdict(self)
