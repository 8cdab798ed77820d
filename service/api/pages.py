"""What people read: / and /docs lead to all routes, /docs/errors to all errors. All of it works offline."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from service.api import docs_page, error_page
from service.api.methods import Router

router = Router(include_in_schema=False)
_ERRORS = error_page.error_page()


@router.get("/")
async def root() -> RedirectResponse:
    """To the documentation."""
    return RedirectResponse(docs_page.PATH)


@router.get(docs_page.PATH)
async def docs(request: Request) -> HTMLResponse:
    """All routes, to be tried."""
    return HTMLResponse(docs_page.docs_page(request.app.title, request.scope.get("root_path", "")))


@router.get(docs_page.DOCUMENT_PATH)
async def shown(request: Request) -> JSONResponse:
    """What that page shows; generators of clients read /openapi.json."""
    return JSONResponse(docs_page.starting_empty(request.app.openapi()))


@router.get(error_page.PATH)
async def errors() -> HTMLResponse:
    """A paragraph for each error."""
    return HTMLResponse(_ERRORS)
