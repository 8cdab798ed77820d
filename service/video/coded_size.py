"""The size of the picture as each packet of a codec tells it. No frame is decoded.

Of the codecs that can change it in mid-stream. A reader gets the packets in decoding order and answers with the size
of the picture shown, or None where the packet doesn't tell; of broken ones it may raise ValueError or IndexError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from service.video.bits import Bits
from service.video.vpx import Size, Vp9Sizes, vp8_size

SizeOf = Callable[[bytes], Size | None]

# As much of a parameter set as can lie before the size, scaling lists with it.
_SET_BYTES = 1024
_SLICE_BYTES = 16
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# A chroma sample's columns and rows of the picture, by chroma_format_idc.
_CHROMA = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}


class NalSizes:
    """H.264 and H.265: of the sequence parameter set (SPS) that the first slice refers to by its picture's (PPS)."""

    def __init__(self, *, hevc: bool) -> None:
        self._hevc = hevc
        self._sizes: dict[int, Size] = {}
        self._sequence_of: dict[int, int] = {}

    def __call__(self, packet: bytes) -> Size | None:
        """Parameter sets come before the first slice, after them those that FFmpeg repeats from the file's header.

        What is first in the packet holds: the decoder doesn't get the others.
        """
        sizes: dict[int, Size] = {}
        sequence_of: dict[int, int] = {}
        for start in _starts(packet):
            header = packet[start : start + 2]
            kind = header[0] >> 1 & 0x3F if self._hevc else header[0] & 0x1F
            if self._hevc and (header[0] & 1 or header[1] >> 3):  # another layer (a second eye)
                continue
            body = start + (2 if self._hevc else 1)
            if kind == (33 if self._hevc else 7):
                read = hevc_sps if self._hevc else h264_sps
                number, size = read(Bits(_unescaped(packet[body : body + _SET_BYTES])))
                sizes.setdefault(number, size)
            elif kind == (34 if self._hevc else 8):
                bits = Bits(_unescaped(packet[body : body + _SLICE_BYTES]))
                number = bits.exp_golomb()
                sequence_of.setdefault(number, bits.exp_golomb())
            elif kind < 32 if self._hevc else kind in (1, 2, 5):
                self._sizes |= sizes
                self._sequence_of |= sequence_of
                bits = Bits(_unescaped(packet[body : body + _SLICE_BYTES]))
                return self._sizes.get(self._sequence_of.get(self._picture_set(bits, kind), -1))
        return None

    def _picture_set(self, bits: Bits, kind: int) -> int:
        """From a slice's header."""
        if self._hevc:
            bits.read(2 if 16 <= kind <= 23 else 1)
        else:
            bits.exp_golomb()
            bits.exp_golomb()
        return bits.exp_golomb()


def h264_sps(bits: Bits) -> tuple[int, Size]:
    """Number and size (H.264, 7.3.2.1.1)."""
    profile = bits.read(8)
    bits.read(16)
    number, chroma = bits.exp_golomb(), 1
    if profile in _HIGH_PROFILES:
        chroma = bits.exp_golomb()
        if chroma == 3 and bits.read(1):  # planes coded apart
            chroma = 0
        bits.exp_golomb()
        bits.exp_golomb()
        bits.read(1)
        if bits.read(1):
            for i in range(8 if chroma != 3 else 12):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    bits.exp_golomb()
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.read(1)
        for _ in range(2):
            bits.exp_golomb()
        for _ in range(bits.exp_golomb()):
            bits.exp_golomb()
    bits.exp_golomb()
    bits.read(1)
    width, units = 16 * (bits.exp_golomb() + 1), bits.exp_golomb() + 1
    fields = 2 - bits.read(1)
    if fields == 2:
        bits.read(1)
    bits.read(1)
    across, down = _CHROMA[chroma]
    return number, _cropped(bits, (width, 16 * units * fields), (across, down * fields))


def hevc_sps(bits: Bits) -> tuple[int, Size]:
    """Number and size (H.265, 7.3.2.2.1)."""
    bits.read(4)
    layers = bits.read(3)
    bits.read(1 + 88 + 8)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    bits.read(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    number, chroma = bits.exp_golomb(), bits.exp_golomb()
    if chroma == 3 and bits.read(1):
        chroma = 0
    return number, _cropped(bits, (bits.exp_golomb(), bits.exp_golomb()), _CHROMA[chroma])


def mpeg12_size(packet: bytes) -> Size | None:
    """Of a sequence header (ISO 13818-2, 6.2.2.1), without the extension's high bits."""
    at = packet.find(b"\0\0\1\xb3")
    if at < 0:
        return None
    bits = Bits(packet[at + 4 : at + 7])
    return bits.read(12), bits.read(12)


def mpeg4_size(packet: bytes) -> Size | None:
    """Of a video object layer (ISO 14496-2, 6.2.3)."""
    body = next((start for start in _starts(packet) if 0x20 <= packet[start] <= 0x2F), None)
    if body is None:
        return None
    bits = Bits(packet[body + 1 : body + 65])
    bits.read(9)
    if bits.read(1):
        bits.read(7)
    if bits.read(4) == 15:
        bits.read(16)
    if bits.read(1):
        bits.read(3)
        if bits.read(1):
            bits.read(79)
    if bits.read(2):  # not rectangular
        return None
    bits.read(1)
    resolution = bits.read(16)
    bits.read(1)
    if bits.read(1):
        bits.read(max((resolution - 1).bit_length(), 1))
    bits.read(1)
    width = bits.read(13)
    bits.read(1)
    return width, bits.read(13)


def jpeg_size(packet: bytes) -> Size | None:
    """Of the frame header, SOF (ITU-T T.81, B.2.2)."""
    at = packet.find(b"\xff\xd8") + 2
    while at >= 2 and at + 9 <= len(packet):
        kind = packet[at + 1]
        if packet[at] != 0xFF or kind == 0xDA:
            return None
        if kind == 0xFF:  # a byte to fill
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(packet[at + i : at + i + 2], "big") for i in (5, 7))
            return width, height
        else:
            at += 2 + int.from_bytes(packet[at + 2 : at + 4], "big")
    return None


def png_size(packet: bytes) -> Size | None:
    """Of IHDR (ISO 15948, 11.2.2)."""
    return _numbers(packet, 16, 4) if packet[12:16] == b"IHDR" else None


def prores_size(packet: bytes) -> Size | None:
    """Of the frame header (SMPTE RDD 36, 5.1.1)."""
    return _numbers(packet, 16, 2) if packet[4:8] == b"icpf" else None


def sorenson_size(packet: bytes) -> Size | None:
    """Of a picture in FLV's H.263 (Adobe's SWF specification 19, `H263VIDEOPACKET`)."""
    bits = Bits(packet[:12])
    bits.read(30)
    kind = bits.read(3)
    if kind in (0, 1):
        return bits.read(8 << kind), bits.read(8 << kind)
    return {2: (352, 288), 3: (176, 144), 4: (128, 96), 5: (320, 240), 6: (160, 120)}.get(kind)


def _numbers(packet: bytes, at: int, length: int) -> Size:
    return int.from_bytes(packet[at : at + length], "big"), int.from_bytes(packet[at + length : at + 2 * length], "big")


def _starts(packet: bytes) -> Iterator[int]:
    """Where units begin: after each start code that has two bytes behind it (H.264, annex B; ISO 14496-2)."""
    at = packet.find(b"\0\0\1")
    while 0 <= at < len(packet) - 4:
        yield at + 3
        at = packet.find(b"\0\0\1", at + 3)


def _unescaped(payload: bytes) -> bytes:
    return payload.replace(b"\0\0\3", b"\0\0")


def _skip_scaling_list(bits: Bits, length: int) -> None:
    last = scale = 8
    for _ in range(length):
        if scale:
            scale = (last + bits.signed_exp_golomb()) % 256
        last = scale or last


def _cropped(bits: Bits, size: Size, unit: Size) -> Size:
    if not bits.read(1):
        return size
    left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
    return size[0] - unit[0] * (left + right), size[1] - unit[1] * (top + bottom)


# By the names of `Header.codec`; a fresh reader for each stream.
READERS: dict[str, Callable[[], SizeOf]] = {
    "vp8": lambda: vp8_size,
    "vp9": Vp9Sizes,
    "h264": lambda: NalSizes(hevc=False),
    "hevc": lambda: NalSizes(hevc=True),
    "mpeg1video": lambda: mpeg12_size,
    "mpeg2video": lambda: mpeg12_size,
    "mpeg4": lambda: mpeg4_size,
    "dx50": lambda: mpeg4_size,
    "mjpeg": lambda: jpeg_size,
    "png": lambda: png_size,
    "mpng": lambda: png_size,
    **dict.fromkeys(("apch", "apcn", "apcs", "apco", "ap4h", "ap4x"), lambda: prores_size),
    "flv1": lambda: sorenson_size,
}
