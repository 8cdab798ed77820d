"""Which pictures `tests.pictures` draws: encoders, pixel formats, containers, tags, fields and turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from tests.colours import Coding

Size = tuple[int, int]
SIZES: tuple[Size, ...] = ((176, 144), (178, 142), (177, 143))  # whole macroblocks, even, odd where chroma allows it
# MatrixCoefficients, ColourPrimaries and TransferCharacteristics (H.273) as cameras and encoders write them together.
MATRICES = {
    "untagged": (2, 2, 2), "bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020nc": (9, 9, 14), "smpte240m": (7, 7, 7),
    "fcc": (4, 4, 4),
}  # fmt: skip
# What leaves the gamut or the transfer function of BT.709: swscale maps it where it is told the target's (2 s a clip).
WIDE = {
    "bt2020": (9, 9, 14), "display-p3": (1, 12, 1), "pq": (9, 9, 16), "hlg": (9, 9, 18),
}  # fmt: skip
RANGES = {"untagged": 0, "limited": 1, "full": 2}
# The display matrix (ISO 14496-12 § 6.2.2): a, b, c, d of x' = a x + c y, y' = b x + d y.
TURNS = {
    "upright": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1), "flip": (1, 0, 0, -1), "transpose": (0, 1, 1, 0), "transverse": (0, -1, -1, 0),
}  # fmt: skip
_X26 = {"preset": "ultrafast", "crf": "4"}
_X265 = "log-level=none:pools=none:frame-threads=1"
_VPX = {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "2000000", "auto-alt-ref": "0"}
_JPEG = {"strict": "unofficial", "qmin": "1", "qmax": "1"}
_RATE = {"b": "6M"}
_FIELDS = {"flags": "+ildct+ilme"}
# Containers that hold neither range nor matrix, and codecs in them that don't either.
_UNTAGGED = ("avi", "flv", "asf", "gif", "nut", "mxf")
_WIDER: tuple[Size, ...] = ((272, 144), (274, 142))


@dataclass(frozen=True)
class Kind:
    """An encoder, what it takes and where it goes; names are separated by spaces, the main container comes first.

    options: FFmpeg's. fields: those with which it codes two fields a frame; None where it can't. centred: its chroma
    lies amid the luma samples. tags: whether it may be tagged (a matrix would make YCbCr of H.264's RGB).
    """

    encoder: str
    pixel_formats: str
    suffixes: str
    options: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] | None = None
    sizes: tuple[Size, ...] = SIZES
    centred: bool = False
    tags: bool = True


KINDS = (
    Kind(
        "libx264",
        "yuv420p yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le yuvj420p yuvj422p yuvj444p nv12 gray gray10le",
        "mp4 mkv mov ts", _X26, {"x264-params": "tff=1"},
    ),
    Kind("libx264rgb", "bgr0 bgr24 rgb24", "mp4 mkv", _X26, tags=False),
    Kind(
        "libx265",
        "yuv420p yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le yuv420p12le yuv422p12le yuv444p12le yuvj420p gray "
        "gray10le gray12le gbrp gbrp10le gbrp12le",
        "mp4 mkv ts", _X26 | {"x265-params": _X265}, {"x265-params": f"{_X265}:interlace=1"},
    ),
    Kind("libsvtav1", "yuv420p yuv420p10le", "mp4 webm mkv", {"preset": "10", "crf": "10", "svtav1-params": "lp=1"}),
    Kind("libvpx", "yuv420p yuva420p", "webm mkv", _VPX),
    Kind("libvpx-vp9", "yuv420p yuv422p yuv440p yuv444p yuva420p gbrp", "webm mp4 mkv", _VPX | {"b": "0"}),
    Kind("mpeg2video", "yuv420p yuv422p", "mkv mp4 ts mpg", _RATE, _FIELDS),
    Kind("mpeg1video", "yuv420p", "mkv mpg", _RATE, centred=True),
    Kind("mpeg4", "yuv420p", "mp4 mkv avi", _RATE, _FIELDS),
    Kind("prores_ks", "yuv422p10le yuv444p10le yuva444p10le", "mov mkv", {}, {"flags": "+ildct"}),
    Kind(
        "ffv1",
        "yuv420p yuv422p yuv444p yuv440p yuv411p yuv410p yuv420p10le yuv422p10le yuv444p10le yuv420p12le yuv444p12le "
        "yuv420p16le yuva420p yuva444p10le gray gray10le gray16le gbrp10le gbrp16le bgr0 bgra",
        "mkv avi", {}, {},
    ),
    Kind("mjpeg", "yuvj420p yuvj422p yuvj444p yuv420p yuv422p yuv444p", "mov mkv avi", _JPEG, centred=True),
    Kind("dnxhd", "yuv422p", "mov mxf", {"profile": "dnxhr_hq"}, sizes=_WIDER),
    Kind("dnxhd", "yuv422p10le", "mov mxf", {"profile": "dnxhr_hqx"}, sizes=_WIDER),
    Kind("dnxhd", "yuv444p10le gbrp10le", "mov mxf", {"profile": "dnxhr_444"}, sizes=_WIDER),
    Kind("qtrle", "rgb24 argb", "mov"),
    Kind("png", "rgb24 rgba rgb48be pal8 gray gray16be", "mov avi"),
    Kind("rawvideo", "rgb24 bgr24 yuyv422 uyvy422", "mov avi nut"),
    Kind("rawvideo", "yuv420p yuv422p nv12", "mkv avi nut"),
    Kind("huffyuv", "yuv422p rgb24 bgra", "avi"),
    Kind("ffvhuff", "yuv420p yuv444p yuv420p10le gbrp rgb24 gray", "avi"),
    Kind("utvideo", "yuv420p yuv422p yuv444p gbrp", "avi"),
    Kind("magicyuv", "yuv420p yuv444p gbrp gray", "avi"),
    Kind("v210", "yuv422p10le", "mov avi"),
    Kind("jpeg2000", "yuv420p yuv444p yuv422p10le rgb24 gray", "mov mkv"),
    Kind("zmbv", "bgr0", "avi"),
    Kind("flv", "yuv420p", "flv", _RATE),
    Kind("wmv2", "yuv420p", "asf avi", _RATE),
    Kind("gif", "pal8", "gif"),
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One combination. matrix: of `MATRICES` or `WIDE`. whole: its primaries and transfer function are tagged as well.
    turn_in: where a turn is said, the container's header or the H.264 stream (its SEI message)."""

    kind: Kind
    pixel_format: str
    suffix: str
    size: Size = SIZES[0]
    range: str = "untagged"
    matrix: str = "untagged"
    whole: bool = False
    fields: bool = False
    turn: str = "upright"
    turn_in: str = "header"

    def __str__(self) -> str:
        width, height = self.size
        parts = [
            f"{self.kind.encoder} {self.pixel_format} {self.suffix} {width}x{height} range={self.range} "
            f"matrix={self.matrix}{'+primaries' * self.whole}"
        ]
        if self.fields:
            parts.append("interlaced")
        if self.turn != "upright":
            parts.append(f"{self.turn} ({self.turn_in})")
        return " ".join(parts)

    @property
    def coding(self) -> Coding:
        """What its samples mean, were all tags to survive."""
        by_name = self.pixel_format.startswith(("yuvj", "gray")) or self.kind.encoder == "mjpeg"
        full = self.range == "full" or (self.range == "untagged" and by_name)
        return Coding(self.tags[0], full, self.kind.centred)

    @property
    def tags(self) -> tuple[int, int, int]:
        """MatrixCoefficients, ColourPrimaries and TransferCharacteristics."""
        matrix, primaries, transfer = (MATRICES | WIDE)[self.matrix]
        return (matrix, primaries, transfer) if self.whole else (matrix, 2, 2)


def clip(encoder: str, pixel_format: str, suffix: str, **more: Any) -> Clip:
    """By the encoder's name; more: of `Clip`."""
    found = (kind for kind in KINDS if kind.encoder == encoder and pixel_format in kind.pixel_formats.split())
    return Clip(next(found), pixel_format, suffix, **more)


def tagged() -> Iterator[Clip]:
    """Every pixel format in its main container with every range and matrix, in others with each of them once; sizes
    and whole tags take turns."""
    for kind in KINDS:
        for pixel_format, (place, suffix) in product(kind.pixel_formats.split(), enumerate(kind.suffixes.split())):
            for (r, range_), (m, matrix) in product(enumerate(RANGES), enumerate(MATRICES)):
                if suffix in _UNTAGGED or not kind.tags:
                    wanted = (range_, matrix) in (("untagged", "untagged"), ("full", "bt709"))[: 1 + kind.tags]
                else:
                    wanted = place == 0 or r == (m + place) % len(RANGES)
                if wanted:
                    size = kind.sizes[(r + m + place) % len(kind.sizes)]
                    whole = matrix not in ("untagged", "bt2020nc") and (r + m) % 2 == 0
                    yield Clip(kind, pixel_format, suffix, size, range_, matrix, whole)


def interlaced() -> Iterator[Clip]:
    """Whatever may be coded as two fields a frame, which need not be seen in the picture."""
    for kind in KINDS:
        if kind.fields is not None:
            for pixel_format, (place, suffix) in product(kind.pixel_formats.split(), enumerate(kind.suffixes.split())):
                for (r, range_), matrix in product(enumerate(RANGES), ("untagged", "bt709")):
                    if place == 0 or r == 0:
                        yield Clip(kind, pixel_format, suffix, SIZES[r % 2], range_, matrix, fields=True)


def turned() -> Iterator[Clip]:
    """The eight display matrices, by codecs that go different ways: 8 and 10 bits, RGB, full range, two fields."""
    for each in (
        clip("libx264", "yuv420p", "mp4"),
        clip("libx264", "yuv420p", "mkv"),
        clip("libx264", "yuv420p", "mov", range="full", matrix="bt709"),
        clip("libx264", "yuv420p", "mp4", fields=True),
        clip("libx264", "yuv420p", "ts", turn_in="stream"),
        clip("libx265", "yuv420p10le", "mp4", matrix="bt2020nc"),
        clip("libsvtav1", "yuv420p", "mp4", matrix="bt709"),
        clip("libvpx-vp9", "yuv420p", "mkv"),
        clip("mjpeg", "yuvj422p", "mov"),
        clip("prores_ks", "yuv422p10le", "mov"),
        clip("png", "rgb24", "mov", matrix="bt709"),
    ):
        for turn, size in product(list(TURNS)[1:], SIZES[:2]):
            yield replace(each, turn=turn, size=size)


def wide() -> Iterator[Clip]:
    """Wide gamut and HDR, as phones write them, and 8 bits."""
    for matrix in WIDE:
        yield clip("libx265", "yuv420p10le", "mp4", matrix=matrix, whole=True)
        if matrix != "pq":
            yield clip("libx264", "yuv420p", "mkv", matrix=matrix, whole=True)
