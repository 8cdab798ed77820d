"""Flags of commands, made from the settings of a recipe: the same ranges, defaults and meanings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from models.recipe import SIZE, root_settings, size_setting, table_settings
from models.settings import Setting, flag_of

# Both sides of a frame have one flag, and a region, which is no single value, is `models.options.RegionOption`; a table
# of options is given in a file.
_NOT_MADE_HERE = (
    "clip.frame_height", "clip.frame_width", "clip.region", "fit.optimizer_options", "fit.schedule_options",
)  # fmt: skip


def _settings() -> dict[str, Setting]:
    """By dotted key, those that have flags."""
    tables = table_settings()
    found = root_settings() | {f"{table}.{name}": each for table in tables for name, each in tables[table].items()}
    found[SIZE] = size_setting()
    return {key: setting for key, setting in found.items() if key not in _NOT_MADE_HERE}


SETTINGS = _settings()


def settings_flags(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Flags for these dotted keys, after the command's own; what was given comes as its argument `given`, by key."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = {key: flag_of(key).removeprefix("--").replace("-", "_") for key in keys}

        @functools.wraps(command)
        def run(**values: Any) -> None:
            found = {key: values.pop(name) for key, name in names.items()}
            command(**values, given={key: value for key, value in found.items() if value is not None})

        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "given"]
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        both = [*own, *(_flag(name, key, SETTINGS[key]) for key, name in names.items())]
        vars(run)["__signature__"] = inspect.Signature(both)  # what typer reads
        run.__annotations__ = {each.name: each.annotation for each in both}
        return run

    return decorate


def _flag(name: str, key: str, setting: Setting) -> inspect.Parameter:
    flag = flag_of(key)
    words = f"{flag}/--no-{flag.removeprefix('--')}" if setting.kind is bool else flag
    default = "" if setting.default is None else str(setting.default)
    option = typer.Option(
        words, help=setting.description, min=setting.least, max=setting.most, show_default=default or False
    )
    kind: Any = Literal[setting.choices] if setting.choices else setting.kind
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
