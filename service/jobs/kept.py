"""Small files that are made once, and say the same to all processes of a folder for good."""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from pathlib import Path


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
    """The deployment key of one machine."""
    return kept(folder, "secret_key", secrets.token_urlsafe(32))
