"""The FastAPI app: routes, error format, offline documentation."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from service.api import health, jobs, models, predict, probe, problems
from service.api.context import RequestContext
from service.api.declared import check_names
from service.jobs.service import Jobs
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool

VERSION = "0.1.0"


def create_app(settings: Settings) -> FastAPI:
    """The app, its models not yet loaded: `app.state.serving.start()` does that."""
    app = FastAPIOffline(
        title="Reelserve",
        version=VERSION,
        summary="Video understanding: clips in, labels with scores and times out.",
        redoc_url=None,
        static_url="/docs/assets",
    )
    app.state.serving = Serving(settings)
    app.state.spool = Spool(settings.spool_dir, settings.spool_quota_bytes, settings.max_upload_bytes)
    app.state.jobs = Jobs(settings, app.state.serving, app.state.spool, jobs.webhook_body)
    app.add_middleware(RequestContext)
    problems.install(app)
    for resource in (predict, jobs, probe, models, health):
        app.include_router(resource.router, dependencies=[Depends(check_names)])

    described = app.openapi

    def without_fastapis_422() -> dict[str, Any]:
        schema = described()
        for operation in (operation for path in schema["paths"].values() for operation in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema

    app.openapi = without_fastapis_422  # type: ignore[method-assign]

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app
