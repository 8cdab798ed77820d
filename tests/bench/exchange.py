"""One HTTP/1.1 exchange over a plain socket, with the times that benchmarks ask for.

Cheap, as it shares the server's cores. Reads while it sends, so that an answer that begins before the body's end is
seen when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Exchange:
    """What one request met. Times of `time.perf_counter`; None where it never came to that.

    status: 0 when the connection was lost before the whole answer, and `lost` says how. reusable: the connection may
    carry another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    lost: str
    started: float
    header_sent: float | None
    body_sent: float | None
    first_byte: float | None
    ended: float
    reusable: bool


async def connect(address: tuple[str, int]) -> socket.socket:
    """A connected socket; raises OSError. address: a literal IP address and a port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def exchange(sock: socket.socket, head: bytes, body: bytes, *, finish_body: bool = False) -> Exchange:
    """Send one request and read its whole answer.

    Once an answer is there, the rest of the body is kept back; with `finish_body` it is sent all the same, as by a
    client that reads only when it has written. A connection that breaks while we write is still read to its end.
    """
    answer = _Answer()
    sent = _Sent()
    started = time.perf_counter()
    sending = asyncio.create_task(_send(sock, head, body, sent))
    try:
        lost = await _receive(sock, answer)
        ended = time.perf_counter()
        if finish_body:
            await sending
    finally:
        sending.cancel()
        await asyncio.wait([sending])  # it must let go of the socket
    return Exchange(
        status=0 if lost else answer.status,
        headers=answer.headers,
        body=bytes(answer.body),
        lost=lost,
        started=started,
        header_sent=sent.header,
        body_sent=sent.body,
        first_byte=answer.first_byte,
        ended=ended,
        reusable=not lost and sent.body is not None and answer.keeps_alive,
    )


@dataclass
class _Sent:
    """When the last byte of each part was handed to the kernel."""

    header: float | None = None
    body: float | None = None


async def _send(sock: socket.socket, head: bytes, body: bytes, sent: _Sent) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # the answer may have come before the reset
        await loop.sock_sendall(sock, head)
        sent.header = time.perf_counter()
        await loop.sock_sendall(sock, body)
        sent.body = time.perf_counter()


async def _receive(sock: socket.socket, answer: _Answer) -> str:
    """Feed the answer until it is whole; how the connection was lost, or an empty string."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            piece = await loop.sock_recv(sock, _PIECE_BYTES)
        except OSError as error:
            return type(error).__name__
        if answer.first_byte is None and piece:
            answer.first_byte = time.perf_counter()
        if not piece:
            return "" if answer.ends_at_close() else "closed"
        if answer.feed(piece):
            return ""


@dataclass
class _Answer:
    """An HTTP/1.1 response as its bytes come: RFC 9112, of its body framings all three."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    first_byte: float | None = None
    _unread: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> bool:
        """Whether the answer is whole."""
        self._unread += piece
        while not self.status:
            end = self._unread.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._take_head(bytes(self._unread[:end]).decode("latin-1"))
            del self._unread[: end + 4]
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._take_chunks()
        self.body += self._unread
        self._unread.clear()
        length = self.headers.get("content-length")
        return length is not None and len(self.body) >= int(length)

    def ends_at_close(self) -> bool:
        """Whether the end of the connection is the end of this answer."""
        return bool(self.status) and not {"content-length", "transfer-encoding"} & self.headers.keys()

    @property
    def keeps_alive(self) -> bool:
        return not self.ends_at_close() and self.headers.get("connection", "").lower() != "close"

    def _take_head(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        status = int(first.split(" ", 2)[1])
        if status >= 200:  # an interim answer, such as 100, is not the answer
            self.status = status
            self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _take_chunks(self) -> bool:
        while (end := self._unread.find(b"\r\n")) >= 0:
            size = int(self._unread[:end].split(b";")[0], 16)
            stop = end + 2 + size
            if len(self._unread) < stop + 2:
                return False
            self.body += self._unread[end + 2 : stop]
            del self._unread[: stop + 2]
            if size == 0:
                return True
        return False
