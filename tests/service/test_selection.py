from __future__ import annotations

import re

import pytest

from service.selection import Wanted, names_several, wanted, well_formed


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ("", ()),
        (" ", ()),
        ("all", ()),
        ("a", (Wanted("a"),)),
        (" a , b/1.2 ", (Wanted("a"), Wanted("b", "1.2"))),
    ],
)
def test_names_and_versions(models: str, found: tuple[Wanted, ...]) -> None:
    assert wanted(models) == found
    assert well_formed(models) == models


@pytest.mark.parametrize(("models", "several"), [("", False), ("a/1", False), ("a,b", True), (" all", True)])
def test_more_than_one(models: str, several: bool) -> None:
    assert names_several(models) is several


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("a,", "'' is no model; give NAME or NAME/VERSION, comma-separated, or all"),
        ("a/", "'a/' is no model"),
        ("a/1/2", "'a/1/2' is no model"),
        ("../secret", "'../secret' is no model"),
        ("A", "'A' is no model"),
        ("a,all", "all stands for every model"),
        ("a,a", "a and a are one model"),
        ("a/1,b,a/2", "a/1 and a/2 are one model, which is served in one version"),
    ],
)
def test_what_is_wrong_is_said(models: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        well_formed(models)
