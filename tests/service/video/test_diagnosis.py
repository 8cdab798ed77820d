"""Each reason for a file without a frame, in words and with its code."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from service.video.container import Container
from service.video.diagnosis import explain, no_frame
from service.video.errors import CodecNotSupported, NoDecodableFrame, NotAVideo, NoVideoStream, VideoError

VIDEO = Container(format="MPEG-4", kinds=("Video", "Audio"), codec="AVC")
NOT_OPENED = NotAVideo("no video can be opened in these bytes")
NO_FRAME = no_frame("h264")


@dataclass(frozen=True)
class Case:
    error: VideoError
    container: Container
    words: str | None
    expected: type[VideoError]
    says: str


CASES = {
    "unknown": Case(NOT_OPENED, Container(), None, NotAVideo, "no video can be opened"),
    "archive": Case(NOT_OPENED, Container(format="ZIP"), None, NotAVideo, "the file is ZIP and holds no video"),
    "picture": Case(NOT_OPENED, Container(format="PNG", kinds=("Image",)), None, NotAVideo, "a picture (PNG)"),
    "sound": Case(NOT_OPENED, Container(format="MPEG-4", kinds=("Audio",)), None, NoVideoStream, "holds only sound"),
    "subtitles": Case(NOT_OPENED, Container(format="MPEG-4", kinds=("Text",)), None, NoVideoStream, "holds only Text"),
    "sound-no-index": Case(
        NOT_OPENED, Container(format="MPEG-4"), "moov atom not found", NoDecodableFrame, "send the whole file"
    ),
    "no-codec": Case(NOT_OPENED, replace(VIDEO, codec="RV40"), None, CodecNotSupported, "RV40 in MPEG-4"),
    "codec-that-is-there": Case(NOT_OPENED, VIDEO, None, NoDecodableFrame, "AVC in MPEG-4"),
    "no-decoder": Case(
        NO_FRAME, replace(VIDEO, codec="AV1"), "Your platform doesn't support hardware accelerated AV1 decoding.",
        CodecNotSupported, "AV1 in MPEG-4",
    ),
    "container": Case(
        NOT_OPENED, Container(format="AVC", kinds=("Video",), codec="AVC"), "Format not on whitelist 'mov'",
        CodecNotSupported, "the container",
    ),
    "encrypted": Case(NO_FRAME, replace(VIDEO, encryption="Encrypted"), "missing picture", NoDecodableFrame, "DRM"),
    "encrypted-codec": Case(
        NO_FRAME, replace(VIDEO, codec="AV1", encryption="Encrypted"), "doesn't support", NoDecodableFrame, "DRM"
    ),
    "cut-off": Case(NO_FRAME, replace(VIDEO, truncated=True), "partial file", NoDecodableFrame, "cut off"),
    "broken-headers": Case(
        NOT_OPENED, VIDEO, "contradictionary STSC and STCO", NoDecodableFrame, "are broken (contradictionary"
    ),
    "no-frame": Case(NO_FRAME, VIDEO, "Invalid NAL unit size", NoDecodableFrame, "not one frame"),
    "no-frame-in-a-gif": Case(
        NO_FRAME, Container(format="GIF", kinds=("Image",), codec="GIF"), None, NoDecodableFrame, "not one frame"
    ),
    "media-without-tracks": Case(NO_FRAME, Container(format="MPEG-PS"), None, NoVideoStream, "no track"),
    "no-tracks-but-a-frame-was-tried": Case(NO_FRAME, Container(format="ZIP"), None, NoDecodableFrame, "not one frame"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_explains(case: Case) -> None:
    found = explain(case.error, case.container, case.words)
    assert type(found) is case.expected
    assert case.says in found.detail
