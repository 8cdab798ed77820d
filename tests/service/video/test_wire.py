"""Messages between service and decoder: nothing is lost on the way, and nothing but data is taken from it."""

from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import errors
from service.errors import ReelserveError
from service.video.limits import DecodeLimits
from service.video.spec import ClipSpec
from service.video.wire import MAX_MESSAGE_BYTES, DecodeRequest, Exit, Fault, Go, Message, Reply

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)


def tree(root: type[ReelserveError] = ReelserveError) -> list[type[ReelserveError]]:
    return [root, *(below for child in root.__subclasses__() for below in tree(child))]


@pytest.mark.parametrize(
    "message",
    [
        DecodeRequest(task="clip", path=Path("/a/b c.mp4"), limits=DecodeLimits(), spec=SPEC, chunk_frames=16),
        DecodeRequest(task="probe", path=Path("/ü.mp4"), limits=DecodeLimits(max_ticks=7), full=True, strict=True),
        Go(segment=2),
        Reply(ticks=[1, 2, 300], ended=True),
        Reply(ticks=[1, 1], seconds=[0.1 + 0.2, 1 / 3]),
        Reply(exit=Exit(status=-9, cpu_seconds=0.25, max_resident_bytes=1 << 31)),
        Reply(fault=Fault(code="too_long", detail="it is", value=1.5, limit=math.inf)),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        message.send(ours)
        assert type(message).parse(theirs.recv(MAX_MESSAGE_BYTES)) == message


def test_an_open_end_stays_open() -> None:
    request = DecodeRequest(task="clip", path=Path("a"), limits=DecodeLimits(), spec=SPEC)
    assert DecodeRequest.parse(request.model_dump_json().encode()).end_seconds == math.inf


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.code)
def test_every_error_keeps_its_class(cls: type[ReelserveError]) -> None:
    codes = [each.code for each in tree()]
    assert len(set(codes)) == len(codes), "a code names one class"
    error = Fault(code=cls.code, detail="words", value=3, limit=2).error()
    assert type(error) is cls
    assert (error.detail, error.value, error.limit) == ("words", 3, 2)


def test_an_unknown_code_is_an_internal_error() -> None:
    assert type(Fault(code="who_knows", detail="words").error()) is errors.ReelserveError


@pytest.mark.parametrize("data", [b"", b"{", b'{"ticks": "x"}', b'{"more": 1}', b'{"report": {}}'])
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(ValidationError):
        Reply.parse(data)
