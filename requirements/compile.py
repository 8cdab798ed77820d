"""Compile requirements/*.txt from pyproject.toml with uv: hashes, every platform, no index address. See `make lock`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, tuple[str, ...]] = {
    "serve-cpu": ("cpu",),
    "serve-gpu": ("gpu",),
    "serve-openvino": ("cpu", "openvino"),
    "serve-ray": ("cpu", "ray"),
    "train": ("cpu", "train"),
    "dev": ("cpu", "codecs", "train", "dev", "bench", "ray"),
    "bench": ("cpu", "bench"),
}
# Peers that tests/bench measures against, each in an environment of its own; what they share with us in our versions.
PEERS = ("bentoml", "litserve", "fastapi", "scenedetect", "transnetv2")


def compile_lock(name: str, source: list[str]) -> None:
    """Write requirements/<name>.txt; versions that are locked already stay unless --upgrade is given."""
    command = [
        str(Path(sys.executable).with_name("uv")), "pip", "compile", "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet",
        *source, *sys.argv[1:], "--output-file", f"requirements/{name}.txt",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  (our own arguments)


if __name__ == "__main__":
    compile_lock("boot", ["requirements/boot.in"])
    for lock_name, extras in EXTRAS.items():
        compile_lock(lock_name, ["pyproject.toml", *(part for extra in extras for part in ("--extra", extra))])
    # PyAV alone, in the version of the others; `make serve` installs it beside the lock of serving.
    compile_lock("codecs", ["requirements/codecs.in", "--constraint", "requirements/dev.txt"])
    for peer in PEERS:
        compile_lock(f"bench-{peer}", [f"requirements/bench-{peer}.in", "--constraint", "requirements/dev.txt"])
