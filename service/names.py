"""Names as data: any text, and on this machine any bytes, wherever a name is written down or shown.

A file's name is bytes, and rows are UTF-8. What is no UTF-8 is written as `\\xe9`, and a backslash that would read as
such as `\\x5c`: so no two names are written alike, and `path_of` finds the file again.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes below 0x80 are always UTF-8, so that no other escapes are written, and none are read.
_TO_ESCAPE = re.compile(r"[\udc80-\udcff]|\\(?=x(?:[89a-f][0-9a-f]|5c))")
_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")
# Directions of writing that a name could turn over (Trojan Source, CVE-2021-42574).
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}


def written(path: str | Path) -> str:
    """A path as text: itself, but for bytes that are no UTF-8."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return _TO_ESCAPE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def path_of(text: str) -> Path:
    """The file whose path is `written` so."""
    return Path(os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(text))))


def is_escaped(text: str) -> bool:
    """Whether `path_of` reads some of it as bytes."""
    return _TO_ESCAPE.search(text) is not None


def visible(text: object) -> str:
    """For terminals and logs: one line, and nothing that a terminal obeys."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(_escape(letter) if _is_unseen(letter) else letter for letter in said)


def shell_word(word: str) -> str:
    """Quoted for a shell, and safe to print: what can't be shown is escaped as `$'…'` of bash, zsh and POSIX 2024."""
    if visible(word) == word:
        return shlex.quote(word)
    return f"$'{''.join(map(_shell_letter, word))}'"


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """The file by a path that is UTF-8, while the context lasts: OpenCV crashes where it is not."""
    if _is_utf8(str(path.absolute())):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="reelserve-name-") as folder:
        link = Path(folder) / f"clip{path.suffix if _is_utf8(path.suffix) else ''}"
        link.symlink_to(path.absolute())
        yield link


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSEEN or unicodedata.bidirectional(letter) in _TURNS


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code & 0xFF:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def _shell_letter(letter: str) -> str:
    if _is_unseen(letter):
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))
    return f"\\{letter}" if letter in "\\'" else letter
