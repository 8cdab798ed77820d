"""What all commands say, and where: results on stdout, the rest on stderr, and settings that are wrong in words.

Names and messages are never read as rich's markup, and nothing in them is obeyed by a terminal.
"""

from __future__ import annotations

import logging
import tomllib

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError
from rich.console import Console
from rich.text import Text

from service.errors import ReelserveError
from service.names import visible
from service.redaction import scrub_logs
from service.settings import Settings
from service.wording import complaint, unknown

out = Console()
err = Console(stderr=True)


def plain(text: object, style: str = "") -> Text:
    """As it is, in one style; control characters are escaped."""
    return Text(visible(text), style=style)


def say(text: str) -> None:
    """One line on stderr, whatever names are in it."""
    err.print(plain(text), soft_wrap=True)


def complain(error: ReelserveError) -> None:
    """One line: what is wrong, and the remedy."""
    _wrong(error.code, error.detail)


def warn(text: str) -> None:
    """One line, of what was answered all the same."""
    _wrong("warning", text, "yellow")


def log_to_stderr() -> None:
    """Warnings and errors of all libraries; URLs in them have no query."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    scrub_logs()


def read_settings(cli_args: list[str] | None = None) -> Settings:
    """Settings, or a readable line for each that is wrong and exit code 2."""
    try:
        if cli_args is None:
            return Settings()
        return Settings(
            _cli_parse_args=cli_args,
            _cli_prog_name="python -m service serve",
            _cli_kebab_case=True,
            _cli_exit_on_error=False,
        )
    except (FileNotFoundError, tomllib.TOMLDecodeError, SettingsError) as error:
        _wrong("settings", str(error))
        raise typer.Exit(2) from error
    except ValidationError as error:
        for problem in error.errors():
            err.print(_wrong_setting(problem), soft_wrap=True)
        raise typer.Exit(2) from error


def _wrong(what: str, why: str, style: str = "red") -> None:
    err.print(Text.assemble(plain(what, style), ": ", plain(why)), soft_wrap=True)


def _wrong_setting(problem: ErrorDetails) -> Text:
    fields = Settings.model_fields
    alias = str(problem["loc"][0]) if problem["loc"] else ""
    name = "port" if alias in ("PORT", "REELSERVE_PORT") else alias  # the one that has two names
    if problem["type"] == "extra_forbidden":
        return Text.assemble(plain("settings", "red"), ": ", plain(unknown(name, fields, "the file")))
    field = fields.get(name)
    is_secret = field is not None and "Secret" in str(field.annotation)
    words = complaint(name, {**problem, "input": "a secret"} if is_secret else problem, field)
    return Text.assemble(plain("setting", "red"), " ", plain(words))
