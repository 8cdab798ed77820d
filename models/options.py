"""Options that several commands share, about one machine; those of a recipe are in `models.flags`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
import typer

from models.errors import ModelsError
from service.video.region import Region

Data = Annotated[Path, typer.Option(exists=True, help="CSV manifest, or a folder with one folder a class.")]
DataArgument = Annotated[
    Path, typer.Argument(exists=True, metavar="DATA", help="CSV manifest, or a folder with one folder a class.")
]
RegionOption = Annotated[
    Region | None,
    typer.Option(
        "--region",
        parser=Region.parse,
        metavar="X,Y,WIDTH,HEIGHT",
        help="The part of the upright picture that is seen: pixels, or fractions where no number is above 1.",
    ),
]
Split = Annotated[str, typer.Option(help="Manifest column that says train or test.")]
Store = Annotated[Path, typer.Option(help="Folder of stored features.")]
Segments = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="Labels in time: CSV, or ActivityNet's JSON; else segments.csv beside DATA."
    ),
]
CheckpointFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="CHECKPOINT")]
All = Annotated[bool, typer.Option("--all", help="All clips, whatever their part; a folder has none.")]
ShortestRun = Annotated[
    float,
    typer.Option(
        "--min-segment-seconds", min=0, help="Of labels a tick: shorter runs go to a neighbour, as in a request."
    ),
]
Device = Literal["auto", "cpu", "cuda", "mps"]
DeviceOption = Annotated[Device, typer.Option("--device", help="What trains; auto: a GPU where PyTorch has one.")]
RecipeFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file; flags that are given go over it.")
]
Given = Mapping[str, object]  # what the flags of `models.flags` gave, by dotted key

Value = TypeVar("Value")


def values_of(name: str, text: str, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    """The values of a comma-separated option, each once. Raises ModelsError, which names the one that is wrong."""
    values = []
    for word in text.split(","):
        try:
            values.append(kind(word.strip()))
        except ValueError as error:
            raise ModelsError(f"{name}: {word.strip()!r}: {error}; values are separated by commas") from error
    return tuple(dict.fromkeys(values))


def chosen_from(names: tuple[Value, ...]) -> Callable[[str], Value]:
    """Reads one of the names."""

    def read(word: str) -> Value:
        for name in names:
            if name == word:
                return name
        raise ValueError(f"it is none of {', '.join(map(str, names))}")

    return read


def with_region(given: Mapping[str, object], region: Region | None) -> dict[str, object]:
    """Values of flags by dotted key, the region's among them where one is given."""
    return {**given, **({"clip.region": region.model_dump()} if region else {})}


def device_of(name: Device) -> torch.device:
    """Raises ModelsError where PyTorch has no such device here."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if found["cuda"] else "mps" if found["mps"] else "cpu")
    if not found[name]:
        there = ", ".join(kind for kind, is_there in found.items() if is_there)
        raise ModelsError(f"--device {name}: PyTorch {torch.__version__} has none here; it has {there}")
    return torch.device(name)
