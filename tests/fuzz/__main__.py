"""Decode broken videos by the thousand; `make fuzz` takes 10 000. Exit code 1 when one does what none may.

python -m tests.fuzz [--files N] [--seed S] [--workers W] [--odd] [--keep FOLDER] [--only NUMBER]

--odd adds the files of ../shared/data/odd to what is mutated, and so gives other mutants. --keep writes those
that crash their decoder, meet its limits or fail to a folder. --only tries one again, by its number, and keeps it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.video.errors import DecoderCrashed
from tests.fuzz.campaign import Figures, fuzz
from tests.fuzz.mutate import Mutant
from tests.fuzz.sources import sources
from tests.fuzz.trial import Trial

CONSOLE = Console()
_MOST_SHOWN = 100


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("SVT_LOG", "1")  # or it tells of every encoder setting
    numbers = range(options.files) if options.only is None else [options.only]
    corpus = sources(with_odd=options.odd)
    keep: Path | None = options.keep
    bar = iter(track(numbers, "fuzzing", console=CONSOLE, disable=not CONSOLE.is_terminal))

    def each(broken: Mutant, trial: Trial) -> None:
        next(bar)
        if options.only is not None:
            CONSOLE.print(broken.about, trial, sep="\n", markup=False)
        if keep and (trial.troubles or trial.answer.ended_the_process or options.only is not None):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{options.seed}-{broken.number}").write_bytes(broken.data)

    figures = fuzz(numbers, options.seed, corpus, workers=options.workers, each=each)
    next(bar, None)
    _show(figures, f"python -m tests.fuzz --seed {options.seed}{' --odd' * options.odd} --only")
    return int(figures.failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Decode broken videos.")
    parser.add_argument("--files", type=int, default=10_000, help="mutants to decode")
    parser.add_argument("--seed", type=int, default=1, help="of all of them")
    parser.add_argument("--workers", type=int, default=4, help="threads that read videos; two decode at once")
    parser.add_argument("--odd", action="store_true", help="mutate the files of ../shared/data/odd too")
    parser.add_argument("--keep", type=Path, help="folder for mutants that end their process or fail")
    parser.add_argument("--only", type=int, help="number of the one mutant to try")
    return parser


def _show(figures: Figures, command: str) -> None:
    table = Table("figure", "value", "for example")
    table.add_row("files tried", str(figures.files))
    for answer, count in figures.answers.most_common():
        table.add_row(f"answered: {answer}", str(count), str(figures.examples[answer]))
    for answer, count in figures.probes.most_common():
        table.add_row(f"probed: {answer}", str(count))
    table.add_row("decoded twice", str(figures.decoded_twice))
    table.add_row("slowest", f"{figures.slowest_seconds:.1f} s", str(figures.slowest))
    table.add_row("zygote, resident", "{:.0f} MB before, {:.0f} MB after".format(*figures.zygote_megabytes))
    table.add_row("decoders that crashed", str(figures.answers[DecoderCrashed.code]))
    table.add_row("failures", str(len(figures.troubles)))
    table.add_row("leaks", str(len(figures.leaks)))
    CONSOLE.print(table)
    for name, found in (("ended its process", figures.ended), ("failure", figures.troubles)):
        for broken, words in found[:_MOST_SHOWN]:
            CONSOLE.print(f"{name}: {words}\n  {broken.about}\n  {command} {broken.number}", markup=False)
    for leak in figures.leaks:
        CONSOLE.print(f"leak: {leak}", markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
