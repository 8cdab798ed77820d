"""Deployment keys: URLs of jobs are encrypted by them, and rows whose URLs are redacted are kept apart.

Each key of the setting `secret_key` makes two (HKDF): one encrypts (Fernet: AES-128-CBC and HMAC-SHA256), one signs.
The first is for what is new, the others read what was written by them once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.jobs.errors import WrongKey
from service.jobs.items import Item
from service.jobs.kept import made_key
from service.redaction import hidden
from service.settings import Settings

KEY_LETTERS = 4  # of a mark: which key made it
_MARK_LETTERS = 20


class Keys:
    """texts: any secrets, the first for what is new.

    ids: of each, what may be said of it: how all of its marks begin, and which items wait for it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._sealing = MultiFernet([Fernet(base64.urlsafe_b64encode(_made(text, "URLs"))) for text in texts])
        self._signing = [_made(text, "names") for text in texts]
        self.ids = tuple(_signed(key, b"which key")[:KEY_LETTERS] for key in self._signing)

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Those of `secret_key`, or the one that is kept in `jobs_dir`. Raises OSError."""
        return cls(settings.secret_keys() or [made_key(settings.jobs_dir)])

    def led_by(self, key_id: str) -> Self:
        """The same keys, of which that one is for what is new."""
        [first] = [text for text, each in zip(self._texts, self.ids, strict=True) if each == key_id]
        return type(self)([first, *(text for text in self._texts if text != first)])

    def seal(self, text: str) -> str:
        """Encrypted by the first, ASCII."""
        return self._sealing.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def unseal(self, token: str) -> str:
        """Back. Raises WrongKey."""
        try:
            return self._sealing.decrypt(token).decode("utf-8", "surrogatepass")
        except InvalidToken as error:
            raise WrongKey(
                "what the database has of its URL can't be decrypted by any secret_key of this replica; was it changed "
                "by hand? Submit it again"
            ) from error

    def redacted(self, url: str) -> str:
        """As rows have it: hidden, and marked, so that two URLs that differ in their query differ."""
        return self.redactions(url)[0]

    def redactions(self, url: str) -> list[str]:
        """By each key, as an earlier one may have made it."""
        if hidden(url) == url:
            return [url]
        signed = [_signed(key, url.encode("utf-8", "surrogatepass")) for key in self._signing]
        marks = [(key_id + each)[:_MARK_LETTERS] for key_id, each in zip(self.ids, signed, strict=True)]
        return [hidden(url, mark) for mark in marks]

    def named(self, item: Item) -> Item:
        """The same item, whose id and URI may stand in rows; what leads to its file is in its source."""
        uri = self.redacted(item.uri)
        return replace(item, id=self.redacted(item.id), uri=uri, source=item.uri if uri != item.uri else item.source)

    def fingerprints(self, digest: str) -> list[str]:
        """What may be kept of a digest over credentials: of each key, as an earlier one may have made it."""
        return [_signed(key, digest.encode()) for key in self._signing]


def _signed(key: bytes, data: bytes) -> str:
    return hmac.digest(key, data, hashlib.sha256).hex()


def _made(text: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"reelserve {purpose}".encode()).derive(text.encode())
