"""Why a file gives no frame, in words that its sender can use."""

from __future__ import annotations

import re

from service.video.container import Container
from service.video.errors import CodecNotSupported, NoDecodableFrame, NotAVideo, NoVideoStream, VideoError
from service.video.opencv_source import NOT_ACCEPTED

# FFmpeg's words when it has no decoder for what it knows, when it may not read the container, and when the
# index of an MP4 or MOV file, which writers put at its end, is not there. (FFmpeg 5.1 writes "suppport".)
_NO_DECODER = re.compile(r"doesn't sup+ort|no decoder|decoder not found|not implemented", re.IGNORECASE)

_NO_INDEX = "moov atom not found"
_ACCEPTED = "MP4, MOV, MKV, WebM or AVI"
# By MediaInfo's names: codecs that FFmpeg decodes everywhere, and containers that are for video.
_DECODED = {
    "AVC", "HEVC", "MPEG Video", "MPEG-4 Visual", "VP6", "VP8", "VP9", "Theora", "VC-1", "WMV1", "WMV2", "JPEG",
    "JPEG 2000", "ProRes", "DV", "FFV1", "HuffYUV", "H.263", "Sorenson Spark", "GIF", "PNG", "RLE",
}  # fmt: skip
_MEDIA = {
    "MPEG-4", "QuickTime", "Matroska", "WebM", "AVI", "Flash Video", "MPEG-TS", "BDAV", "MPEG-PS", "Windows Media",
    "Ogg",
}  # fmt: skip


def no_frame(codec: str) -> NoDecodableFrame:
    """FFmpeg opens the file under this codec's name, and not one frame comes; `explain` may know more."""
    return NoDecodableFrame(
        f"the headers promise video ({codec}), and not one frame of it could be decoded: the file has no more than "
        "headers, or is cut short or broken; send the whole file"
    )


def encrypted(container: Container) -> NoDecodableFrame:
    """What decoders may take for frames of noise."""
    named = f"{container.codec or 'no codec'} in {container.format}"
    return NoDecodableFrame(f"the video ({named}) is encrypted; send one without DRM", value=container.encryption)


def sound_alone(container: Container) -> NoVideoStream:
    """A song, maybe with its cover."""
    return NoVideoStream(
        f"the file is {container.format} and holds only sound (cover art is no video); send one with a video stream"
    )


def explain(error: VideoError, container: Container, words: str | None) -> VideoError:
    """The error that the headers justify in place of NotAVideo or NoDecodableFrame; words: FFmpeg's first, if any.

    What stays NotAVideo is a file in which nobody finds a video track.
    """
    if container.format is None:
        return error
    if "Video" not in container.kinds and (words is None or _NO_INDEX not in words):
        return _without_video(error, container)
    if not container.kinds:
        return NoDecodableFrame(
            f"the file is {container.format} without its index ({words}): the upload or the recording was cut off; "
            "send the whole file, no tool can find the frames without it",
            value=words,
        )
    named = f"{container.codec or 'no codec'} in {container.format}"
    if container.encryption:
        return encrypted(container)
    if words and words.startswith(NOT_ACCEPTED):
        return CodecNotSupported(
            f"the container ({named}) is not accepted here; send {_ACCEPTED}, for example: "
            "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4",
            value=container.format,
        )
    # FFmpeg knows the container, has nothing to complain of, and yet nothing opens: no decoder.
    refused = isinstance(error, NotAVideo) and words is None and container.codec not in _DECODED
    if container.codec and (refused or (words and _NO_DECODER.search(words))):
        return CodecNotSupported(
            f"the codec ({named}) is not supported here; re-encode it, for example: "
            "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4",
            value=container.codec,
        )
    return _broken(error, container, named, words)


def _without_video(error: VideoError, container: Container) -> VideoError:
    """A container of sound, a picture, or something else altogether."""
    if container.is_sound:
        return sound_alone(container)
    if "Image" in container.kinds:
        if container.format == "WebP":
            return CodecNotSupported(
                "the file is WebP: a picture, or an animation that no decoder here reads; make a GIF or an MP4 of one",
                value="WebP",
            )
        if isinstance(error, NotAVideo):
            return NotAVideo(f"the file is a picture ({container.format}); send {_ACCEPTED}", value=container.format)
        return error
    if not container.kinds:
        if container.format in _MEDIA:
            return NoVideoStream(f"the file is {container.format} and holds no track; send one with a video stream")
        if isinstance(error, NotAVideo):
            return NotAVideo(
                f"the file is {container.format} and holds no video; send {_ACCEPTED}", value=container.format
            )
        return error
    held = ", ".join(container.kinds)
    return NoVideoStream(f"the file is {container.format} and holds only {held}; send one with a video stream")


def _broken(error: VideoError, container: Container, named: str, words: str | None) -> VideoError:
    """The headers name a video, and not one frame of it can be read."""
    if container.truncated:
        return NoDecodableFrame(
            f"the video ({named}) is cut off before its first frame: the container promises more bytes than came; "
            "send the whole file",
            value=words,
        )
    if isinstance(error, NotAVideo):
        return NoDecodableFrame(
            f"the headers of the video ({named}) are broken{f' ({words})' if words else ''}; send the original file, "
            "or write it again",
            value=words,
        )
    return error
