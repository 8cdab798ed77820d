"""`python -m service batch`: rows of good and bad files, exit codes, and going on after whatever ended it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from service.jobs.command import _progress
from service.jobs.items import Row
from service.jobs.sink import open_sink
from service.names import path_of
from tests.drawn import Drawn
from tests.server import DEADLINE_SECONDS, ROOT, environment, wait_until
from tests.service.jobs.rows import failed, ok


def command(folder: Path, *arguments: object, **settings: object) -> subprocess.Popen[str]:
    """The batch, in `folder`, without a feature cache: a clip that is there twice costs twice."""
    ours = {"spool_dir": folder / "spool", "feature_cache_bytes": 0, **settings}
    env = {**environment(folder, ours), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    words = [sys.executable, "-m", "service", "batch", *map(str, arguments)]
    return subprocess.Popen(words, cwd=folder, env=env, text=True, stderr=subprocess.PIPE, start_new_session=True)


def batch(folder: Path, *arguments: object, status: int = 0, **settings: object) -> str:
    """Run it to its end; what it said."""
    with command(folder, *arguments, **settings) as process:
        said = process.communicate(timeout=DEADLINE_SECONDS)[1]
    assert process.returncode == status, said
    return said


def rows(path: Path) -> list[Row]:
    shard = (0, 1)
    with open_sink(path, resume=True, overwrite=False, shard=shard) as sink:
        return list(sink.recorded())


def copies(clip: Drawn, folder: Path, count: int) -> list[str]:
    """As many files of one clip, by name."""
    folder.mkdir()
    names = [f"{number:03d}.mp4" for number in range(count)]
    for name in names:
        shutil.copy(clip.path, folder / name)
    return [str(Path(folder.name) / name) for name in names]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_bad_file_is_a_row_and_ends_nothing(tmp_path: Path, clip: Drawn, suffix: str) -> None:
    names = copies(clip, tmp_path / "clips", 3)
    (tmp_path / "clips" / "001.mp4").write_text("This is not a video.")
    out = tmp_path / f"out{suffix}"
    said = batch(tmp_path, "clips", "--out", out.name, "--top-k", 2, status=1)
    assert "1 items failed" in said
    found = {row.id: row for row in rows(out)}
    assert sorted(found) == names
    assert (found[names[1]].status, found[names[1]].code) == ("error", "not_a_video")
    for name in (names[0], names[2]):
        row = found[name]
        assert row.status == "ok"
        assert row.predictions is not None and len(row.predictions) == 2  # noqa: PT018
        assert row.receipt is not None and row.receipt.frames_walked == 50  # noqa: PT018
    assert [path.name for path in (tmp_path / "spool").iterdir()] == []
    again = batch(tmp_path, "clips", "--out", out.name, "--resume", status=1)
    assert "3 of 3 are recorded already" in again
    assert len(rows(out)) == 3


def test_a_manifest_gives_ids_and_trims(tmp_path: Path, long_clip: Drawn) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        f"id,path,start_seconds,end_seconds,camera\nhead,{long_clip.path},0,2,a\ntail,{long_clip.path},8,,b\n"
        f"beyond,{long_clip.path},99,,b\n"
    )
    batch(tmp_path, manifest, "--out", "out.jsonl", status=1)
    found = {row.id: row for row in rows(tmp_path / "out.jsonl")}
    head, tail = found["head"], found["tail"]
    assert head.segments is not None and head.segments[-1].end_seconds <= 2.2  # noqa: PT018
    assert tail.segments is not None and tail.segments[0].start_seconds == pytest.approx(8.0, abs=0.2)  # noqa: PT018
    assert (found["beyond"].status, found["beyond"].code) == ("error", "past_the_end")
    parts = {row.id: (row.start_seconds, row.end_seconds) for row in found.values()}
    assert parts == {"head": (None, 2.0), "tail": (8.0, None), "beyond": (99.0, None)}


ODD = [
    b"[red]a[b].mp4", b"a::b.mp4", b"50%#?.mp4", b"two\nlines\x1b[31m.mp4", b"-x.mp4", b" lead and trail.mp4 ",
    "日本 😀\u2028.mp4".encode(), b"caf\xe9.mp4", b"caf\xea.mp4", rb"caf\xe9.mp4", b'a"b,c.mp4', b"*.mp4",
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_names_are_data(tmp_path: Path, clip: Drawn, suffix: str) -> None:
    """Each name has its row, which a resumed batch finds, and which leads back as a manifest's line."""
    (tmp_path / "clips [b]").mkdir()
    for name in ODD:
        (tmp_path / "clips [b]" / os.fsdecode(name)).hardlink_to(clip.path)
    (tmp_path / "clips [b]" / "notes.t[x]t").touch()
    out = tmp_path / f"out{suffix}"
    said = batch(tmp_path, "clips [b]", "--out", out.name)
    assert "passed over 1 file that is no video: 1 .t[x]t\n" in said
    found = rows(out)
    assert {row.status for row in found} == {"ok"}
    assert sorted(os.fsencode(path_of(row.id_text)) for row in found) == sorted(b"clips [b]/" + name for name in ODD)
    assert [row.uri for row in found] == [row.id for row in found]
    assert f"{len(ODD)} of {len(ODD)} are recorded already" in batch(
        tmp_path, "clips [b]", "--out", out.name, "--resume"
    )
    if suffix == ".jsonl":
        lines = [{"id": number, "uri": row.uri} for number, row in enumerate(found)]
        (tmp_path / "again.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
        batch(tmp_path, "again.ndjson", "--out", "again.jsonl")
        again = rows(tmp_path / "again.jsonl")
        assert sorted((row.id, row.uri) for row in again) == [(line["id"], line["uri"]) for line in lines]
        assert {row.status for row in again} == {"ok"}


def test_errors_name_names_as_they_are(tmp_path: Path) -> None:
    said = batch(tmp_path, "[/b] absent\x1b", "--out", "out.jsonl", status=2)
    assert said == "bad_input: [/b] absent\\x1b names no video\n"
    (tmp_path / "[m].jsonl").write_text('{"id": 1, "path": "a"}\n{"id": "1", "path": "[/b]"}\n')
    said = batch(tmp_path, "[m].jsonl", "--out", "out.jsonl", status=2)
    assert said == "bad_input: [m].jsonl line 2, id: id 1 stands at [m].jsonl line 1 already; each needs its own\n"


@pytest.mark.parametrize(
    ("suffix", "how", "status"),
    [
        (".csv", signal.SIGKILL, -signal.SIGKILL),
        (".parquet", signal.SIGKILL, -signal.SIGKILL),
        (".jsonl", signal.SIGTERM, 130),
        (".parquet", signal.SIGINT, 130),
    ],
)
def test_resume_loses_nothing_and_repeats_nothing(
    tmp_path: Path, clip: Drawn, suffix: str, how: signal.Signals, status: int
) -> None:
    names = copies(clip, tmp_path / "clips", 40)
    out = tmp_path / f"out{suffix}"
    with command(tmp_path, "clips", "--out", out.name) as process:
        wait_until(lambda: recorded_lines(out) > 3 or process.poll() is not None, "the first rows")
        process.send_signal(how)
        said = process.communicate(timeout=DEADLINE_SECONDS)[1]
    assert process.returncode == status, said
    assert ("--resume" in said) == (how != signal.SIGKILL)
    before = recorded_lines(out)
    assert 3 < before < 40
    said = batch(tmp_path, "clips", "--out", out.name, "--resume")
    already = int(said.partition(" of 40 are recorded already")[0].rpartition(" ")[2] or 0)
    assert already in (before, before - 1)  # a last line may be torn
    assert sorted(row.id for row in rows(out)) == names


def recorded_lines(out: Path) -> int:
    """Rows that are in the output, in whatever state it is."""
    if out.suffix != ".parquet":
        return out.read_bytes().count(b"\n") - (out.suffix == ".csv") if out.exists() else 0
    closed: int = sum(ds.dataset(part).count_rows() for part in out.glob("part-*.parquet"))
    return closed + sum(journal.read_bytes().count(b"\n") for journal in out.glob(".part-*.jsonl"))


def test_a_killed_batch_leaves_no_process(tmp_path: Path, clip: Drawn) -> None:
    copies(clip, tmp_path / "clips", 40)
    with command(tmp_path, "clips", "--out", "out.jsonl") as process:
        wait_until(lambda: recorded_lines(tmp_path / "out.jsonl") > 1, "the first rows")
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)
    wait_until(lambda: not in_session(process.pid), "its decoders to end")


def in_session(session: int) -> list[str]:
    """Processes of a session, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(session) and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_shards_do_each_item_once(tmp_path: Path, clip: Drawn) -> None:
    names = copies(clip, tmp_path / "clips", 8)
    shards = [command(tmp_path, "clips", "--out", "out.parquet", "--shard", f"{index}/2") for index in range(2)]
    for shard in shards:
        with shard:
            shard.communicate(timeout=DEADLINE_SECONDS)
        assert shard.returncode == 0
    assert sorted(ds.dataset(tmp_path / "out.parquet").to_table()["id"].to_pylist()) == names


def test_the_rows_are_those_of_predict(tmp_path: Path, long_clip: Drawn) -> None:
    """Online and in a batch: the same pipeline."""
    batch(tmp_path, long_clip.path, "--out", "out.jsonl")
    words = [sys.executable, "-m", "service", "predict", "--json", "--top-k", "5", str(long_clip.path)]
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path, {}), capture_output=True, check=True, timeout=120)
    online, [row] = json.loads(done.stdout), rows(tmp_path / "out.jsonl")
    said = row.model_dump(mode="json", exclude_none=True)
    assert said["segments"] == online["segments"]
    assert said["model"] == online["model"]
    assert [p["label"] for p in said["predictions"]] == [p["label"] for p in online["predictions"]]
    assert said["predictions"][0]["score"] == pytest.approx(online["predictions"][0]["score"], abs=1e-5)


def broken_manifest(folder: Path) -> list[object]:
    (folder / "m.csv").write_text("uri,start_seconds\nclips/000.mp4,0\nclips/000.mp4,soon\n")
    return ["m.csv"]


def twice(folder: Path) -> list[object]:
    return ["clips/000.mp4", folder.joinpath("clips").relative_to(folder)]


def nothing_there(folder: Path) -> list[object]:
    (folder / "empty").mkdir()
    return ["empty"]


@pytest.mark.parametrize(
    ("inputs", "out", "words"),
    [
        (broken_manifest, "out.jsonl", ["bad_input", "m.csv line 3", "'soon'"]),
        (twice, "out.jsonl", ["bad_input", "id clips/000.mp4 stands at clips/000.mp4 already"]),
        (nothing_there, "out.jsonl", ["bad_input", "empty names no video"]),
        (lambda folder: ["clips", "--model", "absent"], "out.jsonl", ["unknown_model", "absent"]),
        (lambda folder: ["clips"], "absent/out.jsonl", ["bad_input", "no folder"]),
        (lambda folder: ["clips"], "out.xlsx", ["bad_input", ".jsonl, .csv, .parquet"]),
        (lambda folder: ["clips", "--shard", "2/2"], "out.jsonl", ["bad_input", "--shard 2/2"]),
        (lambda folder: ["https://127.0.0.1:1/a.mp4"], "out.jsonl", ["uri_not_allowed", "--allow"]),
    ],
)  # fmt: skip
def test_bad_input_is_said_before_anything_is_done(
    tmp_path: Path, clip: Drawn, inputs: Callable[[Path], list[object]], out: str, words: list[str]
) -> None:
    copies(clip, tmp_path / "clips", 1)
    said = batch(tmp_path, *inputs(tmp_path), "--out", out, status=2)
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.glob("out*")] == []


def test_an_output_that_exists_is_left_as_it_is(tmp_path: Path, clip: Drawn) -> None:
    copies(clip, tmp_path / "clips", 2)
    (tmp_path / "out.jsonl").write_text("mine\n")
    said = batch(tmp_path, "clips", "--out", "out.jsonl", status=2)
    assert "--resume" in said
    assert "out.jsonl line 1 is no row" in batch(tmp_path, "clips", "--out", "out.jsonl", "--resume", status=2)
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"
    batch(tmp_path, "clips", "--out", "out.jsonl", "--overwrite")
    assert len(rows(tmp_path / "out.jsonl")) == 2


def test_a_log_gets_lines_instead_of_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("service.jobs.command._LINE_SECONDS", 0.0)
    with _progress(4, 1) as progress:
        progress.told(ok(0))
        progress.told(failed(1))
    assert progress.num_failed == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 of 4 are recorded already"
    assert re.fullmatch(r"2 of 4, [0-9.]+ clips/s, \d+ s left, 0 failed", lines[1])
    assert re.fullmatch(r"3 of 4, [0-9.]+ clips/s, \d+ s left, 1 failed", lines[2])
