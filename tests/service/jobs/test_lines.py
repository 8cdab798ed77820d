"""JSONL and CSV as outputs: what was appended is there, what was torn is cut off, and two never write to one file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from service.jobs.errors import BadInput
from service.jobs.items import JsonId, id_text
from service.jobs.lines import COLUMNS, CsvSink
from service.jobs.sink import Sink, open_sink
from service.results import Segment
from tests.service.jobs.rows import failed, ok

SUFFIXES = [".jsonl", ".csv"]


def opened(path: Path, *, resume: bool = False, overwrite: bool = False) -> Sink:
    return open_sink(path, resume=resume, overwrite=overwrite, shard=(0, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"out{suffix}", [ok(0), failed(1), ok(2), ok(3)]
    with opened(path) as sink:
        for row in rows:
            sink.append(row)
    with opened(path, resume=True) as sink:
        back = list(sink.recorded())
    if suffix == ".jsonl":
        assert back == rows
    else:  # no cell has a line break
        assert [row.id for row in back] == [row.id for row in rows]
        assert [row.receipt for row in back] == [row.receipt for row in rows]
        assert back[1].message == 'can\'t be read: no such file, "really"'


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_torn_line_is_cut_off_wherever_it_was_torn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with opened(path) as sink:
        for row in (ok(0), failed(1), ok(2)):
            sink.append(row)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in [*range(start, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with opened(path, resume=True) as sink:
            assert [row.id for row in sink.recorded()] == ["clip-0", "clip-1"]
            sink.append(ok(2))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_exists(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with opened(path) as sink:
        sink.append(ok(0))
        with pytest.raises(BadInput, match="another batch writes to it"):
            opened(path, resume=True)
    with pytest.raises(BadInput, match=r"--resume.*--overwrite"):
        opened(path)
    with opened(path, overwrite=True) as sink:
        assert list(sink.recorded()) == []
    with opened(path, resume=True) as sink:
        assert list(sink.recorded()) == []


def test_csv_is_what_spreadsheets_read(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with opened(path) as sink:
        sink.append(ok(0))
        sink.append(failed(1))
    [header, good, bad] = csv.reader(io.StringIO(path.read_text(), newline=""))
    assert header == list(COLUMNS)
    assert (good[COLUMNS.index("label")], good[COLUMNS.index("score")]) == ("Archery, “far”", "0.75")
    assert bad[COLUMNS.index("code")] == "fetch_failed"
    assert (good[COLUMNS.index("abstained")], bad[COLUMNS.index("abstained")]) == ("False", "")


def test_lines_that_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"id": "1"}\n')
    with opened(path, resume=True) as sink, pytest.raises(BadInput, match=r"out\.jsonl line 1 is no row"):
        list(sink.recorded())


@pytest.mark.parametrize(
    ("name", "words"), [("out.txt", ".jsonl, .csv, .parquet"), ("absent/out.jsonl", "there is no folder")]
)
def test_a_place_that_can_be_none(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        opened(tmp_path / name)
    with pytest.raises(BadInput, match="a disk of this machine"):
        opened(Path("s3://bucket/out.jsonl"))


ODD_IDS: list[JsonId] = [
    "two\nlines", "\r", 'a "quoted", one', " ", "0", 0, False, 1.5, 10**30, "日本\u2028", "=1+1", "\x1b[b]", '"', "\n",
    r"caf\xe9",
]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_are_data(tmp_path: Path, suffix: str) -> None:
    """JSON keeps their kind; in CSV they are text, and whoever reads CSV gets each as it is."""
    path = tmp_path / f"out{suffix}"
    with opened(path) as sink:
        for json_id in ODD_IDS:
            sink.append(ok(0).model_copy(update={"id": json_id, "uri": f"a/{json_id}"}))
    with opened(path, resume=True) as sink:
        back = list(sink.recorded())
    assert [row.id_text for row in back] == [id_text(json_id) for json_id in ODD_IDS]
    if suffix == ".jsonl":
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        assert [(row["id"], type(row["id"])) for row in found] == [(each, type(each)) for each in ODD_IDS]
    else:
        cells = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1:]
        assert [cell[:2] for cell in cells] == [[id_text(each), f"a/{each}"] for each in ODD_IDS]


def test_a_torn_row_of_several_lines_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [ok(0), *(failed(1).model_copy(update={"id": f'{number}\r\n"\n"', "uri": "\n"}) for number in range(3))]
    with opened(path) as sink:
        for row in rows:
            sink.append(row)
    whole = path.read_bytes()
    with opened(path, resume=True) as sink:
        start = len(whole) - len(CsvSink.line(sink, rows[-1]))  # type: ignore[arg-type]
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        with opened(path, resume=True) as sink:
            assert [row.id for row in sink.recorded()] == [row.id for row in rows[:-1]]
            sink.append(rows[-1])
        assert path.read_bytes() == whole


def test_a_timeline_of_a_film_comes_back(tmp_path: Path) -> None:
    """csv's own limit of a cell is 131 072 characters."""
    row = ok(0).model_copy(update={"segments": [Segment(start_seconds=1, end_seconds=2, label="x", score=1)] * 5000})
    with opened(tmp_path / "out.csv") as sink:
        sink.append(row)
        assert [len(each.segments or ()) for each in sink.recorded()] == [5000]


def test_columns_of_another_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("id,uri,status\r\na,a.mp4,ok\r\n")
    with opened(path, resume=True) as sink, pytest.raises(BadInput, match=r"another version's.*--overwrite"):
        list(sink.recorded())


def test_somebody_else_s_file_of_quotes_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text('inches\n5"\nand more\n')
    with opened(path, resume=True) as sink, pytest.raises(BadInput, match=r"out\.csv line 1 is no row"):
        list(sink.recorded())
    assert path.read_text() == 'inches\n5"\nand more\n'
