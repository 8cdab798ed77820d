"""High dynamic range: what decoding makes of it."""

from __future__ import annotations

# Transfer functions (ITU-R BT.2100) that FFmpeg maps.
MAPPED = ("PQ", "HLG")


def became_of(hdr: str) -> str:
    """What decoding makes of the colours of this transfer function, or HDR format without one that FFmpeg knows."""
    return "were mapped to standard range" if hdr in MAPPED else "were taken as stored, and may be wrong"
