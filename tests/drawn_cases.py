"""Clips for `tests.drawn` to write: (suffix, arguments of `draw`) by name, and the clocks of containers."""

from __future__ import annotations

from typing import Any

import numpy as np

H264, X265 = {"encoder": "libx264"}, {"encoder": "libx265"}
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"h264-b-{suffix}": (suffix, {**H264, "b_frames": 3}) for suffix in ("mp4", "mov", "mkv", "ts", "flv")},
    **{f"hevc-b-{suffix}": (suffix, {**X265, "b_frames": 3}) for suffix in ("mp4", "mkv", "ts")},
    "vp9-webm": ("webm", {"encoder": "libvpx-vp9"}),
    "vp9-mp4": ("mp4", {"encoder": "libvpx-vp9"}),
    "vp9-alt-ref": ("webm", {"encoder": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
    "vp8-webm": ("webm", {"encoder": "libvpx"}),
    "vp8-alt-ref": ("webm", {"encoder": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
    "mpeg4-avi": ("avi", {"encoder": "mpeg4"}),
    "mpeg4-b-mp4": ("mp4", {"encoder": "mpeg4", "b_frames": 2}),
    "mpeg2-b-ts": ("ts", {"encoder": "mpeg2video", "b_frames": 2}),
    "mpeg2-b-ps": ("mpg", {"encoder": "mpeg2video", "b_frames": 2}),
    "mpeg2-ps": ("mpg", {"encoder": "mpeg2video"}),
    "mpeg2-b-mkv": ("mkv", {"encoder": "mpeg2video", "b_frames": 2}),
    "mjpeg-avi": ("avi", {"encoder": "mjpeg"}),
    "mjpeg-mov": ("mov", {"encoder": "mjpeg"}),
    "gif": ("gif", {"encoder": "gif"}),
    "flv1": ("flv", {"encoder": "flv"}),
    "prores-mov": ("mov", {"encoder": "prores_ks"}),
    "huffyuv-avi": ("avi", {"encoder": "huffyuv"}),
    "ffv1-mkv": ("mkv", {"encoder": "ffv1"}),
    "raw-avi": ("avi", {"encoder": "rawvideo"}),
    "raw-mov": ("mov", {"encoder": "rawvideo", "pixel_format": "rgb24"}),
    "open-gop": ("mkv", {**H264, "b_frames": 2, "options": {"x264-params": "open-gop=1:keyint=10"}}),
    "b-pyramid": ("mp4", {**H264, "b_frames": 5, "options": {"preset": "medium", "x264-params": "b-pyramid=normal"}}),
    "fragmented": ("mp4", {**H264, "b_frames": 2, "muxer_options": {"movflags": "frag_keyframe+empty_moov"}}),
}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"h264-{f}": ("mp4", {**H264, "pixel_format": f})
        for f in ("yuv420p10le", "yuv422p", "yuv444p", "gray", "yuvj420p")
    },
    "h264-422-10": ("mkv", {**H264, "pixel_format": "yuv422p10le"}),
    **{f"hevc-{f}": ("mp4", {**X265, "pixel_format": f}) for f in ("yuv420p10le", "yuv420p12le", "gray", "gbrp")},
    "hevc-444-12": ("mkv", {**X265, "pixel_format": "yuv444p12le"}),
    "vp9-444": ("webm", {"encoder": "libvpx-vp9", "pixel_format": "yuv444p"}),
    "vp9-alpha": ("webm", {"encoder": "libvpx-vp9", "pixel_format": "yuva420p", "options": {"auto-alt-ref": "0"}}),
    "vp8-alpha": ("webm", {"encoder": "libvpx", "pixel_format": "yuva420p", "options": {"auto-alt-ref": "0"}}),
    "png-alpha": ("mov", {"encoder": "png", "pixel_format": "rgba"}),
    "qtrle-alpha": ("mov", {"encoder": "qtrle", "pixel_format": "argb"}),
    "ffv1-alpha": ("mkv", {"encoder": "ffv1", "pixel_format": "yuva420p"}),
    "prores-alpha": ("mov", {"encoder": "prores_ks", "pixel_format": "yuva444p10le"}),
    "png-grey": ("mov", {"encoder": "png", "pixel_format": "gray"}),
    "png-grey-16": ("mov", {"encoder": "png", "pixel_format": "gray16be"}),
    "png-48": ("mov", {"encoder": "png", "pixel_format": "rgb48be"}),
    "ffv1-16": ("mkv", {"encoder": "ffv1", "pixel_format": "yuv420p16le"}),
    "mjpeg-444": ("avi", {"encoder": "mjpeg", "pixel_format": "yuvj444p"}),
}
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{name}-{width}x{height}": (suffix, {"width": width, "height": height, **extra})
    for name, suffix, extra, sizes in (
        ("h264-444", "mp4", {**H264, "pixel_format": "yuv444p"}, [(161, 121), (1, 1), (3, 200), (201, 5)]),
        ("vp9", "webm", {"encoder": "libvpx-vp9"}, [(161, 121), (1, 2), (16, 2), (2, 16), (227, 225)]),
        ("vp8", "webm", {"encoder": "libvpx"}, [(175, 143), (17, 31)]),
        ("h264", "mp4", H264, [(16, 2), (2, 16), (450, 450), (1000, 32), (32, 1000), (1918, 1078)]),
        ("mpeg4", "avi", {"encoder": "mpeg4"}, [(161, 121)]),
        ("mjpeg", "avi", {"encoder": "mjpeg"}, [(161, 121), (16, 2), (1, 1)]),
        ("gif", "gif", {"encoder": "gif"}, [(161, 121), (1, 1)]),
        ("hevc", "mp4", {"encoder": "libx265"}, [(450, 226)]),
        ("wmv2", "asf", {"encoder": "wmv2"}, [(320, 240)]),
        ("msmpeg4", "avi", {"encoder": "msmpeg4"}, [(320, 240)]),
        ("mpeg2", "mpg", {"encoder": "mpeg2video"}, [(121, 81)]),
    )
    for width, height in sizes
}
UNEVEN = tuple(float(t) for t in np.cumsum([0.0, *[0.01, 0.04, 0.033, 0.2, 0.5, 0.033, 0.034, 0.125, 1.1] * 2]))
LATE = tuple(3.0 + seconds for seconds in UNEVEN)
EARLY = tuple(seconds - 0.25 for seconds in UNEVEN)
RATES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"vfr-{suffix}": (suffix, {**H264, "b_frames": 2, "timestamps": UNEVEN})
        for suffix in ("mp4", "mkv", "ts", "flv")
    },
    "vfr-webm": ("webm", {"encoder": "libvpx-vp9", "timestamps": UNEVEN}),
    "vfr-hevc": ("mp4", {**X265, "b_frames": 2, "timestamps": UNEVEN}),
    # FFmpeg 5.1 reads delays under 2/100 s as 1/10 s, as browsers do.
    "vfr-gif": ("gif", {"encoder": "gif", "timestamps": tuple(2 * seconds for seconds in UNEVEN)}),
    **{
        f"late-{suffix}": (suffix, {**H264, "b_frames": 2, "timestamps": LATE})
        for suffix in ("mp4", "mkv", "ts", "flv")
    },
    "late-webm": ("webm", {"encoder": "libvpx", "timestamps": LATE}),
    "early-mkv": ("mkv", {**H264, "b_frames": 2, "timestamps": EARLY}),
    "early-ts": ("ts", {**H264, "b_frames": 2, "timestamps": EARLY}),
    "no-edit-list": ("mp4", {**H264, "b_frames": 2, "muxer_options": {"use_editlist": "0"}}),
    "negative-offsets": ("mp4", {**H264, "b_frames": 3, "muxer_options": {"movflags": "negative_cts_offsets"}}),
    "negative-decoding-times": ("mp4", {**H264, "b_frames": 3, "muxer_options": {"avoid_negative_ts": "disabled"}}),
    "negative-mkv": ("mkv", {**H264, "b_frames": 3, "muxer_options": {"avoid_negative_ts": "disabled"}}),
    "10-fps": ("mp4", {**H264, "b_frames": 2, "fps": 10}),
    "29.97-fps": ("mkv", {**H264, "b_frames": 2, "fps": 29.97}),
    "120-fps": ("mp4", {**H264, "b_frames": 2, "fps": 120}),
    "1-frame-mp4": ("mp4", {**H264, "num_frames": 1}),
    "1-frame-b-mp4": ("mp4", {**H264, "b_frames": 3, "num_frames": 1}),
    "2-frames-b-mkv": ("mkv", {**H264, "b_frames": 3, "num_frames": 2}),
    "1-frame-webm": ("webm", {"encoder": "libvpx-vp9", "num_frames": 1}),
    "1-frame-ts": ("ts", {**H264, "num_frames": 1}),
    "1-frame-avi": ("avi", {"encoder": "mpeg4", "num_frames": 1}),
    "1-frame-gif": ("gif", {"encoder": "gif", "num_frames": 1}),
}
# Whole ticks of these containers' clocks; a time is the difference of two that are rounded.
CLOCKS = {"mkv": 1e-3, "webm": 1e-3, "flv": 1e-3, "asf": 1e-3, "gif": 1e-2, "ts": 1 / 90_000, "mpg": 1 / 90_000}
