"""Charsets of a form's texts: those that Python knows by name."""

from __future__ import annotations

import pkgutil
from encodings import __path__ as _folder
from encodings import normalize_encoding
from encodings.aliases import aliases

# Of a name that is none of these Python would remember for good that it was asked for.
_KNOWN = frozenset(aliases) | {module.name for module in pkgutil.iter_modules(_folder)}


def decoded(text: bytes | bytearray, charset: str) -> str:
    """Raises LookupError for a charset that nobody knows, and UnicodeError for a text that is not written in it."""
    name = normalize_encoding(charset).lower()
    if not charset.isascii() or name not in _KNOWN:
        raise LookupError(charset)
    "".encode(name)  # a LookupError for hex and its like, which decoding raises only where there are bytes
    return text.decode(name)
