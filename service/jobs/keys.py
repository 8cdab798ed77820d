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

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.jobs.errors import WrongKey
from service.jobs.items import Item
from service.jobs.kept import made_key
from service.redaction import hidden
from service.settings import Settings

_KEY_LETTERS = 4  # of a mark: which key made it
_MARK_LETTERS = 20


class Keys:
    """texts: any secrets, the first for what is new."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._sealing = MultiFernet([Fernet(base64.urlsafe_b64encode(_made(text, "URLs"))) for text in texts])
        self._signing = [_made(text, "names") for text in texts]

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Those of `secret_key`, or the one that is kept in `jobs_dir`. Raises OSError."""
        return cls(settings.secret_keys() or [made_key(settings.jobs_dir)])

    def seal(self, text: str) -> str:
        """Encrypted, ASCII."""
        return self._sealing.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def unseal(self, token: str) -> str:
        """Back. Raises WrongKey."""
        try:
            return self._sealing.decrypt(token).decode("utf-8", "surrogatepass")
        except InvalidToken as error:
            raise WrongKey(
                "its URL was encrypted by a secret_key that this replica does not have; give all replicas the same "
                "keys, and keep a former one behind the new one until its jobs are done"
            ) from error

    def redacted(self, url: str) -> str:
        """As rows have it: hidden, and marked, so that two URLs that differ in their query differ."""
        return url if hidden(url) == url else hidden(url, self._mark(url))

    def named(self, item: Item) -> Item:
        """The same item, whose id and URI may stand in rows; what leads to its file is in its source."""
        uri = self.redacted(item.uri)
        return replace(item, id=self.redacted(item.id), uri=uri, source=item.uri if uri != item.uri else item.source)

    @property
    def mark_prefix(self) -> str:
        """How all marks of `redacted` begin that the first key makes."""
        return hmac.digest(self._signing[0], b"which key", hashlib.sha256).hex()[:_KEY_LETTERS]

    def fingerprints(self, digest: str) -> list[str]:
        """What may be kept of a digest over credentials: of each key, as an earlier one may have made it."""
        return [hmac.digest(key, digest.encode(), hashlib.sha256).hex() for key in self._signing]

    def _mark(self, url: str) -> str:
        signed = hmac.digest(self._signing[0], url.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
        return (self.mark_prefix + signed)[:_MARK_LETTERS]


def _made(text: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"reelserve {purpose}".encode()).derive(text.encode())
