"""A clip padded to 500 MB by an MP4 `free` box, uploaded multipart and raw: growth of memory, worst /livez latency.

Resident memory is summed over all processes of the server, sampled every 20 ms; limit raised to 1 GiB.
Run: `python -m tests.bench upload`.
"""

from __future__ import annotations

import http.client
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.real_clips import real_clip
from tests.server import serve

MEGABYTE = 1_000_000
PADDED_BYTES = 500 * MEGABYTE
SAMPLE_SECONDS = 0.02


def pad(clip: Path, padded: Path, num_bytes: int) -> Path:
    """Append a `free` box (ISO/IEC 14496-12, 8.1.2) so that the file has `num_bytes`; still the same video."""
    content = clip.read_bytes()
    size = num_bytes - len(content)
    with padded.open("wb") as file:
        file.write(content)
        file.write(struct.pack(">I4s", size, b"free"))
        file.truncate(num_bytes)
    return padded


class Watch:
    """Samples memory and /livez while something runs."""

    def __init__(self, pid: int, url: str) -> None:
        self._root = psutil.Process(pid)
        self._url = httpx.URL(url)
        self._stop = threading.Event()
        self.peak_bytes = 0
        self.livez_seconds: list[float] = []

    def resident_bytes(self) -> int:
        """Summed over the server's process tree."""
        total = 0
        for process in (self._root, *self._root.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample in two threads until the block ends."""
        threads = [threading.Thread(target=self._memory), threading.Thread(target=self._livez)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _memory(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.resident_bytes())

    def _livez(self) -> None:
        connection = http.client.HTTPConnection(self._url.host, self._url.port or 80)
        while not self._stop.wait(SAMPLE_SECONDS):
            started = time.perf_counter()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            self.livez_seconds.append(time.perf_counter() - started)


def send(url: str, path: Path, *, multipart: bool) -> httpx.Response:
    """Upload as a stream."""
    with path.open("rb") as file:
        if multipart:
            return httpx.post(url, files={"video": file}, timeout=300)
        headers = {"Content-Type": "video/mp4", "Content-Length": str(path.stat().st_size)}
        return httpx.post(url, content=iter(lambda: file.read(1 << 20), b""), headers=headers, timeout=300)


def main() -> None:
    """Print one line for each way to upload."""
    clip = real_clip("bikes.mp4")
    with tempfile.TemporaryDirectory() as folder:
        padded = pad(clip, Path(folder) / "padded.mp4", PADDED_BYTES)
        with serve(Path(folder), max_upload_bytes=1 << 30) as server:
            url = f"{server.url}/v1/predict"
            for _ in range(5):  # arenas and caches are at their working size before the measurement
                send(url, clip, multipart=True).raise_for_status()
            for name, multipart in (("multipart", True), ("raw", False)):
                watch = Watch(server.pid, server.url)
                before = watch.resident_bytes()
                with watch.watching():
                    answer = send(url, padded, multipart=multipart)
                answer.raise_for_status()
                timing = answer.json()["timing_ms"]
                growth = (watch.peak_bytes - before) / MEGABYTE
                worst = max(watch.livez_seconds) * 1e3
                print(
                    f"{name}: {PADDED_BYTES // MEGABYTE} MB in {timing['upload'] / 1e3:.1f} s; "
                    f"memory {before / MEGABYTE:.0f} MB, growth {growth:.1f} MB; "
                    f"/livez worst {worst:.1f} ms of {len(watch.livez_seconds)}"
                )


if __name__ == "__main__":
    main()
