"""Small files that are made once, and say the same to all processes of a folder for good."""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from pathlib import Path

from service.jobs.errors import JobsUnavailable

KEY_LETTERS = 32
_KEY = "secret_key"


def kept(folder: Path, name: str, content: str) -> str:
    """What the file says; `content` where there was none: whole or not at all, and for this user only.

    Raises OSError.
    """
    file = folder / name
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii").strip()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = folder / f"{name}-{uuid.uuid4()}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())  # what is encrypted by a key must not outlive it
    with contextlib.suppress(FileExistsError):
        file.hardlink_to(new)
    new.unlink()
    return file.read_text(encoding="ascii").strip()


def made_key(folder: Path) -> str:
    """The deployment key of one machine. Raises OSError, and JobsUnavailable for `key_fault`."""
    if fault := key_fault(folder):
        raise JobsUnavailable(fault)
    return kept(folder, _KEY, secrets.token_urlsafe(32))


def key_fault(folder: Path) -> str | None:
    """What is wrong with the key that is kept there, in words; None where there is none yet, or nobody may read it."""
    file = folder / _KEY
    try:
        key = file.read_bytes().strip()
    except OSError:
        return None
    if key.isascii() and len(key) >= KEY_LETTERS:
        return None
    return (
        f"{file} has {len(key)} bytes, and a key has {KEY_LETTERS} ASCII characters or more; put back what was there, "
        "or delete the file: another key is made then, which can't read the URLs of jobs that wait"
    )
