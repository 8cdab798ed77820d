"""Messages between the service and its decode processes: JSON over a Unix socket, never pickle.

One socket a video. The service sends `Go`, a turn to decode and where its frames go; the decoder answers with
one `Reply`. Whatever ends the decoder, its parent (the zygote) sends a last `Reply` with the exit status.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from service.errors import ReelserveError
from service.give_way import NICE
from service.video.container import Container
from service.video.facts import ProbeFacts
from service.video.limits import DecodeLimits
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

# A message of a turn with the longest chunk, or a report with long warnings, has a few KiB.
MAX_MESSAGE_BYTES = 256 * 1024
# What the zygote says once it can fork.
READY = b"ready"


class Message(BaseModel):
    """Frozen, strict about names; infinity and NaN survive the trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def send(self, channel: socket.socket, descriptors: list[int] | None = None) -> None:
        """Send as one packet, with open files (SCM_RIGHTS). Raises OSError when the other side is gone."""
        data = self.model_dump_json(exclude_defaults=True).encode()
        socket.send_fds(channel, [data], descriptors or [])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises pydantic.ValidationError."""
        return cls.model_validate_json(data)


class DecodeRequest(Message):
    """One video for a new decode process. `clip` gives frames by the spec, `probe` facts.

    stream: which of the file's video streams. chunk_frames: frames of one shared segment. full: the probe walks the
    whole video. nice: of its process, which takes videos of this value only.
    """

    task: Literal["clip", "probe"]
    path: Path
    limits: DecodeLimits
    spec: ClipSpec | None = None
    start_seconds: float = 0.0
    end_seconds: float = float("inf")
    stream: int | None = None
    strict: bool = False
    chunk_frames: int = 1
    full: bool = False
    nice: int = NICE


class Go(Message):
    """A turn; its frames go to this segment. The first also opens the video."""

    segment: int = 0


class Fault(Message):
    """An error of ours by its code, or an unexpected one as `internal` with its trace for the log."""

    code: str
    detail: str
    value: float | int | str | None = None
    limit: float | int | str | None = None
    trace: str = ""

    def error(self) -> ReelserveError:
        """The error of the tree that has this code."""
        return _class_of(self.code)(self.detail, value=self.value, limit=self.limit)


class Exit(Message):
    """How the process ended: exit code, or minus the signal; CPU seconds and peak resident memory."""

    status: int
    cpu_seconds: float
    max_resident_bytes: int


class Reply(Message):
    """The answer to a turn: of each frame in the segment its ticks and, where frames are the ticks, its time.

    cpu_seconds: of this video, so far. reusable: the process takes another video.
    """

    ticks: list[int] = []
    seconds: list[float] = []
    ended: bool = False
    container: Container | None = None
    open_seconds: float = 0.0
    cpu_seconds: float = 0.0
    reusable: bool = False
    report: DecodeReport | None = None
    facts: ProbeFacts | None = None
    fault: Fault | None = None
    exit: Exit | None = None


def _class_of(code: str, tree: type[ReelserveError] = ReelserveError) -> type[ReelserveError]:
    found = [cls for cls in _all(tree) if cls.code == code]
    return found[0] if found else ReelserveError


def _all(tree: type[ReelserveError]) -> list[type[ReelserveError]]:
    return [tree, *(below for cls in tree.__subclasses__() for below in _all(cls))]
