"""Names are data: written so that they lead back, shown so that nothing obeys them, quoted for a shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.names import is_escaped, path_of, shell_word, utf8_path, visible, written

# Whatever Linux lets a file be called, with more of what escapes are made of.
_PIECES = st.sampled_from([b"\\", b"x", b"e9", b"5c", b"\xe9", b"a"])
NAMES = st.one_of(st.binary(min_size=1), st.lists(_PIECES, min_size=1).map(b"".join)).filter(
    lambda name: not {0, ord("/")} & set(name)
)


@given(NAMES)
def test_what_is_written_leads_back(name: bytes) -> None:
    text = written(os.fsdecode(name))
    assert text.encode().decode() == text
    assert os.fsencode(path_of(text)) == name


@given(NAMES, NAMES)
def test_no_two_names_are_written_alike(one: bytes, other: bytes) -> None:
    assert (one == other) == (written(os.fsdecode(one)) == written(os.fsdecode(other)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"caf\xe9.mp4", r"caf\xe9.mp4"),
        (rb"caf\xe9.mp4", r"caf\x5cxe9.mp4"),
        (rb"a\x41 \b \\", r"a\x41 \b \\"),
        ("日本 😀 [/b] %20 ::\n".encode(), "日本 😀 [/b] %20 ::\n"),
        (b"half \xf0\x9f\x98", r"half \xf0\x9f\x98"),
    ],
)
def test_only_what_is_no_utf8_is_escaped(name: bytes, text: str) -> None:
    assert written(os.fsdecode(name)) == text
    assert is_escaped(text) == (text != os.fsdecode(name))


@given(st.text())
def test_nothing_that_is_shown_moves_a_cursor_or_turns_a_line(text: str) -> None:
    assert re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", visible(text)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red] name", "plain [red] name"),
        ("\x1b[31mred\x9b0m", r"\x1b[31mred\x9b0m"),
        ("two\r\nlines\u2028", r"two\r\nlines\u2028"),
        ("invoice_\u202e4pm.exe", r"invoice_\u202e4pm.exe"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("👩\u200d👧 ع\u200cب", "👩\u200d👧 ع\u200cب"),  # joiners are letters' own
    ],
)
def test_what_can_be_shown_is_shown_as_it_is(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_shell_reads_a_quoted_word_back() -> None:
    words = [
        b"a b",
        b"it's",
        b"$HOME`x`",
        b"caf\xe9\\n",
        b"two\nlines'\"",
        b"\x1b[31m7",
        "日本\u202e".encode(),
        b"-x",
        b"!",
    ]
    quoted = " ".join(shell_word(os.fsdecode(word)) for word in words)
    assert visible(quoted) == quoted
    done = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {quoted}"], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == words


def test_a_path_of_utf8_to_any_file(tmp_path: Path) -> None:
    plain, odd = tmp_path / "日本.mp4", Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.MP4"))
    for file in (plain, odd):
        file.write_bytes(b"content")
    with utf8_path(plain) as path:
        assert path == plain
    with utf8_path(odd) as path:
        assert str(path).encode()
        assert (path.read_bytes(), path.suffix) == (b"content", ".MP4")
    assert not path.parent.exists()
    assert odd.exists()
