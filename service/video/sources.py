"""Which library decodes a video. OpenCV, wherever its build does it right; else PyAV, where it is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2

from service.video import pyav_source
from service.video.container import Container, is_of_pictures
from service.video.diagnosis import encrypted, sound_alone
from service.video.errors import CodecNotSupported
from service.video.opencv_source import OpenCvSource
from service.video.orientation import UPRIGHT
from service.video.pyav_source import PyAvSource
from service.video.source import ErrorLog, Source

# What decides the pixels beside the file and the spec.
VERSIONS = f"opencv {cv2.__version__}, pyav {pyav_source.VERSION}"
# What cover art is coded in; OpenCV takes it where it lies before the film.
_OF_PICTURES = ("mjpeg", "png", "mpng", "gif", "bmp", "webp")
# Bare streams, of which OpenCV takes any rate for 25 frames a second.
_WITHOUT_TIMES = ("AVC", "HEVC")
_WITHOUT = "PyAV, which is not installed here: pip install -r requirements/codecs.txt (`make serve` does)"


def open_source(path: Path, container: Container, num_threads: int = 1, log: ErrorLog | None = None) -> Source:
    """Open the container's chosen stream.

    Raises EmptyFile, NotAVideo, NoVideoStream, NoDecodableFrame, CodecNotSupported.
    """
    if container.encryption:
        raise encrypted(container)
    if container.stream:
        return pyav(path, container, f"video stream {container.stream}", num_threads, log)
    if container.interlaced and (pyav_source.AVAILABLE or log is None):
        return pyav(path, container, "interlaced video", num_threads, log)
    if container.format in _WITHOUT_TIMES and pyav_source.AVAILABLE:
        return pyav(path, container, "a stream without a container", num_threads, log)
    # Without FFmpeg's log nobody would tell of a blank frame.
    if log is None and pyav_source.AVAILABLE and pyav_source.begins_interlaced(path):
        return pyav(path, container, "interlaced video", num_threads)
    is_h264_in_matroska = container.format in ("Matroska", "WebM") and container.codec == "AVC"
    source = OpenCvSource(path, num_threads, log, has_packet_times=is_h264_in_matroska)
    if source.header.codec in _OF_PICTURES:
        if container.is_sound:
            source.release()
            raise sound_alone(container)
        if container.has_cover or (container.streams and container.codec and not is_of_pictures(container.codec)):
            source.release()
            return pyav(path, container, "a film behind a picture", num_threads, log)
    # OpenCV goes by the first row of the matrix alone, and so takes what is mirrored for turned.
    source.header = replace(source.header, orientation=container.orientation or source.header.orientation)
    return source


def pyav(path: Path, container: Container, what: str, num_threads: int = 1, log: ErrorLog | None = None) -> Source:
    """What OpenCV can't decode; raises CodecNotSupported where PyAV is missing."""
    if not pyav_source.AVAILABLE:
        mend = f"-map 0:v:{container.stream}" if container.stream else "-vf bwdif=mode=send_frame"
        raise CodecNotSupported(
            f"{what} ({container.codec or 'unknown'} in {container.format or 'no known container'}) needs {_WITHOUT}; "
            f"or convert it: ffmpeg -i INPUT {mend} -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4",
            value=what,
        )
    return PyAvSource(path, container.stream, num_threads, log, container.orientation or UPRIGHT)
