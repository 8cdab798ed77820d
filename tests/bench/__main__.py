"""`python -m tests.bench NAME`; `make bench` runs `all`, `make bench QUICK=1` `all --quick`.

all [--quick]: those with a star, one after another, each in a process of its own
throughput* [--sides NAME,...] [--rounds N] [--seconds S] [--concurrency N] [--name NAME]
latency* [--sides NAME,...] [--fractions F,...] [--seconds S] [--mix-seconds S]
limit [--runtimes NAME,...] [--seconds S]
page
upload
decode [--rounds N] [--seconds S] [--sizes WxH,...] [--sides NAME,...]
decode-scaling [--rounds N] [--seconds S] [--sides NAME,...]
decode-memory [--lengths SECONDS,...]
overload* [--seconds S] [--times N] [--variants small,large] [--request-timeout S]
film* [--films N] [--film-seconds S] [--seconds S] [--rounds N]
overlap* [--pairs N] [--video-seconds S]
mixes* [--mixes N] [--clips N]
soak* [--minutes M]
batch* [--rounds N] [--limit-seconds S] [--kills N] [--kill-clips N]
jobs* [--seconds S] [--rounds N] [--items N]
hdr [--clips N]
extraction [--clips N] [--rounds N] [--seconds S] [--encoder NAME] [--stage NAME]
shots [--films FOLDER] [--most-films N] [--sides NAME,...] [--detections NAME=FILE]
sweep [--runtime NAME] [--precisions fp32,...] [--sizes N,...] [--executors N]
agreement CHECKPOINT MANIFEST SPLIT
export-speed [CHECKPOINT] [--rounds N] [--seconds S] [--batch-frames N] [--out FILE]
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from tests.bench import decode, decode_memory, decode_scaling, upload

STANDARD = ("throughput", "latency", "overload", "film", "overlap", "mixes", "batch", "jobs", "soak")


def run_all(flags: list[str]) -> None:
    """The standard set; one that fails doesn't keep the others from running, but its name is the exit message."""
    failed = []
    for name in STANDARD:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", "tests.bench", name, *flags], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def main(arguments: list[str]) -> None:
    """Run one benchmark, or all."""
    match arguments:
        case ["all", *flags]:
            run_all(flags)
        case ["page"]:
            from tests.bench import page  # all of them

            page.main()
        case ["upload"]:
            upload.main()
        case [("throughput" | "latency" | "limit") as name, *flags]:
            import_module(f"tests.bench.{name}").main(flags)
        case ["decode", *flags]:
            decode.main(flags)
        case ["decode-scaling", *flags]:
            decode_scaling.main(flags)
        case ["decode-memory", *flags]:
            decode_memory.main(flags)
        case [
            (
                "overload"
                | "film"
                | "overlap"
                | "mixes"
                | "soak"
                | "sweep"
                | "batch"
                | "jobs"
                | "hdr"
                | "shots"
                | "extraction"
            ) as name,
            *flags,
        ]:
            import_module(f"tests.bench.{name}").main(flags)
        case ["agreement", checkpoint, manifest, split]:
            from tests.bench import agreement  # torch: only where it is wanted

            agreement.main(checkpoint, manifest, split)
        case ["export-speed", *flags]:
            from tests.bench import export_speed  # torch

            export_speed.main(flags)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
