"""What a table of settings says of its fields: type, range, default, meaning. Flags, recipes and errors read it here.

A table is a frozen dataclass whose fields are `Annotated[type, Field(ge=…, le=…, description=…)]`. Made in Python it is
not validated, as tests and studies go where no user should; `models.recipe` validates what comes from outside.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict
from pydantic.fields import FieldInfo

# `__pydantic_config__` of each table.
TABLE = ConfigDict(extra="forbid", allow_inf_nan=False)

_ENDS = ("ge", "le", "gt", "lt")
_NOUNS: dict[type, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One field of a table.

    kind: int, float, str, bool, or a table of its own. default: None where it may be left unset. least, most: both may
    be taken; above, below: neither may. choices: empty where any value of the kind may be taken.
    """

    name: str
    kind: type
    default: Any
    description: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, info: FieldInfo, default: Any) -> Setting:
        """As pydantic has read the annotation."""
        kinds = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind is not NoneType]
        is_choice = get_origin(info.annotation) is Literal
        ends = {end: getattr(each, end) for each in info.metadata for end in _ENDS if hasattr(each, end)}
        return Setting(
            name,
            str if is_choice else get_origin(kinds[0]) or kinds[0],
            default,
            info.description or "",
            least=ends.get("ge"),
            most=ends.get("le"),
            above=ends.get("gt"),
            below=ends.get("lt"),
            choices=tuple(kinds) if is_choice else (),
        )

    @property
    def noun(self) -> str:
        """Its kind, in words."""
        return _NOUNS.get(self.kind, "a table")

    @property
    def limit(self) -> str:
        """Its range or its choices, in words; its kind where there are none."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.least is not None and self.most is not None:
            return f"from {self.least:.10g} to {self.most:.10g}"
        ends = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{word} {end:.10g}" for word, end in ends if end is not None) or self.noun

    def read(self, word: str) -> Any:
        """The value that a word stands for. Raises ValueError, which names the limit."""
        value = self.kind(word)
        if not self._holds(value):
            raise ValueError(f"it is not {self.limit}")
        return value

    def _holds(self, value: Any) -> bool:
        return (
            (not self.choices or value in self.choices)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def settings_of(table: type) -> dict[str, Setting]:
    """The fields of a table by name, in order."""
    hints = get_type_hints(table, include_extras=True)
    return {
        each.name: Setting.of(each.name, FieldInfo.from_annotation(hints[each.name]), each.default)
        for each in fields(table)
        if each.default is not MISSING
    }


# Keys whose last word says too little beside the other flags, or too much.
_FLAGS = {
    "data.name": "--data-name",
    "data.licence": "--data-licence",
    "encoder.name": "--encoder",
    "encoder.learning_rate": "--encoder-learning-rate",
    "task.kind": "--task",
    "head.num_layers": "--layers",
}


def flag_of(key: str) -> str:
    """The flag of a dotted key of the recipe."""
    return _FLAGS.get(key) or f"--{key.rpartition('.')[2].replace('_', '-')}"
