"""A real PostgreSQL for tests, where Debian's package is installed: a cluster of its own, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.server import DEADLINE_SECONDS

_USER = "postgres"  # PostgreSQL refuses to run as root; the package makes this user


def binaries() -> Path | None:
    """Folder of the newest version's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


needs_postgres = pytest.mark.skipif(
    binaries() is None, reason="PostgreSQL is not installed here (Debian's package postgresql); .ci/run installs it"
)


@contextmanager
def postgres() -> Iterator[str]:
    """Start it, give its SQLAlchemy URL, stop it."""
    programs = binaries()
    assert programs is not None
    port = free_port()
    user = _USER if os.geteuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="reelserve-postgres-"))  # pytest's folders are for one user only
    if user:
        shutil.chown(data, user)

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments],
            user=user, cwd=data, env={"LC_ALL": "C", "PATH": os.defpath}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=DEADLINE_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    call(
        "initdb",
        "--pgdata",
        str(data / "data"),
        "--username",
        "test",
        "--auth",
        "trust",
        "--encoding",
        "UTF8",
        "--no-sync",
    )
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
    control = ("--pgdata", str(data / "data"), "--wait")
    call("pg_ctl", "start", *control, "--log", str(data / "log"), "--options", options)
    try:
        yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "stop", *control, "--mode", "immediate")
        shutil.rmtree(data)
