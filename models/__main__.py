"""`python -m models COMMAND`: everything before ONNX: data, training, comparisons, the card."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, get_args

import torch
import typer
from rich.console import Console
from typer.core import TyperGroup

from models import pipeline
from models import recipe as recipes
from models.cells import CELLS
from models.data import check as checking
from models.data.labelling import Labelling
from models.data.manifests import has_column, read
from models.errors import ModelsError, RecipeError
from models.fit import Machine
from models.fit_settings import FitSettings
from models.flags import SETTINGS, settings_flags
from models.head_settings import HeadSettings
from models.heads import ManyToOne
from models.options import (
    All,
    CheckpointFile,
    Data,
    DataArgument,
    DeviceOption,
    Given,
    RecipeFile,
    RegionOption,
    Segments,
    ShortestRun,
    Split,
    Store,
    chosen_from,
    device_of,
    values_of,
    with_region,
)
from models.report import evaluate as evaluation
from models.report.card import write_card
from models.report.page import write_page
from models.report.screen import say, write_json
from models.report.tested import Asked
from models.settings import settings_of
from models.study import choose as choosing
from models.study import cost as costs
from models.study import recall as recalling
from models.study import study as studies
from models.synthesise import synthesise
from models.tracking import tracked
from service.errors import ReelserveError

console, err = Console(), Console(stderr=True)


class _OneRedLine(TyperGroup):
    """What a user can put right is one red line and exit code 1, whichever command it comes from."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except (ModelsError, ReelserveError, OSError) as error:
            say(err, str(error), "red")
            raise typer.Exit(1) from error


app = typer.Typer(cls=_OneRedLine, add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def check(
    data: DataArgument,
    split: Annotated[str | None, typer.Option(help="Manifest column that says train or test; else `split`.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What is to be learned: its [task]; else one label."),
    ] = None,
    segments: Segments = None,
    json: Annotated[Path | None, typer.Option(help="File for all findings.")] = None,
    store: Store = Path(".features"),
) -> None:
    """Broken, leaking, doubled and uneven clips, before training takes its time. Exit code 1 where one is an error."""
    asked = recipes.read(recipe)
    column = split or next((name for name in (asked.data.split, "split") if has_column(data, name)), None)
    task = asked.task
    clips = read(data, column, columns=task.names, empty_labels=task.kind == "labels", refuse_leaks=False)
    labelling = Labelling.of(task.kind, data, clips, segments)
    report = checking.check(data, column, clips, store, labelling, show_progress=err.is_terminal)
    console.print(checking.show(report))
    if json is not None:
        write_json(json, report.to_dict(), console)
    raise typer.Exit(1 if report.num_errors else 0)


@app.command()
@settings_flags("clip.sample_fps", "clip.size", "fit.epochs")
def choose(
    data: DataArgument,
    split: Split = "split",
    cell: Annotated[str, typer.Option(help=f"Of {', '.join(CELLS)}.")] = "lstm",
    pooling: Annotated[str, typer.Option(help=f"Of {', '.join(get_args(ManyToOne))}.")] = "mean",
    hidden_size: Annotated[str, typer.Option(help="Units.")] = "32,64,128",
    input_dropout: Annotated[str, typer.Option(help="Shares of features.")] = f"{HeadSettings.input_dropout}",
    output_dropout: Annotated[str, typer.Option(help="Shares of outputs.")] = f"{HeadSettings.output_dropout}",
    learning_rate: Annotated[str, typer.Option(help="Of AdamW.")] = "0.0003,0.001,0.003",
    folds: Annotated[int, typer.Option(min=1, help="Validation cuts, by seed.")] = 3,
    out: Annotated[Path, typer.Option(help="Rows that are there stay.")] = Path("runs/choose.json"),
    store: Store = Path(".features"),
    region: RegionOption = None,
    *,
    given: Given,
) -> None:
    """Compare hyperparameters, comma-separated, on validation groups of train; test is not looked at."""
    head, fit = settings_of(HeadSettings), settings_of(FitSettings)
    grid = choosing.Grid(
        values_of("--cell", cell, chosen_from(tuple(CELLS))),
        values_of("--pooling", pooling, chosen_from(get_args(ManyToOne))),
        values_of("--hidden-size", hidden_size, head["hidden_size"].read),
        values_of("--input-dropout", input_dropout, head["input_dropout"].read),
        values_of("--output-dropout", output_dropout, head["output_dropout"].read),
        values_of("--learning-rate", learning_rate, fit["learning_rate"].read),
    )
    recipe = recipes.read(flags=with_region(given, region))
    choosing.choose(data, split, grid, folds, recipe.fit.epochs, out, store, recipe.clip.spec, console)


@app.command()
@settings_flags(*SETTINGS)
def train(
    data: Data,
    recipe: RecipeFile = None,
    out: Annotated[Path | None, typer.Option(help="Checkpoint to write; else runs/NAME.pt.")] = None,
    store: Store = Path(".features"),
    segments: Segments = None,
    region: RegionOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this training was cut off.")] = False,
    device: DeviceOption = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for its event files.")] = None,
    *,
    given: Given,
) -> None:
    """Train a recurrent head on stored features, or with stages of the encoder; test it where there is a test part."""
    asked = recipes.read(recipe, with_region(given, region))
    out = out or Path("runs") / f"{asked.name}.pt"
    state = out.with_suffix(".state")
    place = pipeline.Place(data, store, segments, state, resume)
    with tracked(tensorboard) as track:
        machine = Machine(device_of(device), track=track, show_progress=True)
        if machine.device.type != "cpu":  # some operations of a GPU have no deterministic form: PyTorch names them then
            torch.use_deterministic_algorithms(mode=True, warn_only=True)
        pipeline.train(asked, place, console, machine).save(out)
    state.unlink(missing_ok=True)
    say(console, f"wrote {out}")


@app.command()
def recipe(
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help="TOML; else the defaults.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, and not yet there; else it is printed.")] = None,
) -> None:
    """A recipe as TOML, with all that it leaves to defaults, and what each setting means."""
    text = recipes.read(file).to_toml()
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as error:
        raise RecipeError(f"{out} is there already; remove it, or name another with --out") from error
    say(console, f"wrote {out}")


@app.command()
def evaluate(
    checkpoint: CheckpointFile,
    data: Data,
    split: Split = "split",
    use_all: All = False,
    out: Annotated[Path, typer.Option(help="Folder for the confusion matrix.")] = Path("runs/evaluation"),
    store: Store = Path(".features"),
    segments: Segments = None,
    min_segment_seconds: ShortestRun = 0.0,
    by: Annotated[
        str, typer.Option(metavar="COLUMN", help="Also the accuracy for each value of a manifest column.")
    ] = "",
) -> None:
    """Figures on the test part beside baselines, a row a label, and the confusion matrix as PNG and CSV."""
    asked = Asked(checkpoint, data, split, store, segments, use_all)
    evaluation.evaluate(asked, out, console, min_segment_seconds, by)


@app.command()
def report(
    checkpoint: CheckpointFile,
    data: Data,
    split: Split = "split",
    use_all: All = False,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("runs/report.html"),
    store: Store = Path(".features"),
    segments: Segments = None,
    min_segment_seconds: ShortestRun = 0.0,
) -> None:
    """One page of HTML: training, figures, confusion, calibration, and the worst mistakes with their frames."""
    write_page(Asked(checkpoint, data, split, store, segments, use_all), out, console, min_segment_seconds)


@app.command()
@settings_flags(
    "clip.sample_fps",
    "clip.size",
    "encoder.name",
    "encoder.weights",
    "head.cell",
    "head.num_layers",
    "head.bidirectional",
    "head.pooling",
    "head.hidden_size",
    "fit.epochs",
    "fit.learning_rate",
)
def study(
    data: Data,
    splits: Annotated[str, typer.Option(help="Manifest columns, comma-separated.")] = "split1,split2,split3",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path, typer.Option()] = Path("models/zoo/actions-lstm/1/study.json"),
    store: Store = Path(".features"),
    region: RegionOption = None,
    *,
    given: Given,
) -> None:
    """Single frame, mean of features, shuffled and recurrent on splits × seeds; recurrent − mean, 95 % interval."""
    recipe, names = recipes.read(flags=with_region(given, region)), values_of("--splits", splits, str)
    studies.study(data, names, seeds, out, store, recipe.clip.spec, recipe.head, recipe.fit, recipe.encoder, console)


@app.command()
@settings_flags("clip.sample_fps", "clip.size", "encoder.name", "encoder.weights")
def recall(
    data: Data,
    split: Split = "split1",
    delays: Annotated[str, typer.Option(help="Ticks between what is to be named and the end.")] = "4,16,64",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path, typer.Option(help="Rows that are there stay.")] = Path("runs/recall.json"),
    store: Store = Path(".features"),
    region: RegionOption = None,
    *,
    given: Given,
) -> None:
    """Delayed recall: which cells name the first clip after d other frames, and how far their gradients reach."""
    recipe, ticks = recipes.read(flags=with_region(given, region)), values_of("--delays", delays, int)
    recalling.of_data(data, split, ticks, seeds, out, store, recipe.clip.spec, recipe.encoder, console)


@app.command()
def cost(
    data: Data,
    split: Split = "split1",
    cells: Annotated[str, typer.Option(help="size@rate, comma-separated.")] = (
        "160@4,192@4,224@4,160@6,192@6,224@6,160@8,192@8,224@8"
    ),
    folds: Annotated[int, typer.Option(min=1, help="Validation cuts, by seed.")] = 3,
    out: Annotated[Path, typer.Option()] = Path("models/zoo/actions-lstm/1/cost.json"),
    store: Store = Path(".features"),
    region: RegionOption = None,
) -> None:
    """The accuracy–cost table of frame sizes and sample rates, on validation groups of train; test is not looked at.

    Each cell is written when it is measured; cells that `out` has already stay.
    """
    costs.measure(data, split, costs.cells_of(cells), folds, out, store, console, region)


app.add_typer(synthesise, name="synthesise")


@app.command()
def card(bundle: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with model.json.")]) -> None:
    """Write MODEL_CARD.md from the files beside it: model, certificate, study, cost, choose and notes."""
    say(console, f"wrote {write_card(bundle)}")


if __name__ == "__main__":
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it deterministic CUDA ends at the first product
    torch.use_deterministic_algorithms(mode=True)
    sys.exit(app())
