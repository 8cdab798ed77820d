"""Fixtures that many tests share: one server and one set of clips a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import hypothesis
import pytest

from service.bundle import ModelDocument
from tests.drawn import Drawn, draw
from tests.server import MIB, Server, serve
from tests.zoo import DOCUMENT, MODEL

# Other tests run beside: no wall-clock time is a reason to fail, and threads of torch that wait for one another cost.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


MAX_UPLOAD_BYTES = 4 * MIB
SPOOL_QUOTA_BYTES = 6 * MIB
MAX_REQUESTS_IN_FLIGHT = 12


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the zoo, ready, with limits that a test can reach."""
    with serve(
        tmp_path_factory.mktemp("server"),
        default_model=MODEL,
        feature_cache_bytes=0,  # many tests send one clip, each for an answer that is computed
        max_upload_bytes=MAX_UPLOAD_BYTES,
        spool_quota_bytes=SPOOL_QUOTA_BYTES,
        max_requests_in_flight=MAX_REQUESTS_IN_FLIGHT,
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def document() -> ModelDocument:
    """model.json of the shared server's model."""
    return DOCUMENT


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """50 frames at 25 a second: 2 s, shorter than a window."""
    return draw(tmp_path_factory.mktemp("clips") / "short.mp4", b_frames=2)


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """263 frames at 25 a second: 10.52 s, many windows and a remainder."""
    return draw(tmp_path_factory.mktemp("clips") / "long.mp4", num_frames=263, width=160, height=120)
