"""What one request asks for, wherever it says so: in its query, in fields of its form, in its JSON; each name once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastapi import Request
from python_multipart.multipart import parse_options_header

from service.answers import spec_with
from service.api.charsets import decoded
from service.api.form import Part, Write
from service.engine.shared import LoadedModel
from service.errors import BadParameter, MalformedUpload, NoFile
from service.parameters import AnswerParameters, ClipParameters
from service.serving import Serving
from service.wording import cut, parsed, repeated, said, unknown

# Of a form, the field with the clip.
FIELD = "video"
_MOST_BYTES = 8192
# Of a form, the field with the charset of the texts that name none (RFC 7578, 4.6).
_CHARSET = "_charset_"

P = TypeVar("P", bound=ClipParameters)


class Asked(Generic[P]):
    """The parameters of a request, as they come. more: a form's fields may follow."""

    def __init__(self, request: Request, query: P) -> None:
        self._kind = type(query)
        self._route = f"{request.method} {request.url.path}"
        self._given: dict[str, object] = query.model_dump(exclude_unset=True)
        self._places = dict.fromkeys(self._given, "in the query")
        self._texts: dict[str, tuple[Part, bytearray]] = {}
        self.more = media_type(request) == b"multipart/form-data"

    def parameters(self) -> P:
        """All so far. Raises BadParameter."""
        _, named = self._texts.get(_CHARSET, (None, None))
        charset = "utf-8" if named is None else _charset(named)
        texts = {
            name: _text(part, text, charset)
            for name, (part, text) in self._texts.items()
            # What a later field may say how to read is left for then.
            if name != _CHARSET and (part.charset or named is not None or not self.more or text.isascii())
        }
        return parsed(self._kind, self._given | texts)

    def close(self) -> None:
        """The body has ended."""
        self.more = False

    def give(self, name: str, value: object, place: str) -> None:
        """One more, that stands at `place`. Raises BadParameter for an unknown name, and for one that came before."""
        self._name(name, place)
        self._given[name] = value

    def field(self, part: Part, *, has_clip: bool) -> Write:
        """A field of a form that is not the clip's. has_clip: that one came already.

        Raises BadParameter, NoFile, MalformedUpload.
        """
        if part.name == FIELD:
            # A text that names an address is never fetched.
            raise NoFile(f"the field {FIELD!r} holds text, not a file; send the bytes: curl -F {FIELD}=@clip.mp4 URL")
        if not part.name:
            raise MalformedUpload(
                'a part of the form has no name; RFC 7578 wants Content-Disposition: form-data; name="…"'
            )
        if part.file_name is not None and not has_clip and part.name not in self._kind.model_fields:
            raise NoFile(
                f"the form has a file in the field {cut(part.name)!r}; send the clip in the field {FIELD!r}: "
                f"curl -F {FIELD}=@clip.mp4 URL"
            )
        if part.name == _CHARSET:
            self._once(part.name, "in the form")
        else:
            self._name(part.name, "in the form")
        if part.file_name is not None:
            raise BadParameter(f"{part.name} is a file in the form; send it as text: curl -F {part.name}=…")
        _, text = self._texts[part.name] = (part, bytearray())

        def write(data: memoryview) -> None:
            text.extend(data)
            if len(text) > _MOST_BYTES:
                raise BadParameter(
                    f"{part.name} has more than {_MOST_BYTES} bytes; send a shorter value", limit=_MOST_BYTES
                )

        return write

    def _name(self, name: str, place: str) -> None:
        if name not in self._kind.model_fields:
            raise BadParameter(
                unknown(name, self._kind.model_fields, self._route, self._kind.of_items), value=cut(name)
            )
        self._once(name, place)

    def _once(self, name: str, place: str) -> None:
        if before := self._places.get(name):
            where = place if before == place else f"{before} and {place}"
            raise BadParameter(repeated(name, 2, where), value=name)
        self._places[name] = place


def models_asked(
    asked: Asked[P], serving: Serving, find: Callable[[str | None], Sequence[LoadedModel]]
) -> Sequence[LoadedModel]:
    """The models, and the windows that they are to see; none while the field `model` of a form may still follow.

    What later fields of a form could mend is not refused yet: call it again when the body has ended. Raises what `find`
    does, BadParameter and NotReady.
    """
    wanted, alone = asked.parameters(), len(serving.models) == 1
    options = wanted.options() if isinstance(wanted, AnswerParameters) else None
    if asked.more and wanted.model is None and not alone:
        serving.check_ready()
        return ()
    models = find(wanted.model)
    if options and (not asked.more or {"window", "stride"} <= wanted.model_fields_set):
        for model in models:
            spec_with(model.document.spec, options)
    return models


def media_type(request: Request) -> bytes:
    """Of the body, in small letters; empty where it has none."""
    return parse_options_header(request.headers.get("content-type"))[0]


def boundary_of(request: Request) -> bytes:
    """Of a form. Raises MalformedUpload."""
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary")
    if not boundary:
        raise MalformedUpload("multipart/form-data without a boundary; let your HTTP library set Content-Type")
    return boundary


def _text(part: Part, text: bytearray, default: str) -> str:
    charset = default if part.charset is None else part.charset
    try:
        return decoded(text, charset)
    except (LookupError, UnicodeError) as error:
        raise BadParameter(
            f"{part.name} in the form can't be read as text in {cut(charset)}; send it in UTF-8"
        ) from error


def _charset(named: bytearray) -> str:
    charset = named.decode("latin-1")
    try:
        decoded(b"", charset)
    except (LookupError, UnicodeError) as error:
        raise BadParameter(
            f"{_CHARSET} is {said(charset)}, which is no charset known here; send utf-8, and the fields in it",
            value=cut(charset),
        ) from error
    return charset
