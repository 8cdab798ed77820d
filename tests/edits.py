"""Edit lists of MP4 files: which parts of a track are shown, in which order, and after which pause (ISO 14496-12,
8.6.6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

# Of `mvhd`: ticks a second, as FFmpeg writes it; version 0 of all boxes that are read here.
_TIME_SCALE_AT = 12


def write_edits(path: Path, edits: Sequence[tuple[float, float | None]]) -> None:
    """Give the first track of a file without an edit list (`use_editlist=0`), whose header lies at the end, this one.

    edits: how long each is shown, and the composition time at which it begins, in seconds; None for a pause.
    """
    blob = path.read_bytes()
    moov, track = blob.rindex(b"moov") - 4, blob.rindex(b"trak") - 4
    if blob.count(b"trak") != 1 or b"edts" in blob or moov + _size(blob, moov) != len(blob):
        raise ValueError(f"{path.name} has several tracks, an edit list, or something after its header")
    film_scale, media_scale = (_scale(blob, kind) for kind in (b"mvhd", b"mdhd"))
    entries = b"".join(
        struct.pack(">IiI", round(shown * film_scale), -1 if start is None else round(start * media_scale), 1 << 16)
        for shown, start in edits
    )
    table = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(edits)) + entries))
    after = blob.index(b"tkhd", track) - 4
    after += _size(blob, after)
    blob = blob[:after] + table + blob[after:]
    for grown in (moov, track):
        blob = blob[:grown] + struct.pack(">I", _size(blob, grown) + len(table)) + blob[grown + 4 :]
    path.write_bytes(blob)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _size(blob: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", blob, at)[0])


def _scale(blob: bytes, kind: bytes) -> int:
    return _size(blob, blob.rindex(kind) + 4 + _TIME_SCALE_AT)
