"""What of a URL may be said: no user name, no query, no fragment, wherever it stands in a text."""

from __future__ import annotations

import io
import logging

import pytest

from service.errors import BadParameter
from service.redaction import hidden, is_hidden, scrub_logs, scrubbed, without_credentials

SECRET = "s3cr3t"  # noqa: S105


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://h/f?a=s3cr3t", "https://h/f?redacted"),
        ("https://h?a=s3cr3t", "https://h?redacted"),
        ("https://h/f#s3cr3t", "https://h/f?redacted"),
        ("HTTPS://H/f?a=s3cr3t#b", "HTTPS://H/f?redacted"),
        ("https://user:s3cr3t@h:80/f", "https://h:80/f"),
        ("https://user:s3cr3t@h/f?a=s3cr3t", "https://h/f?redacted"),
        ("ftp://user:s3cr3t@h/f", "ftp://h/f"),
        ("s3://key:s3cr3t@bucket/f", "s3://bucket/f"),
        (" https://h/f?a='s3cr3t' b", " https://h/f?redacted"),
        ("see https://h/f?a=s3cr3t", "see https://h/f?redacted"),
        ("https://h/f?redacted=s3cr3t", "https://h/f?redacted"),
        ("https://h/f?redacted&a=s3cr3t", "https://h/f?redacted"),
        ("https://h/a@b/f?a=s3cr3t?b", "https://h/a@b/f?redacted"),
    ],
)
def test_credentials_are_hidden(url: str, said: str) -> None:
    assert hidden(url) == said
    assert hidden(said) == said
    assert hidden(url, "0123456789abcdef0123").endswith("?redacted=0123456789abcdef0123")


@pytest.mark.parametrize(
    "url",
    [
        "https://h/f", "https://h/f?", "https://h/f#", "s3://bucket/what?.mp4", "gs://bucket/a#b?c=d", "a.mp4",
        "file:///data/a?b.mp4", "C:/clips?a=b", "upload:a?b.mp4", "", "clip 1", "https://h/f?redacted",
        "https://h/f?redacted=0123456789abcdef0123", "https://h/a@b:c",
    ],
)  # fmt: skip
def test_what_has_none_stays(url: str) -> None:
    assert hidden(url) == url


def test_what_was_redacted_is_known() -> None:
    assert is_hidden("https://h/f?redacted")
    assert is_hidden(hidden("https://h/f?a=b", "0" * 20))
    assert not is_hidden("https://h/f?redacted=yes")
    assert not is_hidden("s3://h/f?redacted")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no video at https://h/f?a=s3cr3t; send one", "no video at https://h/f?redacted; send one"),
        ("(https://h/f?a=s3cr3t).", "(https://h/f?redacted)."),
        ("'https://h/f?a=\"s3cr3t\"' or so", "'https://h/f?redacted' or so"),
        ('{"uri": "https://h/f?a=\'s3cr3t\'", "b": 1}', '{"uri": "https://h/f?redacted", "b": 1}'),
        ("https://h/a?s3cr3t http://u:s3cr3t@h/b", "https://h/a?redacted http://h/b"),
        ("allowed: s3://a/, https://h/ (x)", "allowed: s3://a/, https://h/ (x)"),
        ("two\nhttps://h/a?s3cr3t\nlines", "two\nhttps://h/a?redacted\nlines"),
        ("a" * 50 + "://h?s3cr3t", "a" * 50 + "://h?redacted"),
        ("'https://h/f?a=b; name=c d&e=s3cr3t' or so", "'https://h/f?redacted' or so"),
        ('["https://h/f?a=b \\" s3cr3t", 1]', '["https://h/f?redacted", 1]'),
        ('{"uri": "https://h/f?a=b s3cr3t…', '{"uri": "https://h/f?redacted'),
        ("'https://h/f' or 'https://h/g' it's?", "'https://h/f' or 'https://h/g' it's?"),
    ],
)
def test_in_a_text(text: str, said: str) -> None:
    assert scrubbed(text) == said


@pytest.mark.parametrize(
    ("text", "url", "said"),
    [
        ('Invalid bucket name "u:s3cr3t@bkt": x', "s3://u:s3cr3t@bkt/x", 'Invalid bucket name "redacted@bkt": x'),
        ("no user s3cr3t", "s3://u:s3cr3t@bkt/x", "no user redacted"),
        ("403 of /f?a=s3cr3t b", "https://h/f?a=s3cr3t b", "403 of /f?redacted"),
        ("403 of /f%3Fa%3ds3cr3t%20b.", "https://h/f?a=s3cr3t b", "403 of /f%3Fredacted."),
        ("403 of /f?a=s3cr3t%20b", "https://h/f?a=s3cr3t b", "403 of /f?redacted"),
        ("at a=s3cr3t/b", "https://h/f?a=s3cr3t%2Fb", "at redacted"),
        ("at s3cr3t", "https://h/f#s3cr3t", "at redacted"),
        ("https://h/f?a b: 404", "https://h/f?a b", "https://h/f?redacted: 404"),
        ("404: 4 is no file", "https://h/f?4", "404: redacted is no file"),
        ("no what?.mp4", "s3://bucket/what?.mp4", "no what?.mp4"),
        ("what was redacted", "https://h/f?redacted", "what was redacted"),
        ("a path", "clips/a path", "a path"),
    ],
)
def test_in_the_words_of_others(text: str, url: str, said: str) -> None:
    assert without_credentials(text, url) == said


def test_whoever_writes_an_error_needs_not_think_of_it() -> None:
    error = BadParameter("https://h/f?a=s3cr3t is too long", value={"uri": ["https://h/f?a=s3cr3t", 3]})
    assert SECRET not in str(error) + repr(error) + error.detail + repr(error.value)
    assert error.value == {"uri": ["https://h/f?redacted", 3]}
    spaces = "https://h/f?a=b; name=c&d=s3cr3t"
    assert BadParameter("", value=[spaces, {spaces: spaces}]).value == [
        "https://h/f?redacted",
        {"https://h/f?redacted": "https://h/f?redacted"},
    ]


@pytest.mark.parametrize("name", [None, "someone.else"])
def test_logs_of_others_too(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by handlers that were there before; their own format stays."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's stay as they are
    log = logging.getLogger(name)
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "propagate", False)
    for _ in range(2):
        scrub_logs()
    try:
        raise ValueError("https://h/f?a=s3cr3t")
    except ValueError:
        log.exception("GET %s", "https://h/f?a=s3cr3t")
    assert text.getvalue().startswith("<ERROR> GET https://h/f?redacted\nTraceback")
    assert "ValueError: https://h/f?redacted" in text.getvalue()
    assert SECRET not in text.getvalue()
