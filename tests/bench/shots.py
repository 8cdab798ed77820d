"""Boundaries of shots: our model, PySceneDetect and TransNetV2 on films of made transitions, F1 within two frames.

The films are those of the test side of a folder of `python -m models synthesise shots`, made here without `--films`.
Each peer runs in an environment of its own, on one thread, and tells spans of frames in one form; so may any other:
`--detections NAME=FILE` takes rows of JSON, {"path", "seconds", "spans": [[start, stop, label], …]}. The measure is
`models.report.boundaries`. Run: `python -m tests.bench shots [--films FOLDER] [--sides NAME,...]`.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from models.data.films import synthesise
from models.data.spans import Span
from models.report.boundaries import TOLERANCE_FRAMES, BoundaryScore, JudgedFilm, hit_pairs, score
from tests.bench.report import ROOT, finish, parser

TEST_FILMS = 60
# The environment of each detector, '' where it is the one that this runs in, and the arguments of its python.
_OURS = "tests.bench.peers.reelserve_shots"
_SCENEDETECT, _TRANSNETV2 = "tests.bench.peers.scenedetect_shots", "tests.bench.peers.transnetv2_shots"
SIDES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "reelserve": ("", ("-m", _OURS)),
    "scenedetect-content": ("scenedetect", ("-m", _SCENEDETECT, "content")),
    "scenedetect-adaptive": ("scenedetect", ("-m", _SCENEDETECT, "adaptive")),
    "scenedetect-threshold": ("scenedetect", ("-m", _SCENEDETECT, "threshold")),
    "scenedetect-adaptive-threshold": ("scenedetect", ("-m", _SCENEDETECT, "adaptive-threshold")),
    "transnetv2": ("transnetv2", ("-m", _TRANSNETV2)),
}


@dataclass(frozen=True)
class LabelledFilm:
    """A film of the test side, its transitions, and what else is in it that may be taken for one."""

    path: Path
    group: str
    num_frames: int
    transitions: tuple[Span, ...]
    disturbances: tuple[Span, ...]


@dataclass(frozen=True)
class Detections:
    """What a detector found, by name of the film, and its seconds of CPU over all films."""

    spans: Mapping[str, tuple[Span, ...]]
    seconds: float


@dataclass(frozen=True)
class Detector:
    """One detector on all films. kinds, named: as of `BoundaryScores`. false_alarms: how many lie on a disturbance, by
    what it is, `other` else; one that lies on two counts for both. milliseconds: of CPU a frame, with decoding."""

    name: str
    films: int
    frames: int
    milliseconds: float
    overall: BoundaryScore
    kinds: dict[str, BoundaryScore]
    named: dict[str, BoundaryScore]
    false_alarms: dict[str, int]


@dataclass(frozen=True)
class Shots:
    """Of every detector."""

    detectors: tuple[Detector, ...]


def main(arguments: list[str]) -> None:
    """Print and write how well each detector does."""
    flags = parser("shots", __doc__)
    flags.add_argument("--films", type=Path, help="folder of `models synthesise shots`; else films are made of --data")
    flags.add_argument("--most-films", type=int, default=TEST_FILMS)
    flags.add_argument("--sides", default=",".join(SIDES), help="comma-separated")
    flags.add_argument("--detections", action="append", default=[], metavar="NAME=FILE", help="another detector's")
    options = flags.parse_args(arguments)
    if options.quick:
        options.most_films = 2
    with tempfile.TemporaryDirectory(prefix="reelserve-bench-") as temporary:
        folder = options.films or Path(temporary) / "films"
        if options.films is None:
            source = options.data / "ucf101-12" / "manifest.csv"
            synthesise(source, "split1", folder, 0, options.most_films, options.seed, Console())
        films = read_films(folder)[: options.most_films]
        found = {name: detect(name, films) for name in options.sides.split(",") if name}
        for given in options.detections:
            name, _, file = given.partition("=")
            found[name] = detections(Path(file).read_text(encoding="utf-8").splitlines())
        results = Shots(tuple(judge(name, films, each) for name, each in found.items()))
    show(results, Console())
    finish("shots", results, options)


def read_films(folder: Path) -> list[LabelledFilm]:
    """Those of the test side, in order."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    rates = {row["path"]: float(row["fps"]) for row in rows}
    transitions, disturbances = (_spans(folder / f"{name}.csv", rates) for name in ("segments", "disturbances"))
    return [
        LabelledFilm(
            folder / "clips" / row["path"],
            row["group"],
            int(row["frames"]),
            tuple(transitions[row["path"]]),
            tuple(disturbances[row["path"]]),
        )
        for row in rows
    ]


def _spans(path: Path, rates: Mapping[str, float]) -> dict[str, list[Span]]:
    """In frames, by film."""
    found: dict[str, list[Span]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (name := row["path"]) in rates:
                start, stop = (round(float(row[f"{edge}_seconds"]) * rates[name]) for edge in ("start", "end"))
                found[name].append(Span(start, stop, row["label"]))
    return found


def detect(name: str, films: Sequence[LabelledFilm]) -> Detections:
    """Run one of `SIDES` over the films; FileNotFoundError says how to make its environment."""
    environment, arguments = SIDES[name]
    python = ROOT / f".venv-bench-{environment}" / "bin" / "python" if environment else Path(sys.executable)
    if not python.exists():
        raise FileNotFoundError(f"{python} is missing: make .venv-bench-{environment}/.ready")
    paths = "\n".join(str(film.path) for film in films)
    done = subprocess.run([python, *arguments], input=paths, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr}")
    return detections(done.stdout.splitlines())


def detections(lines: Iterable[str]) -> Detections:
    """Of rows of JSON in the one form."""
    rows = [json.loads(line) for line in lines]
    spans = {Path(row["path"]).name: tuple(Span(*span) for span in row["spans"]) for row in rows}
    return Detections(spans, sum(row["seconds"] for row in rows))


def judge(name: str, films: Sequence[LabelledFilm], found: Detections) -> Detector:
    """KeyError for a film of which nothing is told."""
    scores = score(
        [JudgedFilm(film.transitions, found.spans[film.path.name], film.num_frames, film.group) for film in films]
    )
    frames = sum(film.num_frames for film in films)
    alarms: Counter[str] = Counter()
    for film in films:
        alarms.update(_false_alarms(film, found.spans[film.path.name]))
    return Detector(
        name, len(films), frames, round(found.seconds / frames * 1e3, 3), scores.overall, scores.kinds, scores.named,
        dict(sorted(alarms.items())),
    )  # fmt: skip


def _false_alarms(film: LabelledFilm, predicted: Sequence[Span]) -> Iterable[str]:
    """What each lies on."""
    hits = {guess for _, guess in hit_pairs(film.transitions, predicted, TOLERANCE_FRAMES)}
    for span in (span for index, span in enumerate(predicted) if index not in hits):
        under = {
            each.label
            for each in film.disturbances
            if span.start < each.stop + TOLERANCE_FRAMES and span.stop > each.start - TOLERANCE_FRAMES
        }
        yield from under or {"other"}


def show(results: Shots, console: Console) -> None:
    """A row a detector and kind."""
    table = Table("detector", "kind", "F1", "95 %", "precision", "recall", "of", "ms a frame")
    for each in results.detectors:
        rows = [("all", each.overall), *each.kinds.items()]
        rows += [(f"{kind}, by name", found) for kind, found in each.named.items()]
        for index, (kind, found) in enumerate(rows):
            first = (each.name, f"{each.milliseconds:.2f}") if index == 0 else ("", "")
            interval = f"{found.low:.3f} to {found.high:.3f}"
            figures = (f"{found.f1:.3f}", interval, f"{found.precision:.3f}", f"{found.recall:.3f}", f"{found.truths}")
            table.add_row(first[0], kind, *figures, first[1])
    console.print(table)
    for each in results.detectors:
        counted = ", ".join(f"{label} {count}" for label, count in each.false_alarms.items()) or "none"
        console.print(f"{each.name}: false alarms on {counted}")
