"""What a file's headers say of it, by MediaInfo: the names and facts that OpenCV does not give."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from pymediainfo import MediaInfo

_HDR_TRANSFERS = ("PQ", "HLG")
# Of a file that fits into one piece it would not go back to the frames, which tell the scan.
_PIECE_BYTES = 4096
# Milliseconds are the rule; a loop in it has no end.
_SOON_SECONDS = 2.0


@dataclass(frozen=True)
class Container:
    """The container and its first video track; None where the headers don't say.

    kinds: of the tracks, in order (`Video`, `Audio`, `Image`, …). codec: MediaInfo's name of the format
    (`AVC`, `AV1`, `Theora`). scan: `Progressive`, `Interlaced` or `MBAFF`. hdr: the transfer function or the
    HDR format. matrix: of YCbCr. streamable: the index lies before the frames (MP4 "fast start"). width, height:
    stored pixels. truncated: the container promises bytes that the file does not have.
    """

    format: str | None = None
    kinds: tuple[str, ...] = ()
    codec: str | None = None
    codec_profile: str | None = None
    pixel_format: str | None = None
    bit_depth: int | None = None
    scan: str | None = None
    hdr: str | None = None
    matrix: str | None = None
    frame_rate_mode: str | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None
    encryption: str | None = None
    streamable: bool | None = None
    width: int | None = None
    height: int | None = None
    truncated: bool = False

    @property
    def interlaced(self) -> bool:
        """Whether a frame holds two fields of different times."""
        return self.scan not in (None, "Progressive")

    def warnings(self) -> list[str]:
        """What is reported and not corrected."""
        found = []
        if self.interlaced:
            found.append(f"the video is interlaced ({self.scan}); its fields were not separated")
        if self.hdr:
            found.append(f"the video is HDR ({self.hdr}); its colours were not mapped to standard range")
        return found


def identify(file: Path | BinaryIO) -> Container:
    """Read the headers (milliseconds, whatever the length); a file that is no known container gives `Container()`.

    The file is read in pieces, and no other can be opened by what it says.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return identify(opened)
    try:
        tracks = MediaInfo.parse(file, parse_speed=0, buffer_size=_PIECE_BYTES).tracks
    except ParseError:  # a broken file's words can make its XML invalid
        return Container()
    general = next((track for track in tracks if track.track_type == "General"), None)
    pictures = [track for track in tracks if track.track_type in ("Video", "Image")]
    if general is None or general.format is None:
        return Container()
    kinds = tuple(track.track_type for track in tracks if track.track_type != "General")
    facts = _picture_facts(pictures[0]) if pictures else {}
    return Container(
        format=general.format,
        kinds=kinds,
        streamable={"Yes": True, "No": False}.get(general.isstreamable),
        truncated=general.istruncated == "Yes",
        **facts,
    )


def identify_soon(file: BinaryIO) -> Container:
    """`identify` for a process that ends with its video: what hangs (MediaInfo on some broken headers) is left behind.

    Such a file gives `Container()`; FFmpeg may still decode it.
    """
    found: list[Container] = []
    thread = threading.Thread(target=lambda: found.append(identify(file)), name="identify", daemon=True)
    thread.start()
    thread.join(_SOON_SECONDS)
    return found[0] if found else Container()


def _picture_facts(track: Any) -> dict[str, Any]:
    return {
        "codec": track.format,
        "codec_profile": track.format_profile,
        "pixel_format": " ".join(filter(None, (track.color_space, track.chroma_subsampling))) or None,
        "bit_depth": _number(track.bit_depth, int),
        "scan": track.scan_type,
        "hdr": _hdr(track),
        "matrix": track.matrix_coefficients,
        "frame_rate_mode": track.frame_rate_mode,
        "num_frames": _number(track.frame_count, int),
        "duration_seconds": _seconds(track.duration),
        "encryption": track.encryption,
        "width": _number(track.width, int),
        "height": _number(track.height, int),
    }


def _hdr(track: Any) -> str | None:
    if track.transfer_characteristics in _HDR_TRANSFERS:
        return str(track.transfer_characteristics)
    return str(track.hdr_format) if track.hdr_format else None


def _number(value: object, kind: type[int] | type[float]) -> Any:
    try:
        return kind(value)  # type: ignore[arg-type,call-overload]
    except (TypeError, ValueError):
        return None


def _seconds(milliseconds: object) -> float | None:
    value: float | None = _number(milliseconds, float)
    return None if value is None else value / 1e3
