"""What a file without a telling name is, by its first bytes: only kinds that FFmpeg finds a video in."""

from __future__ import annotations

import codecs
import os
from typing import BinaryIO

HEAD_BYTES = 4096
_START = b"\x00\x00\x01"
_BOXES = (b"ftyp", b"moov", b"wide", b"pnot", b"skip", b"free", b"mdat")  # ISO 14496-12, QuickTime
_LEAST_LETTER = 0x09  # a box's length begins below: else it is a text that has such a word
# Brands of sound and of single pictures; `avis` and others of sequences are not among them.
_NO_VIDEO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"heic", b"heix", b"mif1", b"avif", b"crx ", b"jp2 ", b"jpx ")
_OGG_VIDEO = (b"\x80theora", b"OVP80", b"BBCD", b"\x01video")
_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",  # ASF, WMV
    b"FLV\x01", b"DKIF", b"YUV4MPEG2 ", b"nut/multimedia container\0",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",  # MXF
    b"\x12\x00\x0a",  # AV1: a temporal delimiter and a sequence header (OBU)
    _START + b"\xba", _START + b"\xb3", _START + b"\xb0",  # MPEG program stream, MPEG-1 and -2 video, MPEG-4 part 2
    *(b"\x00" + _START + bytes([unit]) for unit in (0x67, 0x47, 0x27, 0x09)),  # H.264: parameters, delimiter
    *(b"\x00" + _START + bytes([unit, 1]) for unit in (0x40, 0x42, 0x46)),  # HEVC
)  # fmt: skip
_TRANSPORT = ((0, 188), (4, 192), (0, 204))  # first sync byte, bytes of a packet
_PACKETS = 5
# 25 MB of a GIF's first picture.
_MOST_BLOCKS = 100_000


def is_video(file: BinaryIO, head: bytes) -> bool:
    """head: its first `HEAD_BYTES`, or all of it."""
    if head[4:8] in _BOXES and head[0] < _LEAST_LETTER:
        return head[4:8] != b"ftyp" or head[8:12] not in _NO_VIDEO_BRANDS
    if head.startswith(b"RIFF"):
        return head[8:12] in (b"AVI ", b"CDXA") or is_animated(file, head)
    if head.startswith(b"OggS"):
        return any(name in head for name in _OGG_VIDEO)
    return head.startswith(_BEGINNINGS) or _is_transport(head) or is_animated(file, head)


def is_animated(file: BinaryIO, head: bytes) -> bool:
    """A GIF, PNG, WebP or AVIF of several pictures."""
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _has_two_pictures(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _is_apng(file)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20:21] and head[20] & 0x02)
    return head[4:12] == b"ftypavis"


def is_text(head: bytes) -> bool:
    """UTF-8 without control characters, as sources are; nothing at all is no text."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return bool(text) and not any(letter < " " and letter not in "\t\n\r\f" for letter in text)


def _is_transport(head: bytes) -> bool:
    for first, step in _TRANSPORT:
        syncs = head[first : first + step * _PACKETS : step]
        if len(syncs) == _PACKETS and not syncs.strip(b"\x47"):
            return True
    return False


def _is_apng(file: BinaryIO) -> bool:
    """By its animation control, which stands before the first picture's data (PNG, third edition)."""
    at = 8
    for _ in range(_MOST_BLOCKS):
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[4:] == b"IDAT":
            return False
        if chunk[4:] == b"acTL":
            return True
        at += 12 + int.from_bytes(chunk[:4])
    return False


def _has_two_pictures(file: BinaryIO) -> bool:
    """GIF89a, § 15-26: blocks one after another, each of sub-blocks that tell their length."""
    file.seek(10)
    packed = file.read(3)[:1]
    _skip_colours(file, packed)
    pictures = 0
    blocks = 0
    while blocks < _MOST_BLOCKS:
        kind = file.read(1)
        if kind == b"\x2c":
            pictures += 1
            if pictures == 2:
                return True
            _skip_colours(file, file.read(9)[8:])
            file.read(1)
        elif kind == b"\x21":
            file.read(1)
        else:
            return False
        while (size := file.read(1)) not in (b"", b"\0") and blocks < _MOST_BLOCKS:
            blocks += 1
            file.seek(size[0], os.SEEK_CUR)
        blocks += 1
    return True


def _skip_colours(file: BinaryIO, packed: bytes) -> None:
    if packed and packed[0] & 0x80:
        file.seek(3 << ((packed[0] & 0x07) + 1), os.SEEK_CUR)
