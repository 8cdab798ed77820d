"""`python -m tests.bench [upload | agreement CHECKPOINT MANIFEST SPLIT]`; `make bench` runs what needs no data."""

from __future__ import annotations

import sys

from tests.bench import upload


def main(arguments: list[str]) -> None:
    """Run one benchmark; upload without a name."""
    match arguments:
        case [] | ["upload"]:
            upload.main()
        case ["agreement", checkpoint, manifest, split]:
            from tests.bench import agreement  # torch: only where it is wanted

            agreement.main(checkpoint, manifest, split)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
