"""Parquet as an output: a folder of closed files that whatever reads Parquet reads, at any time."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from service.jobs import parquet
from service.jobs.errors import BadInput
from service.jobs.items import Row
from service.jobs.parquet import SCHEMA
from service.jobs.sink import Sink, open_sink
from tests.server import ROOT
from tests.service.jobs.rows import failed, ok


def opened(path: Path, *, resume: bool = False, overwrite: bool = False, shard: tuple[int, int] = (0, 1)) -> Sink:
    return open_sink(path, resume=resume, overwrite=overwrite, shard=shard)


def test_the_schema_has_every_field_of_a_row() -> None:
    assert SCHEMA.names == list(Row.model_fields)


def test_rows_come_back(tmp_path: Path) -> None:
    path, rows = tmp_path / "out.parquet", [ok(0), failed(1), ok(2), ok(3)]
    with opened(path) as sink:
        for row in rows:
            sink.append(row)
    with opened(path, resume=True) as sink:
        assert list(sink.recorded()) == rows
    table = ds.dataset(path).to_table()
    assert table.schema.equals(SCHEMA)
    assert table["predictions"][0][0]["label"].as_py() == "Archery, “far”"
    assert table["code"].to_pylist() == [None, "fetch_failed", None, None]


def test_ids_are_text_and_are_found_again(tmp_path: Path) -> None:
    """Also those that a killed process left, as JSON has them, in the journal of a part that was closed."""
    path = tmp_path / "out.parquet"
    odd = [failed(0).model_copy(update={"id": json_id}) for json_id in (0, "two\nlines", True, 1.5)]
    with opened(path) as sink:
        for row in odd:
            sink.append(row)
    killed(path, odd)
    with opened(path, resume=True) as sink:
        assert [row.id for row in sink.recorded()] == ["0", "two\nlines", "true", "1.5"]
    assert ds.dataset(path).to_table()["id"].to_pylist() == ["0", "two\nlines", "true", "1.5"]


def test_what_is_there_can_be_read_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_PART_ROWS", 2)
    path = tmp_path / "out.parquet"
    with opened(path) as sink:
        for number in range(5):
            sink.append(ok(number))
            assert ds.dataset(path, schema=SCHEMA).count_rows() == (number + 1) // 2 * 2
    assert ds.dataset(path).count_rows() == 5


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def killed(path: Path, rows: list[Row], shard: tuple[int, int] = (0, 1)) -> None:
    """What a process that was killed after so many rows leaves."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with opened(copy, shard=shard) as sink:
            for row in rows:
                sink.append(row)
            shutil.copytree(copy, path, dirs_exist_ok=True)


def test_a_killed_process_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    killed(path, [ok(0), failed(1)])
    (path / ".part-00000-of-00001-000000.parquet").write_bytes(b"PAR1 torn")
    with (path / ".part-00000-of-00001.jsonl").open("ab") as journal:
        journal.write(b'{"id": "clip-2", "ur')
    with opened(path, resume=True) as sink:
        assert [row.id for row in sink.recorded()] == ["clip-0", "clip-1"]
        sink.append(ok(2))
    assert names(path) == ["part-00000-of-00001-000000.parquet", "part-00000-of-00001-000001.parquet"]
    assert ds.dataset(path).to_table()["id"].to_pylist() == ["clip-0", "clip-1", "clip-2"]


def test_a_process_that_is_killed_after_a_part_was_closed_leaves_no_row_twice(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with opened(path) as sink:
        for row in (ok(0), ok(1)):
            sink.append(row)
    killed(path, [ok(0), ok(1)])
    with opened(path, resume=True) as sink:
        assert [row.id for row in sink.recorded()] == ["clip-0", "clip-1"]
    assert names(path) == ["part-00000-of-00001-000000.parquet"]


def test_two_processes_never_write_to_one_shard(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with opened(path) as sink:
        sink.append(ok(0))
        for overwrite in (False, True):
            with pytest.raises(BadInput, match="another batch writes to it"):
                opened(path, resume=not overwrite, overwrite=overwrite)
        sink.append(ok(1))
    assert ds.dataset(path).count_rows() == 2


def test_shards_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with opened(path, shard=(0, 2)) as first, opened(path, shard=(1, 2)) as second:
        first.append(ok(0))
        second.append(ok(1))
    with opened(path, resume=True, shard=(1, 2)) as sink:
        assert [row.id for row in sink.recorded()] == ["clip-0", "clip-1"]
    with opened(path, overwrite=True, shard=(1, 2)):
        pass
    assert ds.dataset(path).to_table()["id"].to_pylist() == ["clip-0"]


def test_another_number_of_shards(tmp_path: Path) -> None:
    """Rows of closed parts count whoever wrote them; a journal belongs to the shard that began it."""
    path = tmp_path / "out.parquet"
    with opened(path, shard=(1, 2)) as sink:
        sink.append(ok(0))
    with pytest.raises(BadInput, match=r"--resume.*--overwrite"):
        opened(path)
    with opened(path, resume=True) as sink:
        assert [row.id for row in sink.recorded()] == ["clip-0"]
    killed(path, [ok(1)], shard=(1, 2))
    with pytest.raises(BadInput, match=r"interrupted here \(\.part-00001-of-00002\.jsonl\)"):
        opened(path, resume=True)
    with opened(path, overwrite=True) as sink:
        sink.append(ok(2))
    assert names(path) == ["part-00000-of-00001-000000.parquet"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.mkdir()
    (path / "thesis.docx").touch()
    for overwrite in (False, True):
        with pytest.raises(BadInput, match=r"thesis\.docx"):
            opened(path, overwrite=overwrite)
    (tmp_path / "file.parquet").touch()
    with pytest.raises(BadInput, match="is a file"):
        opened(tmp_path / "file.parquet")


def test_an_output_that_exists(tmp_path: Path) -> None:
    with opened(tmp_path / "out.parquet") as sink:
        sink.append(ok(0))
    with pytest.raises(BadInput, match=r"--resume.*--overwrite"):
        opened(tmp_path / "out.parquet")


def test_parts_of_another_version_are_left_alone(tmp_path: Path) -> None:
    """Readers take the columns of one part for those of all."""
    path = tmp_path / "out.parquet"
    with opened(path, shard=(0, 2)) as sink:
        sink.append(ok(1))
    [part] = path.iterdir()
    pq.write_table(pq.read_table(part).drop_columns(["start_seconds", "end_seconds"]), part)
    for shard in ((0, 1), (0, 2), (1, 2)):
        with pytest.raises(BadInput, match=rf"{part.name} has other columns.* --overwrite"):
            opened(path, resume=True, shard=shard)
    assert names(path) == [part.name]
    with opened(path, overwrite=True, shard=(0, 2)) as sink:
        sink.append(ok(2))
    assert ds.dataset(path).to_table()["start_seconds"].to_pylist() == [0.5]


def test_the_schema_is_documented() -> None:
    page = (ROOT / "service" / "jobs" / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    columns = (f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in SCHEMA)
    assert block.split() == " ".join(columns).split()
