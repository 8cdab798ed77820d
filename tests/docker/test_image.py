"""What can be known of the image without building it; docker/check.sh builds and runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COPIED = re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE, re.MULTILINE)
SENT = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
BENTOFILE = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
PACKED = [pattern.strip("/").removesuffix("/**") for pattern in BENTOFILE["include"]]


@pytest.mark.parametrize("name", [*COPIED, *SENT, *PACKED, BENTOFILE["python"]["requirements_txt"]])
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_engine_is_sent_what_is_copied_and_no_more() -> None:
    assert sorted(COPIED) == sorted(SENT)
    assert COPIED


def test_bento_names_the_service() -> None:
    assert BENTOFILE["service"] == "service.app:VideoService"


@contextmanager
def readyz(status: int) -> Iterator[int]:
    """A server on loopback that answers GET /readyz with `status`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"why")

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  (http.server's name)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def healthcheck(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PORT", "REELSERVE_PORT")}
    return subprocess.run(
        [sys.executable, ROOT / "docker" / "healthcheck.py"],
        env={**kept, **environment}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("others", [{}, {"PORT": "1"}], ids=["alone", "over PORT"])
def test_healthcheck_asks_reelserve_port(others: dict[str, str]) -> None:
    with readyz(200) as port:
        assert healthcheck(REELSERVE_PORT=str(port), **others).returncode == 0


def test_healthcheck_asks_port() -> None:
    with readyz(200) as port:
        assert healthcheck(PORT=str(port)).returncode == 0


def test_healthcheck_fails_with_the_reason_when_not_ready() -> None:
    with readyz(503) as port:
        check = healthcheck(PORT=str(port))
    assert (check.returncode, check.stdout) == (1, f"port {port}: 503 why\n")


def test_healthcheck_fails_when_nothing_listens() -> None:
    with readyz(200) as port:
        pass
    check = healthcheck(PORT=str(port))
    assert check.returncode == 1
    assert "refused" in check.stdout
