"""The FastAPI app: routes, error format, offline documentation."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from service.api import docs_page, error_page, health, jobs, models, openapi, pages, predict, probe, problems
from service.api.context import RequestContext
from service.api.cors import Cors
from service.api.declared import check_names
from service.api.job_status import webhook_body
from service.jobs.service import Jobs
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool

VERSION = "0.1.0"
_METHODS = ("GET", "HEAD", "POST", "DELETE")
# What a page's script may read beside what it always may.
_EXPOSED = ("X-Request-ID", "Retry-After", "Server-Timing", "Location", "Link", "Allow", "Content-Disposition")


def create_app(settings: Settings) -> FastAPI:
    """The app, its models not yet loaded: `app.state.serving.start()` does that."""
    app = FastAPIOffline(
        title="Reelserve",
        version=VERSION,
        summary="Video understanding: clips in, labels with scores and times out.",
        description=f"Every error is a problem (RFC 9457); [all of them, with what to do]({error_page.PATH}).",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # ours is in `pages`
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # of the function: `predict`, `create_job`
        static_url=docs_page.ASSETS_PATH,
    )
    app.state.serving = Serving(settings)
    app.state.spool = Spool(settings.spool_dir, settings.spool_quota_bytes, settings.max_upload_bytes)
    app.state.jobs = Jobs(settings, app.state.serving, app.state.spool, webhook_body)
    app.add_middleware(RequestContext)
    if origins := settings.cors_allowed_origins():  # around all else: errors have its headers too
        app.add_middleware(
            Cors,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=("*",),  # also what a proxy before us asks for, such as Authorization
            expose_headers=_EXPOSED,
        )
    problems.install(app)
    for resource in (predict, jobs, probe, models, health):
        app.include_router(resource.router, dependencies=[Depends(check_names)])
    app.include_router(pages.router)
    openapi.describe(app)
    return app
