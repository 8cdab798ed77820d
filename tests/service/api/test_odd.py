"""Odd files and mutants, all at once, at a real server: an answer for each, and nothing left of any."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import httpx
import psutil
import pytest

from service.settings import available_cores
from service.video.errors import TooShort
from tests.fuzz import odd
from tests.fuzz.holdings import memory_files
from tests.fuzz.mutate import mutant
from tests.fuzz.sources import ODD, odd_files, sources
from tests.server import MIB, Server, problem, serve, wait_until
from tests.zoo import MODEL

CLIENTS, TIMES, MUTANTS, SEED = 16, 2, 120, 11
# The second time only its beginning: the films among them would keep the encoder busy for minutes.
PATHS = ("/v1/predict?end_seconds=4", "/v1/predict?end_seconds=1")
# Connections and pools that a server keeps for the next ones.
KEPT_DESCRIPTORS = 2 * CLIENTS


@dataclass(frozen=True)
class Upload:
    """A file to send, and the result that odd.csv has for it, if it is there."""

    name: str
    data: bytes
    result: str | None = None


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, as nothing else may hold its descriptors."""
    with serve(
        tmp_path_factory.mktemp("busy"),
        default_model=MODEL,
        max_upload_bytes=64 * MIB,
        max_requests_in_flight=4 * CLIENTS,
        max_clips_in_progress=CLIENTS,
        feature_cache_bytes=0,
        max_decode_stall_seconds=60,
        max_decode_memory_bytes=512 * MIB,
    ) as running:
        yield running


def uploads(source: str) -> Sequence[Upload]:
    if source == "odd":
        table = odd.read()
        return [Upload(name, (ODD / name).read_bytes(), table[name].result) for name in odd_files()]
    corpus = sources()
    broken = [mutant(SEED, number, corpus) for number in range(MUTANTS)]
    return [Upload(f"{one.number}, {one.about}", one.data) for one in broken]


@pytest.mark.parametrize(
    "source",
    [
        "mutants",
        pytest.param("odd", marks=pytest.mark.skipif(not odd_files(), reason="../shared/data/odd is not here")),
    ],
)
def test_all_at_once(busy: Server, source: str) -> None:
    files = uploads(source)
    work = [(file, path) for file in files for path in PATHS[:TIMES]]
    random.Random(SEED).shuffle(work)
    with busy.client() as client:
        for _ in range(3):  # what is opened once
            client.post(PATHS[0], content=sources()[1].data, headers={"Content-Type": "video/mp4"})
    before = processes(busy)
    descriptors, _ = held(busy)
    with alive(busy), ThreadPoolExecutor(CLIENTS) as threads:
        found = [complaint for complaint in threads.map(lambda each: send(busy, *each), work) if complaint]
    assert found == []
    busy.assert_spool_is_empty()
    wait_until(lambda: processes(busy) == before, f"the processes to be {before} again")
    wait_until(lambda: len(tree(busy, idle=True)) <= available_cores(), "one idle decoder a core, at most")
    wait_until(lambda: held(busy)[0] <= descriptors + KEPT_DESCRIPTORS, f"{descriptors} descriptors, or about so many")
    wait_until(lambda: held(busy)[1] == 0, "the segments of all clips to be freed")


def send(server: Server, file: Upload, path: str) -> str | None:
    """What is wrong with the answer."""
    with server.client() as client:
        answer = client.post(path, content=file.data, headers={"Content-Type": "video/mp4"})
    try:
        result = result_of(answer)
    except (AssertionError, KeyError, ValueError) as error:
        return f"{file.name}: {error}"
    # The table was made without a model, whose windows may need more frames.
    expected = (file.result,) if file.result != "ok" else ("ok", TooShort.code)
    return f"{file.name}: {result}, not {file.result}" if file.result and result not in expected else None


def result_of(answer: httpx.Response) -> str:
    """`ok`, or the code of a problem that is the client's."""
    if answer.status_code == 200:
        body = answer.json()
        assert body["predictions"]
        assert body["receipt"]["frames_used"] >= 1
        return "ok"
    assert 400 <= answer.status_code < 500, answer.text
    code: str = answer.json()["code"]
    problem(answer, answer.status_code, code)
    return code


@contextmanager
def alive(server: Server) -> Iterator[None]:
    """/livez answers 200 all the while, on a connection of its own."""
    stop, statuses, asked = threading.Event(), set[int](), count(1)

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                statuses.add(client.get("/livez").status_code)
                next(asked)
                stop.wait(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()
    assert statuses == {200}
    assert next(asked) > 2


def tree(server: Server, *, idle: bool = False) -> list[psutil.Process]:
    """Its processes without those that wait for a video, or only those (idle)."""
    root = psutil.Process(server.pid)
    found = []
    for process in [root, *root.children(recursive=True)]:
        try:
            if (process.name() == "decoder-idle") == idle:
                found.append(process)
        except psutil.NoSuchProcess:  # a decoder that just ended
            continue
    return found


def processes(server: Server) -> list[tuple[int, float, str]]:
    """Each process of the server: a decoder that is left is one more, one that was replaced another."""
    found = []
    for process in tree(server):
        try:
            found.append((process.pid, process.create_time(), process.name()))
        except psutil.NoSuchProcess:  # a decoder that just ended
            continue
    return sorted(found)


def held(server: Server) -> tuple[int, int]:
    """Open descriptors, and memfds among them, of all its processes."""
    descriptors = memory = 0
    for process in tree(server):
        try:
            descriptors += process.num_fds()
            memory += memory_files(process.pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
    return descriptors, memory
