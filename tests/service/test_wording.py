"""Mistakes in words of the request: for each parameter and setting, and whatever is given."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from service.errors import BadParameter
from service.parameters import (
    ClipParameters,
    Count,
    JobParameters,
    Line,
    Number,
    PredictParameters,
    ProbeParameters,
)
from service.settings import Settings
from service.wording import cut, parsed, plain, repeated, said, unit_of, unknown, wanted

MODELS: list[type[ClipParameters]] = [PredictParameters, ProbeParameters, JobParameters]
NUMBERS = [
    (name, field)
    for model in MODELS
    for name, field in model.model_fields.items()
    if wanted(name, field).partition(" number")[1]
]


class Every(BaseModel):
    """A field of each kind."""

    count: Count = Field(default=1, ge=1, le=9)
    share: Number | None = Field(default=None, gt=0, allow_inf_nan=False)
    least_seconds: Number = Field(default=0, ge=0, allow_inf_nan=False)
    most: Number = Field(default=0, gt=0, le=2.5)
    switch: bool = False
    kind: Literal["a", "b"] = "a"
    name: Line = Field(default="", max_length=9)
    needed: Annotated[int, Field(le=3)]
    many: list[int] = []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", "0", "count is '0'; give a whole number from 1 to 9"),
        ("count", 2.5, "count is 2.5; give a whole number from 1 to 9"),
        ("count", True, "count is true; give a whole number from 1 to 9"),
        ("count", None, "count is null; give a whole number from 1 to 9"),
        ("count", [1], "count is [1]; give a whole number from 1 to 9"),
        ("count", "", "count is empty; give a whole number from 1 to 9"),
        ("share", "0", "share is '0'; give a number above 0"),
        ("share", "1e999", "share is '1e999'; give a finite number above 0"),
        ("share", float("nan"), "share is NaN; give a number above 0"),
        ("least_seconds", -1, "least_seconds is -1; give a number of seconds, 0 or more"),
        ("most", 3, "most is 3; give a number above 0, at most 2.5"),
        ("switch", "2", "switch is '2'; give true or false"),
        ("kind", "c", "kind is 'c'; give a or b"),
        ("name", "x" * 10, "name is 'xxxxxxxxxx'; give a line of text of 1 to 9 characters"),
        ("name", "a\nb", "name is 'a\\nb'; give a line of text of 1 to 9 characters"),
        ("name", 3, "name is 3; give a line of text of 1 to 9 characters"),
        ("needed", 4, "needed is 4; give a whole number, at most 3"),
        ("many", 4, "many is 4; give a list"),
    ],
)
def test_a_value_what_it_may_be_and_so_the_remedy(name: str, value: object, words: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parsed(Every, {"needed": 1, name: value})
    assert caught.value.detail == words


def test_what_is_missing() -> None:
    with pytest.raises(BadParameter, match=r"^needed is missing; give a whole number, at most 3$"):
        parsed(Every, {})


@pytest.mark.parametrize(("text", "number"), [("3", 3.0), (" 3 ", 3.0), ("+3", 3.0), ("3.0", 3.0), ("3e0", 3.0)])
def test_decimal_numbers_count(text: str, number: float) -> None:
    assert parsed(Every, {"needed": 1, "share": text}).share == number


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


def refused(model: type[BaseModel], given: dict[str, object]) -> BadParameter | None:
    try:
        parsed(model, given)
    except BadParameter as error:
        return error
    return None


@given(value=_VALUES)
def test_whatever_is_given_it_counts_or_is_told_in_short(value: object) -> None:
    """What is told can be sent, as JSON in UTF-8."""
    for model in MODELS:
        for name in model.model_fields:
            if error := refused(model, {name: value}):
                assert error.detail.startswith(f"{name} is ")
                assert "; give " in error.detail
                assert len(error.detail) < 700
                said_of_it = {"detail": error.detail, "value": error.value, "limit": error.limit}
                json.dumps(said_of_it, allow_nan=False, ensure_ascii=False).encode()


@given(name=st.text(max_size=300))
def test_whatever_its_name_it_is_told_in_short(name: str) -> None:
    words = unknown(name, ["window", "stride"], "POST /v1/predict")
    assert len(words) < 1300
    words.encode()
    assert words.isprintable()


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("windw", ["window", "stride"], "it has no parameter windw; did you mean window? It takes window, stride"),
        (
            "strike",
            ["stride", "strict"],
            "it has no parameter strike; did you mean stride or strict? It takes stride, s",
        ),
        ("x", [], "it has no parameter x; it takes none"),
        ("x", ["ab"], "it has no parameter x; it takes ab"),
        ("n1", [f"n{i}0" for i in range(30)], "it has no parameter n1; did you mean n10 or n"),
    ],
)
def test_names_that_are_near(name: str, known: list[str], words: str) -> None:
    assert unknown(name, known, "it").startswith(words)


def test_how_often() -> None:
    assert repeated("a", 2) == "a is given twice; give it once"
    assert repeated("a", 3, "in the query") == "a is given 3 times in the query; give it once"


def test_what_is_long_is_cut() -> None:
    assert (len(cut("x" * 1000)), len(said("x" * 1000)), len(said([0] * 1000))) == (101, 103, 101)
    assert (plain(2**60), plain(float("inf")), plain(0.5), plain("\ud800")) == (str(2**60), "Infinity", 0.5, "\\ud800")


@pytest.mark.parametrize(("name", "field"), NUMBERS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_number_has_a_unit_in_its_description_and_in_its_complaint(name: str, field: Any) -> None:
    unit = unit_of(name, field)
    if name == "min_score":
        assert unit is None
        assert "without a unit" in field.description
        return
    if name == "stream":  # a name, not an amount
        assert "number" in field.description.lower()
        return
    assert unit is not None
    assert unit in field.description
    assert f" number of {unit}" in wanted(name, field)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_a_setting_may_be_can_be_said(name: str) -> None:
    words = wanted(name, Settings.model_fields[name])
    assert words.startswith(("a whole number", "a number", "a line of text", "true or false", "fp32", "DEBUG"))
    if name.endswith(("_seconds", "_bytes", "_pixels", "_ticks", "_frames", "_threads")):
        assert f"of {name.rpartition('_')[2]}" in words
