"""The load generator against small servers of our own: they answer, refuse early, hang up; the real one is benched."""

from __future__ import annotations

import asyncio
import contextlib
import email.parser
import email.policy
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.bench.load import Answer, Clip, Target, arrivals, clips_of, closed_loop, in_passes, mixed, open_loop, run
from tests.ports import free_port
from tests.real_clips import NAMES

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MEGABYTE = 1_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = json.dumps({"code": "busy"}).encode()
REFUSED = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BUSY), BUSY)
)


def clip(path: Path, num_bytes: int = 1000, kind: str = "short") -> Clip:
    """The generator never looks inside: any bytes will do."""
    path.write_bytes(bytes(num_bytes))
    return Clip.of(path, kind)


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[Target]:
    """A server whose handler gets every connection; it ends when the block does."""

    handlers: set[asyncio.Task[None]] = set()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            handlers.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handle(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Target("small", f"http://127.0.0.1:{port}", timeout_seconds=20)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body; IncompleteReadError when the client has gone."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head, await reader.readexactly(length)


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a server that dies with unread bytes does."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def closed(handle: Handler, clips: list[Clip], **options: object) -> list[Answer]:
    """A short closed loop of one client against a handler."""

    async def load() -> list[Answer]:
        async with serving(handle) as target:
            target = Target(target.name, target.url, **options)  # type: ignore[arg-type]
            return await closed_loop(target, clips, concurrency=1, seconds=0.01, seed=1)

    return run(load()).answers


def test_the_body_is_a_form_with_the_file(tmp_path: Path) -> None:
    heads: list[bytes] = []
    bodies: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await read_request(reader)
        heads.append(head)
        bodies.append(body)
        writer.write(OK)

    closed(keep, [clip(tmp_path / "a.mp4", 300_000)])
    request, headers = heads[0].split(b"\r\n", 1)
    assert request == b"POST /v1/predict HTTP/1.1"
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(headers + bodies[0])
    (part,) = form.iter_parts()
    assert part.get_filename() == "a.mp4"
    assert part.get_param("name", header="content-disposition") == "video"
    assert part.get_payload(decode=True) == bytes(300_000)


def test_a_closed_loop_keeps_its_clients_busy_and_no_more(tmp_path: Path) -> None:
    clips = [clip(tmp_path / f"{index}.mp4") for index in range(5)]
    connections, at_once, most = 0, 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, at_once, most
        connections += 1
        while True:
            await read_request(reader)
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.02)
            at_once -= 1
            writer.write(OK)

    async def load() -> list[Answer]:
        async with serving(slow) as target:
            return await closed_loop(target, clips, concurrency=3, seconds=0.3, seed=7)

    done = run(load())
    answers = done.answers
    assert {answer.status for answer in answers} == {200}
    assert most == 3
    assert connections == 3, "each client keeps its connection"
    assert [answer.clip for answer in answers] == [one.name for one in islice(in_passes(clips, 7), len(answers))]
    assert all(answer.scheduled == answer.started for answer in answers)
    assert all(answer.seconds >= 0.02 for answer in answers)
    assert all(one.body_wait_seconds is not None and 0.02 <= one.body_wait_seconds <= one.seconds for one in answers)
    assert 0 < done.cpu_seconds < done.seconds


def test_arrivals_are_poisson_and_seeded(tmp_path: Path) -> None:
    clips = [clip(tmp_path / "a.mp4")]
    due = [arrival.at for arrival in arrivals(clips, rate=50, seconds=200, seed=3)]
    assert due == [arrival.at for arrival in arrivals(clips, rate=50, seconds=200, seed=3)]
    assert due != [arrival.at for arrival in arrivals(clips, rate=50, seconds=200, seed=4)]
    gaps = np.diff([0.0, *due])
    assert due[-1] < 200
    # Standard errors of 10 000 exponential gaps: 1 % of the mean, 1.4 % of the deviation; five of them.
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.07)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=0.05)


def test_kinds_come_by_their_weights_and_each_clip_alike(tmp_path: Path) -> None:
    clips = [clip(tmp_path / f"{kind}{index}.mp4", kind=kind) for kind in ("short", "long") for index in range(3)]
    drawn = list(islice(mixed({"short": 95, "long": 5})(clips, 1), 4000))
    assert np.mean([one.kind == "long" for one in drawn]) == pytest.approx(0.05, abs=0.02)
    counts = [sum(one.name == f"short{index}.mp4" for one in drawn) for index in range(3)]
    assert max(counts) - min(counts) <= 1
    with pytest.raises(ValueError, match="no clip of kind film"):
        next(mixed({"film": 1})(clips, 1))


def test_an_open_loop_waits_for_no_answer(tmp_path: Path) -> None:
    """The server answers only when all have arrived: a generator that waited would never end."""
    clips = [clip(tmp_path / "a.mp4")]
    expected = len(arrivals(clips, rate=100, seconds=0.3, seed=5))
    arrived = 0
    all_there = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while True:
            await read_request(reader)
            arrived += 1
            if arrived == expected:
                all_there.set()
            await all_there.wait()
            writer.write(OK)

    async def load() -> list[Answer]:
        async with serving(hold) as target:
            return await open_loop(target, clips, rate=100, seconds=0.3, seed=5)

    answers = run(load()).answers
    assert [answer.status for answer in answers] == [200] * expected
    assert all(one.scheduled < next_one.scheduled for one, next_one in pairwise(answers))
    assert all(answer.started >= answer.scheduled for answer in answers)
    assert all(answer.latency_seconds >= answer.seconds for answer in answers)
    assert answers[0].latency_seconds > answers[-1].latency_seconds, "the first waited for the last"


@pytest.mark.parametrize("finish_body", [False, True])
def test_an_answer_that_begins_before_the_bodys_end(tmp_path: Path, finish_body: bool) -> None:
    read = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSED)
        while piece := await reader.read(MEGABYTE):
            read += len(piece)
            if finish_body and read >= 20 * MEGABYTE:
                return

    (answer, *_) = closed(refuse, [clip(tmp_path / "a.mp4", 20 * MEGABYTE)], finish_body=finish_body)
    assert (answer.status, answer.code, answer.body) == (429, "busy", BUSY)
    assert answer.body_wait_seconds is None
    assert answer.header_wait_seconds is not None
    assert (read >= 20 * MEGABYTE) is finish_body


def test_a_refusal_with_a_reset_behind_it_is_still_read(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    (answer, *_) = closed(refuse, [clip(tmp_path / "a.mp4", 10_000)])
    assert answer.status == 413
    assert answer.code == ""


@pytest.mark.parametrize("sent_first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"])
def test_a_lost_connection_is_status_0(tmp_path: Path, sent_first: bytes) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent_first)
        await writer.drain()
        reset(writer)

    (answer, *_) = closed(die, [clip(tmp_path / "a.mp4")])
    assert answer.status == 0
    assert answer.lost in {"ConnectionResetError", "closed"}


def test_no_answer_in_time_and_nobody_there_are_status_0(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    clips = [clip(tmp_path / "a.mp4")]
    (answer, *_) = closed(silent, clips, timeout_seconds=0.05)
    assert (answer.status, answer.lost) == (0, "TimeoutError")
    port = free_port()
    nobody = Target("nobody", f"http://127.0.0.1:{port}")
    (answer, *_) = run(closed_loop(nobody, clips, concurrency=1, seconds=0.01, seed=1)).answers
    assert (answer.status, answer.lost) == (0, "ConnectionRefusedError")


def test_an_idle_connection_that_was_closed_costs_no_answer(tmp_path: Path) -> None:
    """The second request of a connection is never answered: the client takes a new one, as all clients do."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)

    async def load() -> list[Answer]:
        async with serving(once) as target:
            return await closed_loop(target, [clip(tmp_path / "a.mp4")], concurrency=1, seconds=0.1, seed=1)

    answers = run(load()).answers
    assert len(answers) > 1
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabcde",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=["chunked", "until the close", "interim"],
)
def test_every_framing_of_an_answer(tmp_path: Path, answer: bytes) -> None:
    async def byte_by_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for value in answer:
            writer.write(bytes([value]))
            await writer.drain()
            await asyncio.sleep(0)

    (got, *_) = closed(byte_by_byte, [clip(tmp_path / "a.mp4")])
    assert (got.status, got.body) == (200, b"abcde")


def test_load_goes_to_this_machine_alone() -> None:
    with pytest.raises(ValueError, match="this machine alone"):
        _ = Target("other", "http://192.0.2.1:80").address


def test_without_the_data_the_packages_clips_are_used(tmp_path: Path) -> None:
    assert sorted(one.name for one in clips_of(tmp_path)) == sorted(NAMES)


def test_a_phase_has_one_arrival_at_least(tmp_path: Path) -> None:
    """Chance has none in most phases of a thousandth of an arrival; none would measure nothing."""
    (tmp_path / "a").write_bytes(b"x")
    [arrival] = arrivals([Clip.of(tmp_path / "a", "a")], 0.001, 2.0, seed=0)
    assert arrival.at == 1.0
