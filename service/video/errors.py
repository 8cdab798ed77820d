"""What a video may be refused for; the whole tree is drawn in `service.errors`."""

from __future__ import annotations

from service.errors import ReelserveError


class VideoError(ReelserveError):
    """The file is the cause: sending it again changes nothing."""

    status = 422
    code = "bad_video"
    title = "Bad video"
    remedy = "re-encode it"


class NotAVideo(VideoError):
    """No demuxer recognises the bytes.

    words: FFmpeg's complaint, where it is known.
    """

    code = "not_a_video"
    title = "Not a video"
    remedy = "check that it is one, and whole"

    def __init__(self, detail: str, *, value: object = None, limit: object = None, words: str | None = None) -> None:
        super().__init__(detail, value=value, limit=limit)
        self.words = words


class NoVideoStream(VideoError):
    """The container is known, and has sound or nothing in it."""

    code = "no_video_stream"
    title = "No video stream"
    remedy = "send one with pictures"


class CodecNotSupported(VideoError):
    """This build of FFmpeg has no decoder for the codec."""

    status = 415
    code = "codec_not_supported"
    title = "Codec not supported"
    remedy = "re-encode it; `/v1/probe` has the `ffmpeg` line"


class NoDecodableFrame(VideoError):
    """The container opens, but not one frame comes out."""

    code = "no_decodable_frame"
    title = "No decodable frame"
    remedy = "re-encode it, or send the whole file"


class CorruptVideo(VideoError):
    """Damage was met, and `strict` was asked for."""

    code = "corrupt_video"
    title = "Corrupt video"
    remedy = "re-encode it; without `strict` damage is a warning"


class NoSuchStream(VideoError):
    """The file has no video stream of the number asked for."""

    code = "no_such_stream"
    title = "No such stream"
    remedy = "leave `stream` out, or take one of those that the message lists"


class RegionOutside(VideoError):
    """The region asked for is not within the picture."""

    code = "region_outside"
    title = "Region outside the picture"
    remedy = "give a region within the picture, whose size the message has, or fractions"


class TooShort(VideoError):
    """Fewer sampled frames than the model's `min_frames`."""

    code = "too_short"
    title = "Clip too short"
    remedy = "send a longer clip, or ask for more of it"


class PastTheEnd(VideoError):
    """`start_seconds` is not before the end of the video."""

    code = "past_the_end"
    title = "Start past the end"
    remedy = "give an earlier `start_seconds`"


class TooLong(VideoError):
    """A frame's time is beyond `max_duration_seconds`."""

    status = 413
    code = "too_long"
    title = "Video too long"
    remedy = "cut it, give `end_seconds`, or raise the setting"


class TooLongForOnline(VideoError):
    """Alone on an idle machine it would take longer than the request's deadline: a job has none."""

    status = 413
    code = "too_long_for_online"
    title = "Too long for an online answer"
    remedy = "allow more with `X-Request-Timeout`, give `end_seconds`, or send it to `/v1/jobs`"


class TooManyPixels(VideoError):
    """A frame has more pixels than `max_frame_pixels`."""

    status = 413
    code = "too_many_pixels"
    title = "Frame too large"
    remedy = "scale it down, or raise the setting"


class TooManyFrames(VideoError):
    """The walk passed `max_frames_walked`, or the timestamps ask for more samples than `max_ticks`."""

    status = 413
    code = "too_many_frames"
    title = "Too many frames"
    remedy = "cut it, or raise the setting; a model that must have a clip whole: give a `window`"


class DecodeTimeout(VideoError):
    """The decoder hung, or used up `max_decode_seconds` or `max_decode_cpu_seconds`; it was killed."""

    code = "decode_timeout"
    title = "Decoding took too long"
    remedy = "cut it or re-encode it, or raise the limit that the detail names"


class DecodeMemory(VideoError):
    """The decoder asked for more than `max_decode_memory_bytes`."""

    code = "decode_memory"
    title = "Decoding needs too much memory"
    remedy = "re-encode it, or raise the setting"


class DecoderCrashed(VideoError):
    """The file crashed its decoder (SIGSEGV and its like); no other clip was touched."""

    code = "decoder_crashed"
    title = "Decoder crashed"
    remedy = "re-encode it"


class DecoderLost(ReelserveError):
    """The decoder was killed from outside (SIGKILL, out of memory), and so was the one that took its place."""

    status = 503
    code = "decoder_lost"
    title = "Decoder lost"
    remedy = "again after `Retry-After`; look for the kernel's out-of-memory killer"
    retry_after_seconds = 5
