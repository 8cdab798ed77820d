"""Deployment keys: what is sealed opens with the same key, or a former one; marks tell redacted URLs apart."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr

from service.jobs.errors import JobsUnavailable, WrongKey
from service.jobs.items import Item
from service.jobs.kept import made_key
from service.jobs.keys import Keys
from service.settings import Settings
from service.terminal import read_settings

OLD, NEW = "an old key of these tests and long", "a new key of these tests and long"
URL = "https://user:word@host/f?Signature=ab%2Bc&ä=\ud800"


def test_what_is_sealed_opens_with_its_key() -> None:
    sealed = Keys([OLD]).seal(URL)
    assert sealed.isascii()
    assert "Signature" not in sealed
    assert sealed != Keys([OLD]).seal(URL)
    assert Keys([OLD]).unseal(sealed) == Keys([NEW, OLD]).unseal(sealed) == URL
    with pytest.raises(WrongKey, match="secret_key"):
        Keys([NEW]).unseal(sealed)
    with pytest.raises(WrongKey):
        Keys([OLD]).unseal(sealed[:-4])
    with pytest.raises(WrongKey):
        Keys([OLD]).unseal(Keys([NEW, OLD]).seal(URL))


def test_marks_tell_apart_what_looks_alike() -> None:
    keys = Keys([OLD])
    said = [keys.redacted(f"https://host/f?{query}") for query in ("a=1", "a=2", "", "a=1")]
    assert said[0] == said[3] != said[1]
    assert said[2] == "https://host/f?"
    assert said[0].startswith(f"https://host/f?redacted={keys.ids[0]}")
    assert keys.redacted(said[0]) == said[0]
    assert Keys([NEW, OLD]).redacted("https://host/f?a=1") not in said
    assert Keys([OLD, NEW]).redacted("https://host/f?a=1") == said[0]


def test_a_key_is_told_by_its_id() -> None:
    both, old = Keys([NEW, OLD]), Keys([OLD])
    assert both.ids == (*Keys([NEW]).ids, *old.ids)
    assert len(set(both.ids)) == 2
    urls = ["https://host/f?a=1", "https://host/f"]
    assert [both.redactions(url)[1] for url in urls if url != both.redacted(url)] == [old.redacted(urls[0])]
    assert both.redactions(urls[1]) == [urls[1]]
    led = both.led_by(old.ids[0])
    assert led.ids == both.ids[::-1]
    assert old.unseal(led.seal(URL)) == led.unseal(both.seal(URL)) == URL


def test_an_item_is_named_and_keeps_its_source() -> None:
    keys = Keys([OLD])
    url = "https://host/f?a=1"
    named = keys.named(Item(url, url, 1.0, 2.0))
    assert named == Item(keys.redacted(url), keys.redacted(url), 1.0, 2.0, source=url)
    assert named.location == url
    assert "a=1" not in repr(named)
    assert keys.named(Item("mine", url)).id == "mine"
    plain = Item("s3://bucket/what?.mp4", "s3://bucket/what?.mp4")
    assert keys.named(plain) == plain
    assert keys.named(named) == named


def test_fingerprints_are_of_each_key() -> None:
    [old] = Keys([OLD]).fingerprints("digest")
    new, also_old = Keys([NEW, OLD]).fingerprints("digest")
    assert also_old == old != new
    assert "digest" not in old


def test_a_key_is_made_once_for_this_user_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        [key] = set(pool.map(lambda _: made_key(tmp_path / "jobs"), range(32)))
    assert len(key) >= 32
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["secret_key"]
    assert stat.S_IMODE((tmp_path / "jobs" / "secret_key").stat().st_mode) == 0o600
    sealed = Keys.of(Settings(jobs_dir=tmp_path / "jobs")).seal(URL)
    assert Keys([key]).unseal(sealed) == URL


@pytest.mark.parametrize("content", [b"", b" \n", b"k" * 31, "ä".encode() * 32, b"\xff" * 40])
def test_a_file_that_holds_no_key_is_refused(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At start, as a setting that is too short; and by whoever reads it later."""
    file = tmp_path / "secret_key"
    file.write_bytes(content)
    monkeypatch.setenv("REELSERVE_JOBS_DIR", str(tmp_path))
    with pytest.raises(typer.Exit):
        read_settings()
    said = capsys.readouterr().err
    assert said.startswith(
        f"setting {file} has {len(content.strip())} bytes, and a key has 32 ASCII characters or more"
    )
    assert "put back what was there, or delete the file" in said
    with pytest.raises(JobsUnavailable, match="put back what was there"):
        made_key(tmp_path)
    assert file.read_bytes() == content
    monkeypatch.setenv("REELSERVE_SECRET_KEY", NEW)
    assert read_settings().secret_keys() == [NEW]


def test_keys_of_the_setting(tmp_path: Path) -> None:
    settings = Settings(jobs_dir=tmp_path, secret_key=SecretStr(f" {NEW} ,{OLD},"))
    assert Keys.of(settings).unseal(Keys([OLD]).seal(URL)) == URL
    assert list(tmp_path.iterdir()) == []
