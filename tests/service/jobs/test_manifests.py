"""Manifests by content: every way that people write them, what is wrong with one by line and column, and no bombs."""

from __future__ import annotations

import gzip
import io
import json
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.jobs.errors import BadInput
from service.jobs.inputs import Found, items_of, read_manifest
from service.jobs.items import Item, Row
from service.jobs.lines import CSV_HEADER, csv_line
from service.jobs.manifest_lines import MAX_ROW_CHARACTERS
from service.jobs.manifests import HEAD_BYTES, is_manifest, is_named_manifest
from tests.service.jobs.rows import failed

FOLDER = Path("/videos")


def found(content: bytes, name: str = "m.csv") -> Iterator[Found]:
    return items_of(name, io.BufferedReader(io.BytesIO(content)), FOLDER)


def items(content: bytes, name: str = "m.csv") -> list[Item]:
    return [each.item for each in found(content, name)]


def complaint(content: bytes, name: str = "m.csv") -> str:
    with pytest.raises(BadInput) as caught:
        items(content, name)
    return caught.value.detail


TWO = [Item("one", "/videos/a, b.mp4", 1.5, 4.0), Item("two", "s3://b/c;d.mp4")]
CSV = b'id,uri,start_seconds,end_seconds\none,"a, b.mp4",1.5,4\ntwo,s3://b/c;d.mp4,,\n'
JSON_ROWS: list[dict[str, Any]] = [
    {"id": "one", "uri": "a, b.mp4", "start_seconds": 1.5, "end_seconds": 4},
    {"id": "two", "path": "s3://b/c;d.mp4", "end_seconds": None, "mine": {"x": [1]}},
]
JSONL = "\n".join(map(json.dumps, JSON_ROWS)).encode()
WRITTEN = {
    "as anybody would": CSV,
    "with a mark, as spreadsheets have it": b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n"),
    "with the ends of lines of old": CSV.replace(b"\n", b"\r"),
    "without a last end, with empty lines": b"\n\r\n" + CSV.replace(b"\n", b"\n\n").rstrip(),
    "of spreadsheets of half of Europe": b'id;uri;start_seconds;end_seconds\none;"a, b.mp4";1.5;4\ntwo;"s3://b/c;d.mp4";;\n',
    "with tabs": b"id\turi\tstart_seconds\tend_seconds\none\ta, b.mp4\t1.5\t4\ntwo\ts3://b/c;d.mp4\t\t\n",
    "JSON lines": JSONL,
    "JSON lines, otherwise": b"\xef\xbb\xbf\r\n" + JSONL.replace(b"\n", b"\r\n \t\r\n") + b"\n\n",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_the_content_says_how_it_is_written(content: bytes, packed: bool) -> None:
    """Whatever it is called; by a name that says nothing it is taken for a manifest all the same."""
    content = gzip.compress(content) if packed else content
    assert is_manifest(content[:HEAD_BYTES])
    for name in ("m.csv", "m.tsv.gz", "list"):
        assert items(content, name) == TWO


@pytest.mark.parametrize(
    "suffix", [".csv", ".TSV", ".jsonl", ".ndjson", ".csv.gz", ".tsv.gz", ".Jsonl.GZ", ".ndjson.gz"]
)
def test_names_of_manifests(suffix: str) -> None:
    assert is_named_manifest(f"s3://bucket/a.b{suffix}")
    assert not is_named_manifest(f"s3://bucket{suffix}/a.mp4")
    assert not is_named_manifest(suffix[1:])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n\n", b"This is not a video.", b"a,b\n1,2\n", b'{"id": 1}\n', b'["uri"]\n', b"uri\0\n", b"uri\n\xff",
        b"\x1f\x8b broken", gzip.compress(b"notes", mtime=0), b'{"uri": "a.mp4"', b"\x00\x00\x00\x20ftypisom",
        b"\xff\xfeu\0r\0i\0", b"[" * 10_000, b"{" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_manifest(content: bytes) -> None:
    assert not is_manifest(content)


def test_lines_and_cells_are_data() -> None:
    """Line breaks in quotes, spaces at the ends, brackets, and what a comment would be elsewhere."""
    content = b'path,note\n" two\nlines.mp4 ",x\n#1 [/b] *.mp4,\n"a""b.mp4","a\r\n\n\rb"\nlast.mp4,\n'
    names = [" two\nlines.mp4 ", "#1 [/b] *.mp4", 'a"b.mp4', "last.mp4"]
    assert [item.uri for item in items(content)] == [f"/videos/{name}" for name in names]
    assert [each.where for each in found(content)] == [f"m.csv line {number}" for number in (2, 4, 5, 9)]


@pytest.mark.parametrize(
    ("given", "item_id", "in_rows"),
    [
        ("0", "0", 0), ("1", "1", 1), ("-7", "-7", -7), ("1.5", "1.5", 1.5), ("false", "false", False),
        ("true", "true", True), ('"0"', "0", "0"), ('"a\\nb"', "a\nb", "a\nb"), (str(10**30), str(10**30), 10**30),
        ('" "', " ", " "), ("null", "/videos/a.mp4", "/videos/a.mp4"),
    ],
)  # fmt: skip
def test_ids_of_any_kind(given: str, item_id: str, in_rows: object) -> None:
    [item] = items(f'{{"id": {given}, "uri": "a.mp4"}}\n'.encode())
    assert item.id == item_id
    assert item.row_id == in_rows
    assert type(item.row_id) is type(in_rows)


@pytest.mark.parametrize("second", ["1", '"1"', "1.0e0"])
def test_ids_that_are_one_as_text(tmp_path: Path, second: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"id": "1", "uri": "s3://b/a"}}\n\n{{"id": {second}, "uri": "s3://b/c"}}\n')
    if second == "1.0e0":
        assert [each.item.id for each in read_manifest("body", path)] == ["1", "1.0"]
        return
    with pytest.raises(BadInput, match=r"body line 3, id: id 1 stands at body line 1 already") as caught:
        list(read_manifest("body", path))
    assert ("as text" in caught.value.detail) == (second == "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uri,id\ns3://b/a,x\ns3://b/b,x\n", "body line 3, column 2 (id): id x stands at body line 2 already"),
        ("id,uri\n,s3://b/a\n,s3://b/a\n", "body line 3, column 2 (uri): id s3://b/a stands at body line 2 already"),
        (
            '{"path": "s3://b/a"}\n{"path": "s3://b/a"}\n',
            "body line 2, path: id s3://b/a stands at body line 1 already",
        ),
        ("uri\nhttps://h/a b?key=x\nhttps://h/a b?key=x\n", "(uri): id https://h/a b?redacted stands at body line 2"),
    ],
)
def test_an_id_that_is_there_twice_is_named_by_both_places(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        list(read_manifest("body", path))
    assert words in caught.value.detail
    assert "key=x" not in f"{caught.value.detail} {caught.value.value}"


@pytest.mark.parametrize(
    ("name", "value"), [("model", "nobody"), ("strict", False), ("top_k", 0), ("webhook_url", "x")]
)
def test_what_is_asked_of_a_whole_job_is_no_column(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "m"
    for text in (json.dumps({"uri": "s3://b/a", name: value}), f"uri,{name}\ns3://b/a,{value}\n"):
        path.write_text(text)
        with pytest.raises(BadInput, match=rf"{name}\)?: {name} is asked of all items alike; give {name} in the query"):
            list(read_manifest("body", path))


def test_rows_of_a_batch_are_a_manifest() -> None:
    """Columns of answers are among theirs, and ask for nothing where they are empty."""
    row = failed(3)
    assert [item.id for item in items(CSV_HEADER + csv_line(row))] == [row.id]
    assert [item.id for item in items(row.to_json().encode())] == [row.id]


@pytest.mark.parametrize("part", [(0.0, math.inf), (1.5, math.inf), (0.0, 4.25), (0.125, 1e9)])
def test_rows_of_a_batch_mean_the_same_part(part: tuple[float, float]) -> None:
    row = Row.failed(Item("a", "/videos/a.mp4", *part), BadInput("of a passing reason"))
    for line in (CSV_HEADER + csv_line(row), row.to_json().encode()):
        [item] = items(line)
        assert (item.start_seconds, item.end_seconds) == part


def test_names_that_are_no_utf8() -> None:
    """As rows write them, and as Python's JSON does."""
    lines = [r'{"uri": "caf\\xe9.mp4"}', r'{"uri": "caf\udcea.mp4"}', r'{"uri": "s3://b/caf\\xe9.mp4"}']
    assert [item.uri for item in items("\n".join(lines).encode())] == [
        r"/videos/caf\xe9.mp4", r"/videos/caf\xea.mp4", r"s3://b/caf\xe9.mp4"
    ]  # fmt: skip


def test_a_name_that_only_looks_like_an_escape(tmp_path: Path) -> None:
    (tmp_path / r"caf\xe9.mp4").touch()
    (tmp_path / "m.csv").write_text("path\ncaf\\xe9.mp4\n")
    [each] = read_manifest("m.csv", tmp_path / "m.csv", tmp_path)
    assert each.item.uri == str(tmp_path / r"caf\x5cxe9.mp4")


BAD = [
    ("m.csv", "id,url\n1,a.mp4\n", ["m.csv line 1: no column uri (or path); it has id, url"]),
    ("m.csv", "", ["m.csv line 1: no column uri (or path); it has none"]),
    ("m.csv", "uri,start_second\na.mp4,1\n", ["line 1, column 2: 'start_second': did you mean start_seconds?"]),
    ("m.csv", "id, uri\n1,a.mp4\n", ["line 1, column 2: ' uri': did you mean uri?"]),
    ("m.csv", "id,Path\n1,a.mp4\n", ["line 1, column 2: 'Path': did you mean path?"]),
    ("m.csv", "uri,uri\na,b\n", ["line 1, column 2: there is a column uri already"]),
    (
        "m.csv",
        "uri,start_seconds\na.mp4,1\n\nb.mp4,soon\n",
        ["line 4, column 2 (start_seconds)", "'soon' is no number"],
    ),
    ("m.csv", "uri,start_seconds\na.mp4,-1\n", ["line 2, column 2 (start_seconds)", "'-1'"]),
    ("m.csv", "uri,start_seconds\na.mp4,1_0\n", ["line 2, column 2 (start_seconds)", "'1_0'"]),
    ("m.csv", "uri,end_seconds\na.mp4,2e9\n", ["'2e9' is no number of seconds from 0 to 1000000000"]),
    ("m.csv", "uri,end_seconds\na.mp4,inf\n", ["line 2, column 2 (end_seconds)", "'inf'"]),
    ("m.csv", "uri,start_seconds,end_seconds\na.mp4,5,5\n", ["line 2, column 3 (end_seconds)", "must be after", "5"]),
    ("m.csv", "uri,start_seconds\na.mp4\n", ["line 2, column 2: the first line names 2 columns, here are 1"]),
    ("m.csv", "uri\na, b.mp4\n", ["line 2, column 2: the first line names 1 columns, here are 2", "',' wants quotes"]),
    ("m.csv", "path,label\na.mp4,x\n,\n", ["m.csv line 3, column 1 (path): it is empty", "delete the line"]),
    ("m.csv", "uri,path\na.mp4,b.mp4\n", ["line 2, column 2 (path): uri names another"]),
    ("m.csv", 'id,uri\n1,"a.mp4\n2,b.mp4\n', ["m.csv line 2, column 3: the quote that opens here is never closed"]),
    ("m.csv", 'id,uri\n1,"a"b.mp4"\n', ["line 2, column 3: a quote within these quotes is not doubled"]),
    ("m.csv", "uri\na.mp4\ncaf\udce9.mp4\n", ["m.csv line 3, column 4: the byte 0xe9 is no UTF-8", r"write \xe9"]),
    ("m.csv", "uri\na\0.mp4\n", ["line 2, column 2: a NUL byte", "UTF-16"]),
    ("m.jsonl", '{"uri": "a.mp4"}\n{"uri": \n', ["m.jsonl line 2, column 9: Expecting value"]),
    ("m.jsonl", '{"uri": "a.mp4"} {"uri": "b.mp4"}\n', ["line 1, column 18: Extra data; one JSON object a line"]),
    ("m.jsonl", "[1]\n", ["line 1: a JSON object is wanted, this is [1]"]),
    ("m.ndjson.gz", "uri\na.mp4\n", ["line 1, column 1: Expecting value"]),
    ("m.jsonl", '{"path": "a.mp4"}\n{"uri": 3}\n', ["line 2, uri: 3 is no text"]),
    ("m.jsonl", '{"path": "a.mp4"}\n{"uri": null}\n', ["line 2, uri: it is empty"]),
    ("m.jsonl", '{"id": 1}\n', ["line 1: no column uri (or path); it has id"]),
    ("m.jsonl", '{"uri": "a.mp4", "end_secs": 3}\n', ["line 1: 'end_secs': did you mean end_seconds?"]),
    ("m.jsonl", '{"uri": "a.mp4", "uri": "b.mp4"}\n', ["line 1: uri stands there twice"]),
    (
        "m.jsonl",
        '{"uri": "a.mp4", "start_seconds": true}\n',
        ["line 1, start_seconds: start_seconds True is no number"],
    ),
    (
        "m.jsonl",
        '{"uri": "a.mp4", "start_seconds": NaN}\n',
        ["line 1: start_seconds is NaN, which is no number of JSON; leave it out"],
    ),
    (
        "m.jsonl",
        '{"uri": "a.mp4", "mine": {"x": [[1], [-Infinity]]}}\n',
        ["line 1: x is -Infinity, which is no number"],
    ),
    ("m.jsonl", "[NaN]\n", ["line 1: a JSON object is wanted, this is [NaN]"]),
    ("m.jsonl", '{"uri": "a.mp4", "id": ""}\n', ["line 1, id: it is empty; give one, or leave it out"]),
    ("m.jsonl", '{"uri": "a.mp4", "top_k": 1}\n', ["line 1, top_k: top_k is asked of all", "give --top-k, or rename"]),
    (
        "m.csv",
        "uri,strict\na.mp4,\nb.mp4,true\n",
        ["line 3, column 2 (strict): strict is asked of all", "give --strict"],
    ),
    ("m.jsonl", '{"uri": "a.mp4", "id": [1, 2]}\n', ["line 1, id: [1, 2] can't be an id"]),
    ("m.jsonl", '{"uri": "a.mp4", "id": {"a": 1}}\n', ['line 1, id: {"a": 1} can\'t be an id']),
    ("m.jsonl", '{"uri": "a.mp4", "id": 1e999}\n', ["line 1, id: the number is too large"]),
    ("m.jsonl", f'{{"uri": "a.mp4", "id": {"9" * 5000}}}\n', ["line 1: ", "limit"]),
    ("m.jsonl", '{"uri": "a.mp4", "id": "\\ud83d"}\n', ["line 1, id: ", "\\ud83d", "no text has"]),
    ("m.jsonl", '{"uri": "a\\u0000.mp4"}\n', ["line 1, uri: ", "\\x00", "no text has"]),
    ("m.jsonl", '{"uri": "s3://b/\\udce9.mp4"}\n', ["line 1, uri: ", "\\udce9", "no text has"]),
    ("m.jsonl", '{"uri": ' + "[" * 100_000 + "\n", ["line 1: ", "recursion"]),
]


@pytest.mark.parametrize(("name", "text", "words"), BAD)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_wrong_is_told_with_line_and_column(name: str, text: str, words: list[str], packed: bool) -> None:
    content = text.encode("utf-8", "surrogateescape")
    said = complaint(gzip.compress(content) if packed else content, name)
    assert [word for word in words if word not in said] == [], said
    assert said.startswith(f"{name} line ")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf16_is_refused_in_words(encoding: str) -> None:
    """As spreadsheets write what they call Unicode text."""
    said = complaint("id\turi\n1\ta.mp4\n".encode(encoding))
    assert "UTF-16" in said
    assert "ave it as UTF-8" in said


def test_gzip_that_is_damaged() -> None:
    content = gzip.compress(b"uri\n" + b"".join(b"%d.mp4\n" % number for number in range(10_000)))
    for damaged in (
        content[: len(content) // 2],
        content[:-8] + b"\0" * 8,
        content[:1000] + b"\xff" * 99 + content[1099:],
    ):
        said = complaint(damaged)
        assert said.startswith("m.csv after line ") or "m.csv line" in said
    assert "after line" in complaint(content[: len(content) // 2])


def bomb(repeated: bytes, head: bytes = b"uri\n") -> bytes:
    """Of 32 MiB, in some 32 KiB."""
    return gzip.compress(head + repeated * (32 * 1024 * 1024 // len(repeated)), compresslevel=6)


@pytest.mark.parametrize("content", [bomb(b"a" * 4096), bomb(b"\n" + b"a" * 4095, b'uri\n"')], ids=["line", "cell"])
def test_what_never_ends_is_refused_before_memory_does(content: bytes) -> None:
    tracemalloc.start()
    try:
        said = complaint(content)
        assert tracemalloc.get_traced_memory()[1] < 12 * MAX_ROW_CHARACTERS
    finally:
        tracemalloc.stop()
    assert f"a row of more than {MAX_ROW_CHARACTERS} characters" in said


@pytest.mark.parametrize("head", [b"uri\n", b'{"uri": "s3://b/a"}\n'])
def test_empty_lines_without_end_are_refused(head: bytes) -> None:
    assert f"a row of more than {MAX_ROW_CHARACTERS} characters" in complaint(bomb(b"\r\n" * 2048, head))


def test_a_long_manifest_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("id,uri,note\n")
        for number in range(20_000):
            file.write(f"{number},s3://bucket/{number}.mp4,{'x' * 300}\n")
    with path.open("rb") as opened:
        rows = items_of("m.csv.gz", opened)
        first = next(rows)
        tracemalloc.start()
        count = 1 + sum(1 for _ in rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (count, first.item.id) == (20_000, "0")
    assert peak < 2_000_000
