"""Generators and validators that others make, over /openapi.json: `python -m tests.generators` runs all of them.

openapi-spec-validator, openapi-python-client, and schemathesis with all its phases against a real server. The tests run
the same, with fewer examples. `--examples 300 --seed 7` is for longer ones: without a seed each run is another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.drawn import draw
from tests.server import ROOT, serve

CONFIG = ROOT / "tests" / "service" / "api" / "schemathesis.toml"
PACKAGE = "reelserve_client"


def validate(url: str, folder: Path) -> str:
    """What openapi-spec-validator says of a server's /openapi.json. Raises AssertionError when it is not valid."""
    file = folder / "openapi.json"
    file.write_text(httpx.get(f"{url}/openapi.json").text)
    return _run(["openapi_spec_validator", str(file)], folder)


def generate_client(url: str, folder: Path) -> str:
    """The package `PACKAGE` in the folder, by openapi-python-client. Raises AssertionError when that warns."""
    made = ["--url", f"{url}/openapi.json", "--output-path", str(folder / PACKAGE), "--meta", "none"]
    return _run(["openapi_python_client", "generate", *made, "--fail-on-warning"], folder)


def schemathesis(url: str, clip: Path, folder: Path, *, examples: int, seed: int | None = None) -> str:
    """All phases and checks, with the exceptions of `CONFIG`. Raises AssertionError for any other failure."""
    bounded = ["--max-examples", str(examples), *(["--seed", str(seed)] if seed is not None else [])]
    return _run(
        ["schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--no-color", *bounded],
        folder,
        CLIP_URI=clip.as_uri(),
    )


def _run(module: list[str], folder: Path, **environment: str) -> str:
    """What a tool says; the folder is for what it leaves behind. Its own tools are beside our Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    ran = subprocess.run(
        [sys.executable, "-m", *module], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout.rstrip()


def main() -> None:
    """Against a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100, help="most of an operation and a phase")
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = draw(folder / "clip.mp4", num_frames=20, width=64, height=48).path
        with serve(folder, job_uri_prefixes=folder.as_uri()) as server:
            print(validate(server.url, folder))
            print(generate_client(server.url, folder), f"\nopenapi-python-client: {PACKAGE}, no warning")
            print(schemathesis(server.url, clip, folder, examples=asked.examples, seed=asked.seed))


if __name__ == "__main__":
    main()
