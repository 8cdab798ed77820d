"""`python -m tests.bench NAME`; `make bench` runs `upload`.

upload
decode [--rounds N] [--seconds S] [--sizes WxH,...] [--sides NAME,...]
decode-scaling [--rounds N] [--seconds S] [--sides NAME,...]
decode-memory [--lengths SECONDS,...]
agreement CHECKPOINT MANIFEST SPLIT
export-speed [CHECKPOINT] [--rounds N] [--seconds S] [--batch-frames N] [--out FILE]
"""

from __future__ import annotations

import sys

from tests.bench import decode, decode_memory, decode_scaling, upload


def main(arguments: list[str]) -> None:
    """Run one benchmark; upload without a name."""
    match arguments:
        case [] | ["upload"]:
            upload.main()
        case ["decode", *flags]:
            decode.main(flags)
        case ["decode-scaling", *flags]:
            decode_scaling.main(flags)
        case ["decode-memory", *flags]:
            decode_memory.main(flags)
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
