"""Folders of films that are made: H.264 by one thread, tables beside them, all of it or nothing."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from models.data.camera import Frames
from models.errors import DatasetError

# Its AVX-512 code for the macroblock tree reads memory that it never wrote: the same film, other bytes.
_STEADY = {"x264-params": "asm=sse4"}


@contextmanager
def made_aside(out: Path) -> Iterator[Path]:
    """A folder with `clips` in it, which becomes `out` once it is whole. Raises DatasetError where `out` has files."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is there already and not empty; remove it, or name another with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
        folder = Path(aside) / "films"
        (folder / "clips").mkdir(parents=True)
        yield folder
        folder.rename(out)


def write_film(path: Path, frames: Frames, rate: Fraction, options: Mapping[str, str]) -> None:
    """frames: (T, H, W, 3) uint8 RGB. options: of x264. The same bytes from the same frames."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={**options, **_STEADY})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_table(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """A CSV. header: its columns, comma-separated."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)
