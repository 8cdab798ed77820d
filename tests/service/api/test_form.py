"""multipart/form-data as a stream: what its parts are, however it is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.form import FORM_BYTES, Form, Part, Write, part_of
from service.api.job_clips import DistinctIds
from service.errors import MalformedUpload


class Heard:
    """The parts of a form, with their bytes."""

    def __init__(self) -> None:
        self.parts: list[tuple[Part, bytearray]] = []

    def take(self, part: Part) -> Write:
        content = bytearray()
        self.parts.append((part, content))
        return content.extend


def sent(*parts: tuple[bytes, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """A form of headers and contents."""
    return b"".join(b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n" for headers, content in parts) + end


def disposition(rest: bytes) -> bytes:
    return b"Content-Disposition: form-data; " + rest


@given(
    cuts=st.lists(st.integers(0, 400), max_size=20),
    contents=st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n--", b"\r\n--b", b"--b\r\n", b"\r\n\r\n--b-"]), max_size=4
    ),
)
def test_its_parts_are_the_same_however_it_is_cut(cuts: list[int], contents: list[bytes]) -> None:
    contents = [content for content in contents if b"\r\n--b" not in b"\r\n" + content]
    names = [f"field {number}" for number in range(len(contents))]
    body = sent(
        *((disposition(b'name="' + name.encode() + b'"'), each) for name, each in zip(names, contents, strict=True))
    )
    heard = Heard()
    form = Form(b"b", heard.take)
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for start, stop in zip(edges, edges[1:], strict=False):
        form.feed(bytearray(body[start:stop]))
    form.finish()
    assert [(part.name, bytes(content)) for part, content in heard.parts] == list(zip(names, contents, strict=True))


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        (disposition(b'name="top_k"'), Part("top_k")),
        (disposition(b"name=top_k"), Part("top_k")),
        (disposition(b'name="video"; filename="c.mp4"'), Part("video", "c.mp4")),
        (disposition(b'name="video"; filename=""'), Part("video", "")),
        (disposition(b"name=\"video\"; filename*=UTF-8''%e2%82%ac.mp4"), Part("video", "€.mp4")),
        (disposition(b"name=\"video\"; filename*=utf-8'en'a%20b"), Part("video", "a b")),
        (disposition(b'name="video"; filename* = "UTF-8\'\'a.mp4"'), Part("video", "a.mp4")),
        (disposition(b"name=\"video\"; filename*=ISO-8859-1''%A3"), Part("video", "£")),
        (disposition(b'name="video"; filename*=UTF-8\'\'other; filename="plain"'), Part("video", "plain")),
        (disposition(b"name=\"a; filename*=UTF-8''x\""), Part("a; filename*=UTF-8''x")),
        (disposition('name="video"; filename="日本.mp4"'.encode()), Part("video", "日本.mp4")),
        (disposition(b'name="video"; filename="\xe9.mp4"'), Part("video", "é.mp4")),
        (disposition(b'name="video"') + b"\r\nContent-Type: video/mp4", Part("video", "")),
        (disposition(b'name="a"') + b"\r\nContent-Type: text/plain; charset=UTF-16", Part("a", None, "utf-16")),
        (b"Content-Type: video/mp4", Part("", "")),
        (disposition(b'name="a"') + b"\r\nContent-Transfer-Encoding: 8bit", Part("a")),
    ],
)
def test_what_a_part_is(headers: bytes, part: Part) -> None:
    named = (line.partition(b": ") for line in headers.split(b"\r\n"))
    assert part_of({name.lower(): value for name, _, value in named}) == part


@given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_an_extended_name_is_decoded_whole(text: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in text.encode())
    assert (
        part_of({b"content-disposition": disposition(f"name=v; filename*=UTF-8''{encoded}".encode())}).file_name == text
    )


def refusal_of(headers: dict[bytes, bytes]) -> str:
    try:
        part_of(headers)
    except MalformedUpload as error:
        return error.detail
    return ""


@given(value=st.binary(max_size=80))
def test_no_header_is_a_fault_of_ours(value: bytes) -> None:
    for name in (b"content-disposition", b"content-type", b"content-transfer-encoding"):
        detail = refusal_of({b"content-disposition": b"form-data; filename*=" + value, name: value})
        json.dumps(detail, ensure_ascii=False).encode()


@pytest.mark.parametrize("where", ["headers", "field", "epilogue"])
def test_what_is_no_file_is_bounded(where: str) -> None:
    heard = Heard()
    form = Form(b"b", heard.take)
    long = b"x" * (FORM_BYTES + 1)
    header = b"\r\n".join([disposition(b'name="a"'), *(b"X-%d: " % i + b"x" * 4000 for i in range(6))])
    body = {
        "headers": sent((header, b""), (header, b""), (header, b"")),
        "field": sent((disposition(b'name="a"'), long)),
        "epilogue": sent((disposition(b'name="a"'), b"")),
    }[where]
    with pytest.raises(MalformedUpload, match=f"more than {FORM_BYTES} bytes"):  # noqa: PT012
        form.feed(bytearray(body))
        form.feed(bytearray(long))


@given(names=st.lists(st.sampled_from(["a", "a (2)", "a (2) (2)", "b"]), max_size=30))
def test_ids_are_distinct_and_depend_on_what_came_before_alone(names: list[str]) -> None:
    ids, again = DistinctIds(), DistinctIds()
    found = [ids.of(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(each == name or each.startswith(f"{name} (") for each, name in zip(found, names, strict=True))
    half = len(names) // 2
    assert [again.of(name) for name in names[:half]] == found[:half]
