"""What a video may be refused for; the whole tree is drawn in `service.errors`."""

from __future__ import annotations

from service.errors import ReelserveError


class VideoError(ReelserveError):
    """The file is the cause: sending it again changes nothing."""

    status = 422
    code = "bad_video"
    title = "Bad video"


class NotAVideo(VideoError):
    """No demuxer recognises the bytes.

    words: FFmpeg's complaint, where it is known.
    """

    code = "not_a_video"
    title = "Not a video"

    def __init__(self, detail: str, *, value: object = None, limit: object = None, words: str | None = None) -> None:
        super().__init__(detail, value=value, limit=limit)
        self.words = words


class NoVideoStream(VideoError):
    """The container is known, and has sound or nothing in it."""

    code = "no_video_stream"
    title = "No video stream"


class CodecNotSupported(VideoError):
    """This build of FFmpeg has no decoder for the codec."""

    status = 415
    code = "codec_not_supported"
    title = "Codec not supported"


class NoDecodableFrame(VideoError):
    """The container opens, but not one frame comes out."""

    code = "no_decodable_frame"
    title = "No decodable frame"


class CorruptVideo(VideoError):
    """Damage was met, and `strict` was asked for."""

    code = "corrupt_video"
    title = "Corrupt video"


class NoSuchStream(VideoError):
    """The file has no video stream of the number asked for."""

    code = "no_such_stream"
    title = "No such stream"


class TooShort(VideoError):
    """Fewer sampled frames than the model's `min_frames`."""

    code = "too_short"
    title = "Clip too short"


class TooLong(VideoError):
    """A frame's time is beyond `max_duration_seconds`."""

    status = 413
    code = "too_long"
    title = "Video too long"


class TooLongForOnline(VideoError):
    """Alone on an idle machine it would take longer than the request's deadline: a job has none."""

    status = 413
    code = "too_long_for_online"
    title = "Too long for an online answer"


class TooManyPixels(VideoError):
    """A frame has more pixels than `max_frame_pixels`."""

    status = 413
    code = "too_many_pixels"
    title = "Frame too large"


class TooManyFrames(VideoError):
    """The walk passed `max_frames_walked`, or the timestamps ask for more samples than `max_ticks`."""

    status = 413
    code = "too_many_frames"
    title = "Too many frames"


class DecodeTimeout(VideoError):
    """The decoder hung, or used up `max_decode_seconds` or `max_decode_cpu_seconds`; it was killed."""

    code = "decode_timeout"
    title = "Decoding took too long"


class DecodeMemory(VideoError):
    """The decoder asked for more than `max_decode_memory_bytes`."""

    code = "decode_memory"
    title = "Decoding needs too much memory"


class DecoderCrashed(VideoError):
    """The file crashed its decoder (SIGSEGV and its like); no other clip was touched."""

    code = "decoder_crashed"
    title = "Decoder crashed"
