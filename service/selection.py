"""Which models the service loads: what the setting `models` may say, and which of them is the default."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from service.bundle import NAME_PATTERN
from service.errors import BadParameter, BundleError

ALL = "all"
# In a folder of bundles: the name of its default model.
DEFAULT_FILE = "default"
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Wanted:
    """A model by its name; version: that one, or None for the newest."""

    name: str
    version: str | None = None

    @classmethod
    def of(cls, text: str) -> Wanted:
        """NAME or NAME/VERSION."""
        name, slash, version = text.partition("/")
        return cls(name, version if slash else None)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}/{self.version}"


def wanted(models: str) -> tuple[Wanted, ...]:
    """Of the setting `models`, in its order; none where it is empty or `all`."""
    names = [name.strip() for name in models.split(",")] if models.strip() not in ("", ALL) else []
    return tuple(Wanted.of(name) for name in names)


def names_several(models: str) -> bool:
    """Whether the setting `models` asks for more than one, as far as its words tell."""
    return models.strip() == ALL or len(wanted(models)) > 1


def well_formed(models: str) -> str:
    """The setting `models` as it is. Raises ValueError for what is wrong with it whatever models there are."""
    seen: dict[str, Wanted] = {}
    for each in wanted(models):
        if str(each) == ALL:
            raise ValueError(f"{ALL} stands for every model: leave the other names out, or leave {ALL} out")
        for part in (each.name, *([] if each.version is None else [each.version])):
            if not re.fullmatch(NAME_PATTERN, part):
                raise ValueError(f"{str(each)!r} is no model; give NAME or NAME/VERSION, comma-separated, or {ALL}")
        if before := seen.get(each.name):
            raise ValueError(f"{before} and {each} are one model, which is served in one version; leave one out")
        seen[each.name] = each
    return models


def default_of(models_dir: Path, names: Collection[str]) -> str | None:
    """The name in the folder's file `default`; None without one. names: of the models there.

    Raises BundleError where it names none of them, or can't be read.
    """
    path = models_dir / DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} can't be read: {error}; write the name of a model into it") from error
    if text not in names:
        raise BundleError(
            f"{path} names {text[:_LONGEST_NAME]!r}, and there is no such model; there are: {listed(names)}"
        )
    return text


def nameless(names: Collection[str]) -> BadParameter:
    """Of a request that names no model, or of a service that is told none to load, where none is the default."""
    return BadParameter(
        f"name a model: there are {len(names)} ({listed(names)}), and none is the default; the settings models "
        f"(names, or {ALL}) and default_model have what is loaded"
    )


def listed(names: Collection[str]) -> str:
    """For messages."""
    return ", ".join(sorted(names)) or "none"
