"""The size of the picture in packets of VP8 (RFC 6386) and VP9 (bitstream specification 0.6)."""

from __future__ import annotations

from service.video.bits import Bits

Size = tuple[int, int]

_VP8_START = b"\x9d\x01\x2a"
_VP9_SYNC = 0x498342
_VP9_HEADER_BYTES = 32
_RGB = 7
_REFERENCES = 8


def vp8_size(packet: bytes) -> Size | None:
    """Of a key frame; any other has the size of the last one (RFC 6386, 9.1)."""
    if packet[0] & 1 or packet[3:6] != _VP8_START:
        return None
    width, height = (int.from_bytes(packet[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height


class Vp9Sizes:
    """Any frame may have a size of its own, or that of one of eight references; hidden ones are not for the viewer."""

    def __init__(self) -> None:
        self._references: list[Size | None] = [None] * _REFERENCES

    def __call__(self, packet: bytes) -> Size | None:
        """Of the last frame in the packet that is shown."""
        shown = None
        for frame in frames_of(packet):
            shown = self._size(Bits(frame[:_VP9_HEADER_BYTES])) or shown
        return shown

    def _size(self, bits: Bits) -> Size | None:
        """Read an `uncompressed_header` (6.2); None for a frame that is not shown."""
        if bits.read(2) != 2:
            raise ValueError("no frame of VP9")
        profile = bits.read(1) | bits.read(1) << 1
        if profile == 3:
            bits.read(1)
        if bits.read(1):  # show_existing_frame
            return self._references[bits.read(3)]
        inter, shown, resilient = bits.read(1), bits.read(1), bits.read(1)
        if not inter:
            _color_config(bits, profile)
            size: Size | None = _frame_size(bits)
            refreshed = 0xFF
        else:
            intra_only = 0 if shown else bits.read(1)
            if not resilient:
                bits.read(2)
            if intra_only:
                if profile:
                    _color_config(bits, profile)
                elif bits.read(24) != _VP9_SYNC:
                    raise ValueError("no intra frame of VP9")
                refreshed = bits.read(8)
                size = _frame_size(bits)
            else:
                refreshed = bits.read(8)
                size = self._size_with_references(bits)
        for slot in range(_REFERENCES):
            if refreshed >> slot & 1:
                self._references[slot] = size
        return size if shown else None

    def _size_with_references(self, bits: Bits) -> Size | None:
        slots = []
        for _ in range(3):
            slots.append(bits.read(3))
            bits.read(1)
        for slot in slots:
            if bits.read(1):
                return self._references[slot]
        return _frame_size(bits)


def frames_of(packet: bytes) -> list[bytes]:
    """The frames of a superframe (annex B); the packet itself where it is none."""
    marker = packet[-1]
    count, length = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = len(packet) - 2 - count * length
    if marker & 0xE0 != 0xC0 or index < 0 or packet[index] != marker:
        return [packet]
    frames, start = [], 0
    for i in range(count):
        at = index + 1 + i * length
        end = start + int.from_bytes(packet[at : at + length], "little")
        frames.append(packet[start : min(end, index)])
        start = end
    return [frame for frame in frames if frame]


def _color_config(bits: Bits, profile: int) -> None:
    """With the sync code before it."""
    if bits.read(24) != _VP9_SYNC:
        raise ValueError("no key frame of VP9")
    if profile >= 2:
        bits.read(1)
    subsampled = profile in (1, 3)
    if bits.read(3) == _RGB:
        bits.read(subsampled)
    else:
        bits.read(4 if subsampled else 1)


def _frame_size(bits: Bits) -> Size:
    return bits.read(16) + 1, bits.read(16) + 1
