"""The recipe: all that decides a model but the data itself, as one validated tree.

`python -m models train` reads it from TOML, with flags over it; the checkpoint and model.json store it. What is about
one machine is not in it: where data, stored features and the checkpoint lie.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import RecipeError
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.recipe_errors import Origin, said
from models.settings import TABLE, Setting, settings_of
from models.transfer import BatchNorm
from service.video.region import Region
from service.video.spec import ClipSpec, ResizePolicy

TaskName = Literal["label", "labels", "value", "tick_label"]  # of `models.tasks.TASKS`
# Both sides of a frame in one word; a recipe that is stored has the sides.
SIZE = "clip.size"
_SIDES = ("frame_height", "frame_width")


@dataclass(frozen=True)
class DataSettings:
    """What the data is called, and how it is cut. Where it lies is not of the recipe."""

    __pydantic_config__ = TABLE

    name: Annotated[str, Field(description="What the model card calls the data; empty: the name of its file.")] = ""
    licence: Annotated[str, Field(description="Licence of the data, for the certificate.")] = "not stated"
    split: Annotated[str, Field(description="Manifest column that says train or test.")] = "split"
    validation_fraction: Annotated[
        float, Field(gt=0, lt=1, description="Share of train's groups that early stopping watches.")
    ] = 0.25
    validation_seed: Annotated[int, Field(ge=0, description="Which groups those are.")] = 0


@dataclass(frozen=True)
class ClipSettings:
    """How clips become windows of frames; the defaults were chosen on validation groups (`cost`, MODEL_CARD.md).

    Raises RecipeError for windows that are none at this rate.
    """

    __pydantic_config__ = TABLE

    # As in ClipSpec; a stride of 2 s has at least one tick.
    sample_fps: Annotated[float, Field(ge=0.5, le=240, description="Ticks a second.")] = 4.0
    every_frame: Annotated[
        bool, Field(description="Every frame of the video is a tick, whatever sample_fps; window_frames counts them.")
    ] = False
    frame_height: Annotated[int, Field(ge=16, le=4096, description="Height of a frame, pixels.")] = 224
    frame_width: Annotated[int, Field(ge=16, le=4096, description="Width of a frame, pixels.")] = 224
    window_seconds: Annotated[float, Field(gt=0, le=3600, description="Length of a window, whatever the rate.")] = 4.0
    stride_seconds: Annotated[float, Field(gt=0, le=3600, description="From one window to the next.")] = 2.0
    window_frames: Annotated[
        int | None, Field(ge=1, description="Length of a window in ticks; not set: window_seconds.")
    ] = None
    stride_frames: Annotated[
        int | None, Field(ge=1, description="From one window to the next, ticks; not set: stride_seconds.")
    ] = None
    whole_clip: Annotated[bool, Field(description="A clip is one window, however long.")] = False
    resize: Annotated[ResizePolicy, Field(description="Fit of the picture into the frame.")] = "crop"
    region: Annotated[
        Region | None,
        Field(description="x, y, width, height of the part of the picture that is seen; not set: all of it."),
    ] = None

    def __post_init__(self) -> None:
        if self.every_frame and not self.whole_clip and None in (self.window_frames, self.stride_frames):
            raise RecipeError(
                "every_frame is set, and seconds are no number of frames then: give window_frames and stride_frames, "
                "or whole_clip"
            )
        window, stride = self._window, self._stride
        if not stride:
            raise RecipeError(
                f"stride_seconds is {self.stride_seconds:g}, less than a tick at {self.sample_fps:g} a second: make it "
                f"{1 / self.sample_fps:g} at least, or raise sample_fps"
            )
        if stride > window:
            raise RecipeError(
                f"{self._named('stride')} and {self._named('window')}: {stride} ticks from one window of {window} to "
                "the next leave some out; lower the stride, or make windows longer"
            )

    def _named(self, which: str) -> str:
        name = f"{which}_seconds" if getattr(self, f"{which}_frames") is None else f"{which}_frames"
        return f"{name} is {getattr(self, name):g}"

    @property
    def _window(self) -> int:
        return self.window_frames or round(self.window_seconds * self.sample_fps)

    @property
    def _stride(self) -> int:
        return self.stride_frames or round(self.stride_seconds * self.sample_fps)

    @property
    def spec(self) -> ClipSpec:
        """As the bundle has it, in ticks."""
        return ClipSpec(
            sample_fps=None if self.every_frame else self.sample_fps,
            frame_height=self.frame_height,
            frame_width=self.frame_width,
            region=self.region,
            resize=self.resize,
            window_frames=None if self.whole_clip else self._window,
            stride_frames=None if self.whole_clip else self._stride,
        )


@dataclass(frozen=True)
class TaskSettings:
    """What is learned: one label a clip, several, numbers, or a label a tick. Raises RecipeError."""

    __pydantic_config__ = TABLE

    kind: Annotated[TaskName, Field(description="label, labels (several), value (numbers) or tick_label.")] = "label"
    columns: Annotated[
        str, Field(min_length=1, description="Manifest columns of label, labels (a|b) or numbers, comma-separated.")
    ] = "label"
    background: Annotated[str, Field(min_length=1, description="Label of ticks that lie in no segment.")] = "none"
    widen_ticks: Annotated[
        int, Field(ge=0, description="Ticks of background that are given to the segment beside them.")
    ] = 0

    def __post_init__(self) -> None:
        if self.kind in ("label", "labels") and len(self.names) > 1:
            raise RecipeError(f"columns is {self.columns!r}: the task {self.kind!r} reads one; `value` reads several")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read; of ticks none."""
        return () if self.kind == "tick_label" else tuple(filter(None, map(str.strip, self.columns.split(","))))


@dataclass(frozen=True)
class EncoderSettings:
    """The image CNN, as `models.encoders.build` takes it, and from where on it is trained."""

    __pydantic_config__ = TABLE

    name: Annotated[str, Field(description="Ours, or a classifier of torchvision.")] = "efficientnet-lite0"
    weights: Annotated[
        str, Field(description="Of the encoder: pretrained, random, or a file: weights, or a checkpoint.")
    ] = "pretrained"
    train_from: Annotated[
        str | None, Field(description="Stage from which on it is trained too; not set: it is frozen.")
    ] = None
    learning_rate: Annotated[float, Field(gt=0, le=1e3, description="Of its trained stages.")] = 1e-4
    batch_norm: Annotated[BatchNorm, Field(description="Of its trained stages: running statistics, or live.")] = (
        "frozen"
    )
    head_epochs: Annotated[
        int, Field(ge=0, description="First epochs in which the head alone is trained, before its stages are.")
    ] = 0


class Recipe(BaseModel):
    """The tree. Made by `read`, which says what is wrong; the defaults are those of a head on stored features."""

    model_config = ConfigDict(**TABLE, frozen=True)

    name: Annotated[str, Field(min_length=1, description="Model name.")] = "actions-lstm"
    # What every generator takes, numpy's old one too.
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Of weights, order and dropout.")] = 0
    data: DataSettings = DataSettings()
    task: TaskSettings = TaskSettings()
    clip: ClipSettings = ClipSettings()
    encoder: EncoderSettings = EncoderSettings()
    head: HeadSettings = HeadSettings()
    fit: FitSettings = FitSettings()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON for a checkpoint and model.json: what is not set is left out; a file of weights is only named, as
        where it lies is about one machine.
        """
        tree: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        tree["encoder"]["weights"] = Path(self.encoder.weights).name
        return tree

    def to_toml(self) -> str:
        """All settings, each below its meaning and its limit; what is not set is commented out."""
        tree = self.model_dump(mode="json")
        root = [_toml(setting, tree[setting.name]) for setting in root_settings().values()]
        tables = [
            "\n".join([f"\n[{name}]", *(_toml(setting, tree[name][key]) for key, setting in settings.items())])
            for name, settings in table_settings().items()
        ]
        return "\n".join([*root, *tables]) + "\n"


def table_settings() -> dict[str, dict[str, Setting]]:
    """The settings of each table, by its name and theirs."""
    defaults = {name: field.default for name, field in Recipe.model_fields.items()}
    return {name: settings_of(type(table)) for name, table in defaults.items() if is_dataclass(table)}


def root_settings() -> dict[str, Setting]:
    """The settings that are in no table."""
    tables = table_settings()
    return {name: Setting.of(name, f, f.default) for name, f in Recipe.model_fields.items() if name not in tables}


def size_setting() -> Setting:
    """Of `clip.size`: both sides of a frame."""
    side = settings_of(ClipSettings)["frame_height"]
    return replace(side, name="size", description="Height and width of a frame, pixels.")


def read(file: Path | None = None, flags: Mapping[str, object] | None = None) -> Recipe:
    """The recipe of a TOML file, else the defaults, with `flags`, values by dotted key, over it.

    Raises RecipeError, which names file or flag, key, value, limit and remedy.
    """
    tree = _parsed(file) if file else {}
    origin = Origin(file, frozenset(flags or ()))
    for key, value in (flags or {}).items():
        table, _, name = key.rpartition(".")
        place = tree.setdefault(table, {}) if table else tree
        if isinstance(place, dict):  # else the file is wrong, and it is said below
            place[name] = value
            if key == SIZE:
                for side in _SIDES:
                    place.pop(side, None)
    origin = _spread_size(tree, origin)
    try:
        # JSON: pydantic makes a dataclass of nothing else without guessing at types. A date is none of a recipe's
        # types, and so is a list of one.
        return Recipe.model_validate_json(json.dumps(tree, default=lambda date: [str(date)]), strict=True)
    except ValidationError as error:
        raise RecipeError(said(error, origin, _known())) from error


def _known() -> dict[str, dict[str, Setting | None]]:
    """What each table may have; the root, '', has tables too."""
    tables = table_settings()
    tables["clip"] = {"size": size_setting(), **tables["clip"]}
    return {"": {**root_settings(), **dict.fromkeys(tables)}, **{name: {**each} for name, each in tables.items()}}


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # those of TOML, of UTF-8, and of integers with thousands of digits
        raise RecipeError(f"{file} is not TOML in UTF-8: {error}; `python -m models recipe` prints one") from error


def _spread_size(tree: dict[str, Any], origin: Origin) -> Origin:
    """`clip.size` becomes both sides, in place."""
    clip = tree.get("clip")
    if not isinstance(clip, dict) or "size" not in clip:
        return origin
    for side in _SIDES:
        if side in clip:
            raise RecipeError(f"{origin.file}: clip.size and clip.{side} are both there; leave one of them out")
    size = clip.pop("size")
    clip.update(dict.fromkeys(_SIDES, size))
    return origin.renamed({f"clip.{side}": SIZE for side in _SIDES})


def _toml(setting: Setting, value: Any) -> str:
    limit = "" if setting.limit == setting.noun else f"; {setting.limit}"
    comment = f"# {setting.description.removesuffix('.')}{limit}.\n"
    if value is None:
        return f"{comment}# {setting.name} ="
    if isinstance(value, dict):
        # Inline: below a header of its own it would swallow the settings that follow.
        inner = ", ".join(tomli_w.dumps({key: each}).rstrip("\n") for key, each in value.items())
        return f"{comment}{setting.name} = {{ {inner} }}"
    return comment + tomli_w.dumps({setting.name: value}).rstrip("\n")
