"""Flags of commands, made from parameters: the same names, meanings, ranges and complaints as over HTTP."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand, TyperOption

from service.errors import BadParameter
from service.parameters import ClipParameters
from service.terminal import complain
from service.wording import as_flag, in_the_manifest, noun, parsed, repeated, unknown

_EXIT_USAGE = 2


class Once(TyperCommand):
    """A command that refuses an option of one value that comes twice, of which typer takes the last: exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer calls it."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for option, count in Counter(given).items():
            if count > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
                complain(BadParameter(repeated(option.opts[0], count)))
                raise typer.Exit(_EXIT_USAGE)
        return super().parse_args(ctx, args)


def flags_of(
    parameters: type[ClipParameters], **defaults: object
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag for each of the parameters, after the command's own; the command gets all as its argument `asked`.

    defaults: where they are others than over HTTP. What is wrong with a flag is one line, and exit code 2.
    """
    of_items = [name for name in parameters.of_items if name not in parameters.model_fields]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in [*parameters.model_fields, *of_items]}
            given = {name: value for name, value in given.items() if value not in (None, False)}
            try:
                for name in of_items:
                    if name in given:
                        raise BadParameter(f"{as_flag(name)} is no option; {in_the_manifest(name)}", value=given[name])
                asked = parsed(parameters, {**defaults, **given}, as_flag)
            except BadParameter as error:
                complain(error)
                raise typer.Exit(_EXIT_USAGE) from error
            command(**values, asked=asked)

        own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "asked"]
        both = [*own, *(_flag(name, field, defaults.get(name)) for name, field in parameters.model_fields.items())]
        both += map(_hidden_flag, of_items)
        vars(run)["__signature__"] = inspect.Signature(both)  # what typer reads
        run.__annotations__ = {each.name: each.annotation for each in both}
        return run

    return decorate


def check_flags(arguments: Sequence[str], known: Sequence[str]) -> None:
    """Of a command whose flags all take a value. Raises BadParameter for one that is unknown, or comes twice."""
    names = [text.partition("=")[0] for text in arguments if text.startswith("--")]
    for name in names:
        if not any(each.startswith(name) for each in known):
            raise BadParameter(unknown(name, known, "serve"), value=name)
        if names.count(name) > 1:
            raise BadParameter(repeated(name, names.count(name)), value=name)


def _flag(name: str, field: FieldInfo, default: object) -> inspect.Parameter:
    """Text, as `parsed` reads it: typer's own types would have words of their own."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    if field.annotation is bool:
        switch = typer.Option(as_flag(name), help=field.description)
        return inspect.Parameter(name, keyword, default=False, annotation=Annotated[bool, switch])
    option = typer.Option(
        as_flag(name), help=field.description, metavar=noun(name, field).upper(),
        show_default=str(default or field.default or "") or False,
    )  # fmt: skip
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[str | None, option])


def _hidden_flag(name: str) -> inspect.Parameter:
    """Of a name that is refused in words of ours: typer would guess another one."""
    annotation = Annotated[str | None, typer.Option(as_flag(name), hidden=True)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
