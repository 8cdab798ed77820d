"""What commands say on a terminal: names as they are, whatever they look like to it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from service import terminal
from service.errors import NoFile
from service.terminal import complain, plain, say, warn

NAME = "[red]a[/b] :smile: \\[x] \x1b[31m\u202e.mp4"
SHOWN = "[red]a[/b] :smile: \\[x] \\x1b[31m\\u202e.mp4"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Of a terminal that knows colours, and is narrow."""
    text = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=text, force_terminal=True, width=20, _environ={"TERM": "xterm"}))
    return text


def test_a_complaint_is_one_line_with_all_names_as_they_are(screen: io.StringIO) -> None:
    complain(NoFile(f"{NAME} is\nnot a file"))
    assert screen.getvalue() == f"\x1b[31mno_file\x1b[0m: {SHOWN} is\\nnot a file\n"


def test_a_warning_is_one_line_too(screen: io.StringIO) -> None:
    warn(f"{NAME}: odd")
    assert screen.getvalue() == f"\x1b[33mwarning\x1b[0m: {SHOWN}: odd\n"


def test_whatever_else_is_said(screen: io.StringIO) -> None:
    say(f"done; {NAME} 12")
    assert screen.getvalue() == f"done; {SHOWN} 12\n"


def test_plain_text_has_one_style() -> None:
    assert plain(NAME, "bold").plain == SHOWN
    assert plain(NAME, "bold").spans == []
