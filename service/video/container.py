"""What a file's headers say of it, by MediaInfo: the names and facts that OpenCV does not give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from pymediainfo import MediaInfo

from service.video.animation import last_delay_seconds
from service.video.errors import NoSuchStream
from service.video.hdr import MAPPED, became_of
from service.video.joined import second_file
from service.video.matroska import is_live, orientations
from service.video.mp4 import video_tracks
from service.video.orientation import Orientation

# Of a file that fits into one piece it would not go back to the frames, which tell the scan.
_PIECE_BYTES = 4096
# MediaInfo's own speed, which reads some frames more.
_BEYOND_THE_HEADERS = 0.5
# Formats in which a track's length stands in tags, if anywhere.
_BY_TAG = ("Matroska", "WebM", "Windows Media")
_OF_PICTURES = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


@dataclass(frozen=True)
class VideoStream:
    """One of a file's video streams. default: players take it unasked. picture: a thumbnail beside the film."""

    codec: str | None
    width: int | None
    height: int | None
    default: bool
    picture: bool

    def __str__(self) -> str:
        size = f" {self.width} x {self.height}" if self.width and self.height else ""
        return f"{self.codec or 'unknown'}{size}"


@dataclass(frozen=True)
class Container:
    """The container and one of its video streams; None where the headers don't say.

    kinds: of the tracks, in order (`Video`, `Audio`, `Image`, …). streams: those of video, and which of them this
    speaks of. codec: MediaInfo's name of the format (`AVC`, `AV1`, `Theora`). scan: `Progressive`, `Interlaced` or
    `MBAFF`. hdr: the transfer function or the HDR format. has_cover: a picture is attached. streamable: the index lies
    before the frames (MP4 "fast start"). width, height: stored pixels. orientation: as MP4, QuickTime and Matroska tell
    it. duration_seconds: of the stream, from its start; last_frame_seconds: how long the last frame is shown;
    is_trimmed: edits leave out some of it, maybe the end of a hold; start_seconds: of the stream, after the file's.
    truncated: the container promises bytes that the file does not have. second_file_byte: where another file begins
    behind it.
    """

    format: str | None = None
    kinds: tuple[str, ...] = ()
    streams: tuple[VideoStream, ...] = ()
    stream: int = 0
    codec: str | None = None
    codec_profile: str | None = None
    pixel_format: str | None = None
    bit_depth: int | None = None
    scan: str | None = None
    hdr: str | None = None
    has_cover: bool = False
    orientation: Orientation | None = None
    frame_rate_mode: str | None = None
    num_frames: int | None = None
    duration_seconds: float | None = None
    last_frame_seconds: float | None = None
    is_trimmed: bool = False
    start_seconds: float = 0.0
    encryption: str | None = None
    streamable: bool | None = None
    width: int | None = None
    height: int | None = None
    truncated: bool = False
    second_file_byte: int | None = None

    @property
    def interlaced(self) -> bool:
        """Whether a frame holds two fields of different times."""
        return self.scan not in (None, "Progressive")

    @property
    def num_films(self) -> int:
        """Video streams that are more than a thumbnail."""
        return sum(not stream.picture for stream in self.streams)

    @property
    def is_sound(self) -> bool:
        """Whether there is sound and no video; cover art is none."""
        return "Audio" in self.kinds and not self.streams

    def warnings(self) -> list[str]:
        """What its sender should know of the whole file."""
        found = []
        if self.interlaced:
            found.append(f"the video is interlaced ({self.scan}); its fields were not separated")
        if self.hdr:
            found.append(f"the video is HDR ({self.hdr}); its colours {became_of(self.hdr)}")
        if self.num_films > 1:
            listed = ", ".join(f"{number}: {stream}" for number, stream in enumerate(self.streams))
            found.append(
                f"the file has {len(self.streams)} video streams ({listed}); {self.stream} was taken, ask for another "
                "with stream"
            )
        if self.second_file_byte is not None:
            found.append(
                f"another file begins at byte {self.second_file_byte} of this one, and it may not have been looked at; "
                "send each by itself"
            )
        return found


def identify(file: Path | BinaryIO, stream: int | None = None) -> Container:
    """Read the headers (milliseconds, whatever the length); a file that is no known container gives `Container()`.

    The file is read in pieces, and no other can be opened by what it says. stream: the number of the video stream to
    speak of, else the one that players take. Raises NoSuchStream.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return identify(opened, stream)
    tracks = _tracks(file)
    if any(track.delay is None for track in tracks if track.track_type == "Video") and any(
        track.delay is not None for track in tracks if track.track_type == "Audio"
    ):
        tracks = _tracks(file, _BEYOND_THE_HEADERS)  # Matroska: the video starts later than the first frames seen
    general = next((track for track in tracks if track.track_type == "General"), None)
    if general is None or general.format is None:
        return Container()
    videos = [track for track in tracks if track.track_type == "Video"]
    streams = _streams(videos)
    chosen = _choose(streams, stream)
    pictures = videos[chosen : chosen + 1] or [track for track in tracks if track.track_type == "Image"]
    found = Container(
        format=general.format,
        kinds=tuple(track.track_type for track in tracks if track.track_type != "General"),
        streams=streams,
        stream=chosen,
        streamable={"Yes": True, "No": False}.get(general.isstreamable),
        truncated=general.istruncated == "Yes",
        second_file_byte=second_file(file),
        has_cover=general.cover == "Yes",
        start_seconds=_start(pictures[0], tracks) if pictures else 0.0,
        **(_picture_facts(pictures[0], general) if pictures else {}),
    )
    return _with_details(found, file)


def _tracks(file: BinaryIO, parse_speed: float = 0.0) -> list[Any]:
    file.seek(0)
    try:
        return MediaInfo.parse(file, parse_speed=parse_speed, buffer_size=_PIECE_BYTES).tracks
    except ParseError:  # a broken file's words can make its XML invalid
        return []


def is_of_pictures(codec: str | None) -> bool:
    """Whether MediaInfo's name (`JPEG`, `V_MJPEG`, `M-GIF`) is of a codec that cover art and thumbnails have."""
    return any(name in (codec or "").upper() for name in _OF_PICTURES)


def _streams(videos: list[Any]) -> tuple[VideoStream, ...]:
    defaults = [track.default != "No" for track in videos]
    return tuple(
        VideoStream(
            codec=track.format,
            width=_number(track.width, int),
            height=_number(track.height, int),
            default=default,
            picture=is_of_pictures(track.format) and not default and any(defaults),
        )
        for track, default in zip(videos, defaults, strict=True)
    )


def _choose(streams: tuple[VideoStream, ...], stream: int | None) -> int:
    """The one asked for; else the first that is marked as default, as players do, and rather a film than a picture."""
    if stream is None:
        defaults = [number for number, found in enumerate(streams) if found.default]
        films = [number for number in defaults if not is_of_pictures(streams[number].codec)]
        return next(iter(films or defaults), 0)
    if not 0 <= stream < max(len(streams), 1):
        listed = ", ".join(f"{number}: {found}" for number, found in enumerate(streams))
        raise NoSuchStream(
            f"the file has no video stream {stream}; it has {listed or 'none'}; leave stream out for the one that "
            "players take",
            value=stream,
            limit=max(len(streams) - 1, 0),
        )
    return stream


def _with_details(container: Container, file: BinaryIO) -> Container:
    """What MP4 and QuickTime boxes, Matroska's elements and the bytes of animated pictures say more exactly."""
    if container.format in ("GIF", "PNG"):
        return replace(container, last_frame_seconds=last_delay_seconds(file))
    if container.format in ("Matroska", "WebM"):
        return replace(
            container,
            orientation=next(islice(orientations(file), container.stream, None), None),
            truncated=container.truncated and not is_live(file),
        )
    if container.format not in ("MPEG-4", "QuickTime"):
        return container
    tracks = video_tracks(file)
    if not container.stream < len(tracks):
        return container
    track = tracks[container.stream]
    return replace(
        container,
        orientation=track.orientation,
        start_seconds=track.start_seconds,
        duration_seconds=track.duration_seconds or container.duration_seconds,
        last_frame_seconds=track.last_sample_seconds,
        is_trimmed=track.is_trimmed,
    )


def _picture_facts(track: Any, general: Any) -> dict[str, Any]:
    return {
        "codec": track.format,
        "codec_profile": track.format_profile,
        "pixel_format": " ".join(filter(None, (track.color_space, track.chroma_subsampling))) or None,
        "bit_depth": _number(track.bit_depth, int),
        "scan": track.scan_type,
        "hdr": _hdr(track),
        "frame_rate_mode": track.frame_rate_mode,
        "num_frames": _number(track.frame_count, int),
        "duration_seconds": _duration(track, general),
        "encryption": track.encryption,
        "width": _number(track.width, int),
        "height": _number(track.height, int),
    }


def _duration(track: Any, general: Any) -> float | None:
    """Matroska's tracks say how long they are in tags alone, to the nanosecond, and those of ASF nowhere; whole
    milliseconds, as MediaInfo has it, are the file's, and so those of a longer sound."""
    is_the_files = general.format in _BY_TAG and isinstance(track.duration, int) and general.count_of_audio_streams
    return None if is_the_files else _seconds(track.duration)


def _start(chosen: Any, tracks: list[Any]) -> float:
    """Of the stream after the earliest of all, by their first timestamps."""
    starts = [_seconds(track.delay) for track in tracks if track.track_type in ("Video", "Audio")]
    first, own = min((start for start in starts if start is not None), default=None), _seconds(chosen.delay)
    return 0.0 if first is None or own is None else round(own - first, 6)


def _hdr(track: Any) -> str | None:
    if track.transfer_characteristics in MAPPED:
        return str(track.transfer_characteristics)
    return str(track.hdr_format) if track.hdr_format else None


def _number(value: object, kind: type[int] | type[float]) -> Any:
    try:
        return kind(value)  # type: ignore[arg-type,call-overload]
    except (TypeError, ValueError):
        return None


def _seconds(milliseconds: object) -> float | None:
    value: float | None = _number(milliseconds, float)
    return None if value is None else value / 1e3
