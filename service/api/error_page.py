"""/docs/errors: a paragraph for each error, where a problem's `type` leads (RFC 9457, 3.1.1); plain HTML, offline."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from service.errors import ReelserveError, RequestError
from service.jobs.errors import JobError
from service.model_errors import UnknownModel
from service.video.errors import VideoError

PATH = "/docs/errors"
# Branches of the tree are there once they are imported.
assert {VideoError, JobError} <= set(ReelserveError.__subclasses__())  # noqa: S101
assert UnknownModel in RequestError.__subclasses__()  # noqa: S101

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reelserve: errors</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1.1rem; margin: 1.6rem 0 0; }} p {{ margin: 0.2rem 0; }} code {{ font-size: 0.95em; }}
section:target {{ background: #fff3c4; outline: 0.5rem solid #fff3c4; }}
</style>
<h1>Errors</h1>
<p>Each answer that is an error is <code>application/problem+json</code> (RFC 9457): its <code>type</code> leads to a
paragraph of this page, <code>detail</code> says value, limit and remedy, and <code>request_id</code> is the header
<code>X-Request-ID</code>. “The setting” is the one that the paragraph names. <a href="/docs">All routes</a></p>
{sections}
</html>
"""
_SECTION = """<section id="{code}">
<h2><code>{code}</code> · {status} · {title}</h2>
<p>{when}</p>
<p>What to do: {remedy}.</p>
</section>"""


def error_classes(root: type[ReelserveError] = ReelserveError) -> Iterator[type[ReelserveError]]:
    """All that may be sent, as the tree is drawn; `bad_request` is only the root of its branch."""
    if root is not RequestError:
        yield root
    for below in root.__subclasses__():
        if below.__module__.startswith("service."):
            yield from error_classes(below)


def type_of(error: type[ReelserveError]) -> str:
    """URI reference of the paragraph about an error."""
    return f"{PATH}#{error.code}"


def error_page() -> str:
    """All errors, by status."""
    by_status = sorted(error_classes(), key=lambda error: (error.status, error.code))
    return _PAGE.format(sections="\n".join(map(_section, by_status)))


def _section(error: type[ReelserveError]) -> str:
    return _SECTION.format(
        code=error.code, status=error.status, title=html.escape(error.title), when=_inline(error.when()),
        remedy=_inline(error.remedy),
    )  # fmt: skip


def _inline(text: str) -> str:
    """Markdown's code, as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
