"""A web server on loopback that says what a test has written, byte by byte, and remembers what it was asked, raw."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# Steps of a script that are no answer.
RESET = b"reset"  # the connection is reset once the request is there
HANG_UP = b"hang up"  # it is closed


def answer(status: int, body: bytes = b"", *, cut: int = 0, **headers: object) -> bytes:
    """A whole answer; `retry_after=1` is a header. cut: bytes of the body that never come."""
    said = {"content-length": len(body), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return head.encode() + b"\r\n" + body[: len(body) - cut]


@dataclass
class Scripted:
    """script: answers to come, one a request; the last one for good. of: answers of requests whose line has a word.

    asked: first lines of requests.
    """

    url: str = ""
    script: list[bytes] = field(default_factory=lambda: [answer(200)])
    of: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Start it, and stop it. tls: it speaks https then."""
    found, stopping = Scripted(), threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    found.url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(10)
        with tls.wrap_socket(connection, server_side=True) if tls else connection as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := connection.recv(65536)):
                    return
                head += data
            with lock:
                found.asked.append(head.partition(b"\r\n")[0])
                found.heads.append(head)
                step = next((step for word, step in found.of.items() if word in found.asked[-1]), b"")
                if not step:
                    step = found.script.pop(0) if len(found.script) > 1 else found.script[0]
            if step == RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif step != HANG_UP:
                connection.sendall(step.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head[:5] == b"HEAD " else step)

    def served(connection: socket.socket) -> None:
        with suppress(OSError):  # who has seen enough goes away
            serve(connection)

    def accept() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            threading.Thread(target=served, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join()
        listening.close()
