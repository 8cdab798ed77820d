"""The BentoML service. BentoML hosts, packages and supervises; the FastAPI app before it owns the paths."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml._internal.server.http import traffic
from bentoml.validators import ContentType
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http import httptools_impl

from service.errors import BundleError
from service.redaction import scrub_logs
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

SETTINGS = Settings()


@functools.cache
def http_app() -> FastAPI:
    """The app, made by whom it answers for: BentoML's supervisor reads this module too, and would wait for it."""
    from service.api.http import create_app

    return create_app(SETTINGS)


# All that BentoML's own app answers. The rest is ours, before it: it would answer the three health paths itself,
# read uploads to /predict whole into memory (fetching an address that stands in place of a file), and say
# 404 in plain text.
BENTOML_PATHS = frozenset({"/docs.json", "/schema.json"})


# How long a thread may keep the event loop from the interpreter; Python's 5 ms add up where many threads work.
_SWITCH_SECONDS = 0.0005


# Of a body, what uvicorn takes before it waits for us. With its 64 KiB a body of 5 MB comes in 80 pieces, each through
# the middlewares of BentoML. Twice that is enough: with eight times, 60 uploads that come at once fill every turn.
_READ_AHEAD_BYTES = 128 * 1024
httptools_impl.HIGH_WATER_LIMIT = _READ_AHEAD_BYTES  # type: ignore[attr-defined]


class OwnPaths:
    """Pure ASGI: send every path but `BENTOML_PATHS` to our app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = scope["type"] == "http" and scope["path"] not in BENTOML_PATHS
        await (http_app() if own else self.app)(scope, receive, send)


class NoTimer:
    """In place of BentoML's TimeoutMiddleware, whose timers nobody cancels: at 10 requests a second for the 24 hours
    that `traffic.timeout` would have to be, 864 000 of them. Uploads and answers have deadlines of ours."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:  # noqa: ARG002  (as BentoML calls it)
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


traffic.TimeoutMiddleware = NoTimer  # type: ignore[misc,assignment]


def prepare() -> None:
    """Before models load, in the thread that loads them: what it raises is said on /readyz."""
    http_app().state.spool.sweep()
    http_app().state.jobs.start()
    # BentoML tells the service its bento only after it has imported this module.
    http_app().state.serving.registry.bento_model = SETTINGS.bento_model or packed_model()


# Of the grace of a shutdown, what is left to tell those that won't be done in it.
_LAST_ANSWERS_SECONDS = 1.0


def answer_before_the_end(number: signal.Signals) -> None:
    """When the grace ends the server cuts off whoever waits. Shortly before, clips in progress get their 503."""
    end = signal.getsignal(number)

    def on_signal(received: int, frame: FrameType | None) -> None:
        grace = SETTINGS.shutdown_seconds
        stopping = threading.Timer(
            max(grace - _LAST_ANSWERS_SECONDS, grace / 2), http_app().state.serving.shared.stopping.set
        )
        stopping.daemon = True
        stopping.start()
        threading.Thread(target=http_app().state.jobs.stop, daemon=True).start()  # it takes locks
        if callable(end):
            end(received, frame)

    signal.signal(number, on_signal)


def packed_model() -> str | None:
    """Tag of the model that the served bento names under `models:`, where settings name none.

    Raises BundleError when it names several: one of them has to be chosen.
    """
    bento = VideoService.bento  # type: ignore[attr-defined]
    if bento is None or "models_dir" in SETTINGS.model_fields_set:
        return None
    tags = [str(model.tag) for model in bento.info.all_models if model.registry == "bentoml"]
    if len(tags) > 1:
        raise BundleError(f"the bento names {len(tags)} models ({', '.join(tags)}); set REELSERVE_BENTO_MODEL to one")
    return tags[0] if tags else None


@bentoml.service(
    name="video_service",
    workers=1,
    metrics={"enabled": False},  # its series are labelled by raw path; ours are at /metrics
)
class VideoService:
    """Classifies uploaded clips."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def start(self) -> None:
        """Nothing answers while this runs: models load in the background."""
        logging.basicConfig(
            level=SETTINGS.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        scrub_logs()  # BentoML's and uvicorn's handlers, which are there before ours
        logging.getLogger("service").setLevel(SETTINGS.log_level)
        sys.setswitchinterval(_SWITCH_SECONDS)
        for number in (signal.SIGTERM, signal.SIGINT):
            answer_before_the_end(number)
        http_app().state.serving.start(prepare=prepare)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """After the grace of shutdown_seconds: what still runs stops between chunks."""
        http_app().state.jobs.close()
        http_app().state.serving.close()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, video: Annotated[Path, ContentType("video/*")]) -> dict[str, Any]:
        """For BentoML's own client. Over HTTP, `OwnPaths` gives this path to the streaming route of `/v1/predict`."""
        from service.bundle import file_sha256
        from service.pipeline import ClipRequest

        serving = http_app().state.serving
        clip = ClipRequest(video, await asyncio.to_thread(file_sha256, video))
        [prediction] = await asyncio.get_running_loop().run_in_executor(
            serving.pool, serving.predict, clip, [serving.model(None)]
        )
        answer: dict[str, Any] = prediction.model_dump(mode="json")
        return answer


# The decorator made it a bentoml Service.
VideoService.add_asgi_middleware(OwnPaths)  # type: ignore[attr-defined]
