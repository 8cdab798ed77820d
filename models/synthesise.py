"""`python -m models synthesise KIND`: labelled films, made of labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.data import directions as of_directions
from models.data import films
from models.options import Data, Split

console = Console()
synthesise = typer.Typer(
    help="Labelled films, made of labelled clips; the same from the same clips.", no_args_is_help=True
)


@synthesise.command()
def shots(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to make: clips/, manifest.csv, segments.csv, disturbances.csv.")],
    split: Split = "split",
    num_films: Annotated[int, typer.Option("--films", min=0, help="Of clips of train.")] = 400,
    num_test_films: Annotated[int, typer.Option("--test-films", min=0, help="Of clips of test.")] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Films with cuts, dissolves and fades between shots, and with what looks like them."""
    films.synthesise(data, split, out, num_films, num_test_films, seed, console)


@synthesise.command()
def directions(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to make: clips/, manifest.csv.")],
    split: Split = "split",
) -> None:
    """Each clip forwards and in reverse, encoded alike: only the order of frames tells which it is."""
    of_directions.synthesise(data, split, out, console)
