"""The table of odd files and their answers, `tests/service/video/odd.csv`: `python -m tests.fuzz.odd` writes it anew.

Each row is what a real run through the decode pool gave, and a `note` for its reader, which is typed by hand and
kept. Review the difference before committing it.
"""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from service.errors import ReelserveError
from service.video.limits import DecodeLimits
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.fuzz.sources import ODD, odd_files

TABLE = Path(__file__).parents[1] / "service" / "video" / "odd.csv"
SPEC = ClipSpec(sample_fps=4, frame_height=64, frame_width=64)
LIMITS = DecodeLimits(
    max_decode_stall_seconds=60,
    max_decode_seconds=120,
    max_decode_cpu_seconds=120,
    max_decode_memory_bytes=512 * 1024 * 1024,
)
# In the order of the pool's own list: the reader sees which, not the numbers, which are in the other columns.
_WARNINGS = {
    "no rising timestamp": "nominal times",
    "could not be decoded": "frames dropped",
    "does not say when it starts": "no start time",
    "corrupt at": "damaged",
    "cut short": "cut short",
    "interlaced": "interlaced",
    "HDR": "HDR",
}


@dataclass(frozen=True)
class Row:
    """One file. Where result is the code of an error, all that is empty is unknown, and why says it in its words."""

    file: str
    result: str
    container: str = ""
    codec: str = ""
    width: str = ""
    height: str = ""
    rotation_degrees: str = ""
    time_base: str = ""
    frames_walked: str = ""
    frames_used: str = ""
    frames_repeated: str = ""
    duration_seconds: str = ""
    warnings: str = ""
    why: str = ""
    note: str = ""


def read() -> dict[str, Row]:
    """The table as it lies in the repository, by file."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {row["file"]: Row(**row) for row in csv.DictReader(file)}


def measure(pool: DecodePool, file: str) -> Row:
    """The row of one file, without its note; whatever is no error of ours is raised."""
    try:
        with pool.open(ODD / file, SPEC) as video:
            frames = 0
            for chunk in video.chunks():
                frames += len(chunk.frames)
                chunk.release()
            report, container = video.report(), video.container
    except ReelserveError as error:
        if not 400 <= error.status < 500:
            raise
        return Row(file, error.code, why=error.detail.partition(";")[0])
    assert report.frames_used == frames >= 1
    assert 0 <= report.first_seconds <= report.last_seconds < report.duration_seconds
    values = {name: str(value) for name, value in asdict(report).items() if name in _NAMES}
    warnings = " + ".join(map(_short, [*report.warnings, *container.warnings()]))
    return Row(file, "ok", container=container.format or "", **(values | {"warnings": warnings}))


_NAMES = {field.name for field in fields(Row)}


def _short(warning: str) -> str:
    found = [short for words, short in _WARNINGS.items() if re.search(words, warning)]
    return found[0] if found else warning


def main() -> None:
    """Write the table, keeping the notes."""
    notes = {file: row.note for file, row in read().items()} if TABLE.exists() else {}
    with DecodePool(num_credits=1, limits=LIMITS) as pool:
        rows = [asdict(measure(pool, file)) | {"note": notes.get(file, "")} for file in odd_files()]
    if not rows:
        raise SystemExit(f"the folder of odd files, {ODD}, is not here")
    with TABLE.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
