"""What people read: / and /docs lead to all routes, /docs/errors to all errors. All of it works offline."""

from __future__ import annotations

from fastapi.responses import HTMLResponse, RedirectResponse

from service.api import error_page
from service.api.methods import Router

router = Router(include_in_schema=False)
_ERRORS = error_page.error_page()


@router.get("/")
async def root() -> RedirectResponse:
    """To the documentation."""
    return RedirectResponse("/docs")


@router.get(error_page.PATH)
async def errors() -> HTMLResponse:
    """A paragraph for each error."""
    return HTMLResponse(_ERRORS)
