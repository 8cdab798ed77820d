"""What all commands say, and where: results on stdout, the rest on stderr, and settings that are wrong in words.

Names and messages are never read as rich's markup, and nothing in them is obeyed by a terminal.
"""

from __future__ import annotations

import logging
import tomllib

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from service.errors import ReelserveError
from service.names import visible
from service.redaction import scrub_logs
from service.settings import Settings

_SECRETS = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]

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
        )
    except (FileNotFoundError, tomllib.TOMLDecodeError) as error:
        _wrong("settings", str(error))
        raise typer.Exit(2) from error
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"]))
            # The input of what is wrong with several settings is all of them, secrets too.
            got = "" if name in ("", *_SECRETS) else f" (got {problem['input']!r})"
            said = problem["msg"].removeprefix("Value error, ")
            _wrong(f"setting {name}" if name else "settings", f"{said}{got}")
        raise typer.Exit(2) from error


def _wrong(what: str, why: str) -> None:
    err.print(Text.assemble(plain(what, "red"), ": ", plain(why)), soft_wrap=True)
