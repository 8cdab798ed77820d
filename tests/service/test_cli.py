"""`python -m service`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from service.bundle import ModelDocument
from service.cli import app
from service.names import path_of
from service.parameters import AnswerParameters, ClipParameters, PredictParameters, ProbeParameters
from service.settings import Settings
from tests.bundles import on_the_zoo_s_encoder, sealed
from tests.drawn import Drawn
from tests.server import ROOT, environment
from tests.zoo import MODEL, TRAINED


def run(*arguments: object, **variables: object) -> Result:
    env = {"COLUMNS": "200"} | {f"REELSERVE_{name.upper()}": str(value) for name, value in variables.items()}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_text("This is not a video.")
    return path


def test_predict_prints_a_table(clip: Drawn, document: ModelDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.out", Console(width=400))
    result = run("predict", clip.path, "--top-k", 2)
    assert result.exit_code == 0, result.output
    best = json.loads(run("predict", clip.path, "--json").stdout)
    assert f"{MODEL} {document.version}" in result.stdout
    for line in best["predictions"][:2]:
        assert line["label"] in result.stdout
        assert f"{line['score']:.3f}" in result.stdout
    assert best["predictions"][2]["label"] not in result.stdout
    assert f"{best['receipt']['frames_used']} of 50" in result.stdout


def test_a_clip_that_is_none_of_the_labels(clip: Drawn, document: ModelDocument, tmp_path: Path) -> None:
    """Drawn colours are no action; the threshold here is one that nothing reaches."""
    abstain = {"threshold": 1.5, "kept": 0.0, "kept_accuracy": 0.0, "clips": 1}
    head = (TRAINED / "head.onnx").read_bytes()
    on_the_zoo_s_encoder(tmp_path, "shy", head, labels=document.labels, abstain=abstain)
    [said] = json.loads(f"[{run('predict', clip.path, '--json', models_dir=tmp_path).stdout}]")
    assert said["abstained"] is True
    assert len(said["predictions"]) == 3
    table = run("predict", clip.path, "--top-k", 1, models_dir=tmp_path).stdout
    assert "none" in table  # of the labels: a column as narrow as this one breaks the line there
    assert said["predictions"][0]["label"] in table


def test_predict_json_is_one_object_a_line(clip: Drawn, long_clip: Drawn) -> None:
    result = run("predict", clip.path, long_clip.path, "--json", "--top-k", 1)
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(clip.path), str(long_clip.path)]
    assert [len(line["predictions"]) for line in lines] == [1, 1]


def test_a_bad_file_stops_nothing_and_is_told(clip: Drawn, broken: Path) -> None:
    missing = broken.with_name("missing.mp4")
    empty = broken.with_name("empty.mp4")
    empty.touch()
    result = run("predict", "--json", missing, broken, empty, broken.parent, clip.path)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    codes = [line.get("code") for line in lines]
    assert codes == ["no_file", "not_a_video", "empty_file", "no_file", None]
    assert lines[0]["detail"] == f"{missing} is not a file"
    assert "4 of 5 files failed" in result.stderr


def test_a_bad_file_in_the_table(clip: Drawn, broken: Path) -> None:
    result = run("predict", broken, clip.path)
    assert result.exit_code == 1
    assert "not_a_video" in result.stdout
    assert "1 of 2 files failed" in result.stderr


def test_warnings_stand_below_the_table(clip: Drawn, tmp_path: Path) -> None:
    joined = tmp_path / "[red]two[bold]\x1b[31m.mp4"
    joined.write_bytes(clip.path.read_bytes() * 2)
    result = run("predict", joined, clip.path)
    [warning] = json.loads(run("predict", joined, "--json").stdout)["warnings"]
    assert "another file begins" in warning
    assert result.stderr == f"warning: {tmp_path}/[red]two[bold]\\x1b[31m.mp4: {warning}\n"
    assert run("predict", joined, "--json").stderr == ""


def test_an_unknown_model(clip: Drawn) -> None:
    result = run("predict", clip.path, "--model", "no-such")
    assert result.exit_code == 2
    assert "unknown_model" in result.stderr
    assert MODEL in result.stderr


def test_a_folder_without_models(clip: Drawn, tmp_path: Path) -> None:
    result = run("predict", clip.path, models_dir=tmp_path)
    assert result.exit_code == 2
    assert "not_ready" in result.stderr
    assert "no bundle is there" in result.stderr
    result = run("predict", clip.path, models_dir=tmp_path / "none")
    assert result.exit_code == 2
    assert "bad_bundle" in result.stderr


def test_a_refused_model(clip: Drawn, tmp_path: Path) -> None:
    (sealed(tmp_path, "torn") / "certificate.json").unlink()
    result = run("predict", clip.path, "--model", "torn", models_dir=tmp_path)
    assert result.exit_code == 2
    assert "certificate.json is missing" in result.stderr


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """`cats` in two versions, `dogs`, and `torn`, which is refused."""
    for version in ("1", "2"):
        sealed(tmp_path, "cats", version)
    sealed(tmp_path, "dogs")
    (sealed(tmp_path, "torn") / "certificate.json").unlink()
    return tmp_path


def test_models_are_listed_as_serve_loads_them(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.out", Console(width=200))
    lines = [json.loads(line) for line in run("models", "--json", models_dir=zoo, models="cats/1").stdout.splitlines()]
    assert [(line["name"], line["version"], line["loads"]) for line in lines] == [
        ("cats", "1", "yes"),
        ("dogs", "1", "no"),
        ("torn", "1", "refused"),
    ]
    assert [line["reason"] for line in lines[:2]] == [None, "the setting models leaves it out"]
    assert "certificate.json is missing" in lines[2]["reason"]
    size = (zoo / "cats/1/head.onnx").stat().st_size
    assert lines[0]["disk_bytes"] == size + (zoo / "encoders/tiny-encoder/encoder.onnx").stat().st_size
    assert lines[0]["head_memory_bytes"] > size
    assert lines[0]["encoder_memory_bytes"] > lines[0]["head_memory_bytes"]
    table = run("models", models_dir=zoo, default_model="dogs")
    assert table.exit_code == 0
    for words in (r"cats 2 +│ no ", r"dogs 1 +│ default ", r"torn 1 +│ refused ", r"tiny-encoder"):
        assert re.search(words, table.stdout), table.stdout


def test_models_of_which_none_is_the_default_are_listed_too(zoo: Path) -> None:
    result = run("models", "--json", models_dir=zoo)
    assert result.exit_code == 2
    assert [json.loads(line)["loads"] for line in result.stdout.splitlines()] == ["no", "no", "refused"]
    assert "bad_parameter: name a model: there are 3 (cats, dogs, torn), and none is the default" in result.stderr
    result = run("models", models_dir=zoo, models="fish")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown_model: no model is named 'fish'; there are: cats, dogs, torn" in result.stderr


def test_serve_refuses_a_model_that_is_not_there(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.execve")  # by which this process would become a server
    result = run("serve", "--models", "cats,fish", models_dir=zoo)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "unknown_model: the setting models: no model is named 'fish'; there are: cats, dogs, torn"
    ]


def test_a_model_that_is_named_is_loaded_alone(clip: Drawn, tmp_path: Path, document: ModelDocument) -> None:
    """Whatever the setting says, and beside one that would not load."""
    head = (TRAINED / "head.onnx").read_bytes()
    on_the_zoo_s_encoder(tmp_path, "mine", head, labels=document.labels)
    (sealed(tmp_path, "torn") / "certificate.json").unlink()
    result = run("predict", clip.path, "--json", "--model", "mine", models_dir=tmp_path, models="torn")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model"]["name"] == "mine"


def test_a_wrong_setting_is_named(clip: Drawn) -> None:
    result = run("predict", clip.path, runtime="tpu")
    assert result.exit_code == 2
    assert "setting runtime" in result.stderr
    assert "'tpu'" in result.stderr


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "x.mp4", "--top-k", "0"], ["nonsense"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def module(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environment(folder, settings) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_serve_help_lists_every_setting(tmp_path: Path) -> None:
    result = module(tmp_path, "serve", "--help")
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description is not None
        assert " ".join(field.description.split()) in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "setting port is '99999'; give a whole number from 1 to 65535"),
        (["--no-such-flag", "1"], "no-such-flag"),
    ],
)
def test_serve_refuses_a_wrong_flag(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = module(tmp_path, "serve", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_configuration_file_is_told_in_a_line(clip: Drawn, tmp_path: Path) -> None:
    result = run("predict", clip.path, config=tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "none.toml" in result.stderr


def test_help_names_the_commands(tmp_path: Path) -> None:
    result = module(tmp_path, "--help")
    assert result.returncode == 0
    assert {"serve", "predict"} <= set(result.stdout.split())


ODD = [
    b"[red]a [b].mp4", b"a::b.mp4", b"100%25#t=1?x.mp4", b"two\nlines\x1b[31m.mp4", b"-x.mp4", b" lead and trail ",
    b":smile:.mp4", b"caf\xe9.mp4", "日本 \u202e😀.mp4".encode(), b"'\"\\.mp4", b"*.mp4",
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, clip: Drawn) -> Path:
    """Copies of one clip, in a folder whose name is no UTF-8 either."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path_factory.mktemp("odd")) + b"/fold\xe9r"))
    folder.mkdir()
    for name in ODD:
        (folder / os.fsdecode(name)).hardlink_to(clip.path)
    return folder


@pytest.mark.parametrize("command", ["predict", "probe"])
def test_names_are_data(odd: Path, command: str) -> None:
    """Of any bytes, in the table and in JSON, of files that are there and that are not."""
    env = environment(odd.parent, {}) | {"COLUMNS": "150", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "service", command]
    files: list[bytes] = [b"--", *ODD, b"[/b] absent\x07.mp4"]
    said = subprocess.run([*words, *files], cwd=odd, env=env, capture_output=True, check=False)
    assert said.returncode == 1, said.stderr
    text = said.stdout.decode()
    assert text.isprintable() or not set(text) & set("\x1b\x07\u202e")
    for shown in (
        "[red]a [b].mp4",
        ":smile:.mp4",
        r"two\nlines\x1b[31m.mp4",
        r"caf\xe9.mp4",
        "日本",
        r"absent\x07.mp4",
    ):
        assert shown in text
    said = subprocess.run([*words, "--json", *files], cwd=odd, env=env, capture_output=True, check=False)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert [os.fsencode(path_of(line["file"])) for line in lines] == files[1:]
    assert [line.get("code") for line in lines] == [None] * len(ODD) + ["no_file"]
    assert said.stdout.decode().encode("utf-8", "strict")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--top-k", "0"], "--top-k is '0'; give a whole number of labels from 1 to 1000"),
        (["predict", "--top-k", "true"], "--top-k is 'true'; give a whole number of labels from 1 to 1000"),
        (["predict", "--top-k", "1", "--top-k", "2"], "--top-k is given twice; give it once"),
        (["probe", "--model", "a", "--model=b", "--model", "c"], "--model is given 3 times; give it once"),
        (["batch", "--out", "a.jsonl", "--out", "b.jsonl"], "--out is given twice; give it once"),
        (["batch", "--out", "a.jsonl", "--shard", "0/4", "--shard=1/4"], "--shard is given twice; give it once"),
        (["batch", "--out", "a.jsonl", "--engine", "ray", "--engine", "local"], "--engine is given twice; give it"),
        (["batch", "--out", "a.jsonl", "--allow", "a", "--allow", "b", "--top-k", "x"], "--top-k is 'x'; give a whole"),
        (["predict", "--start-seconds", "nan"], "--start-seconds is 'nan'; give a number of seconds from 0"),
        (["predict", "--end-seconds", "-1"], "--end-seconds is '-1'; give a number of seconds above 0"),
        (
            ["predict", "--start-seconds", "2", "--end-seconds", "1"],
            "end_seconds is 1, start_seconds is 2, and the end",
        ),
        (["predict", "--window", "8", "--stride", "9"], "stride 9 is more than the window's 8 ticks"),
        (["predict", "--smoothing", "2"], "smoothing is 2, and an even mean has no centre; give 3"),
        (["probe", "--model", ""], "--model is empty; give a line of text"),
        (["batch", "--out", "out.jsonl", "--top-k", "x"], "--top-k is 'x'; give a whole number of labels"),
        (["batch", "--out", "out.jsonl", "--min-score", "high"], "--min-score is 'high'; give a number from 0 to 1"),
        (
            ["batch", "--out", "a.jsonl", "--end-seconds", "3"],
            "--end-seconds is no option; give end_seconds in the man",
        ),
        (["predict", "--min-score", "1.5"], "--min-score is '1.5'; give a number from 0 to 1"),
    ],
)
def test_flags_are_refused_in_the_words_of_the_api(clip: Drawn, arguments: list[str], words: str) -> None:
    result = run(arguments[0], clip.path, *arguments[1:])
    assert result.exit_code == 2
    assert result.stderr.startswith("bad_parameter: ")
    assert words in result.stderr


@pytest.mark.parametrize("command", ["predict", "batch"])
def test_a_flag_that_is_unknown(clip: Drawn, command: str) -> None:
    result = run(command, clip.path, "--topk", "1")
    assert result.exit_code == 2
    assert "--top-k" in result.stderr


@pytest.mark.parametrize(
    ("command", "parameters"),
    [("predict", PredictParameters), ("batch", AnswerParameters), ("probe", ProbeParameters)],
)
def test_each_parameter_is_a_flag_with_its_meaning(command: str, parameters: type[ClipParameters]) -> None:
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", run(command, "--help").stdout)
    for name, field in parameters.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert str(field.description) in text


def test_a_stream_is_asked_for_by_its_number(tmp_path: Path) -> None:
    two = ROOT / "tests" / "assets" / "cases" / "two.mp4"
    for flags, size in (((), (320, 240)), (("--stream", 0), (160, 120))):
        receipt = json.loads(run("predict", two, "--json", *flags).stdout)["receipt"]
        video = json.loads(run("probe", two, "--json", *flags).stdout)["video"]
        assert run("batch", two, "--out", tmp_path / "out.jsonl", "--overwrite", *flags).exit_code == 0
        row = json.loads((tmp_path / "out.jsonl").read_text())
        for seen in (receipt, video, row["receipt"]):
            assert (seen["width"], seen["height"]) == size
    refused = run("predict", two, "--json", "--stream", 2)
    assert (refused.exit_code, json.loads(refused.stdout)["code"]) == (1, "no_such_stream")


def test_predict_takes_a_part_of_a_clip(long_clip: Drawn) -> None:
    result = run("predict", long_clip.path, "--json", "--start-seconds", "2", "--end-seconds", "3", "--min-score", "0")
    answer = json.loads(result.stdout)
    assert answer["segments"][0]["start_seconds"] == 2.0
    assert answer["segments"][-1]["end_seconds"] <= 3.25
    past = run("predict", long_clip.path, "--json", "--start-seconds", "20")
    assert past.exit_code == 1
    said = json.loads(past.stdout)
    assert said["code"] == "past_the_end"
    assert said["detail"].startswith("start_seconds is 20, and the video ends at 10.5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-uplod-bytes", "3"], "no parameter --max-uplod-bytes; did you mean --max-upload-bytes"),
        (["--port", "1", "--port=2"], "--port is given twice; give it once"),
        (["--port"], "expected one argument"),
        (["--max-upload-bytes", "-3"], "setting max_upload_bytes is '-3'; give a whole number of bytes, 1 or more"),
        (["--require-gpu", "maybe"], "setting require_gpu is 'maybe'; give true or false"),
        (["--log-level", "x"], "setting log_level is 'x'; give DEBUG or INFO or WARNING or ERROR"),
        (["--request-timeout-seconds", "1e9"], "request_timeout_seconds 1e+09 is more than max_request_timeout_second"),
    ],
)
def test_serve_refuses_a_setting_in_a_line(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.execve")  # by which this process would become a server
    result = run("serve", *arguments)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert words in line


def test_settings_of_a_file_are_refused_in_lines_that_hold_no_secret(clip: Drawn, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('max_uplod_bytes = 3\njobs_url = ["hunter2"]\n')
    result = run("probe", clip.path, config=tmp_path / "c.toml")
    assert result.exit_code == 2
    assert "the file has no parameter max_uplod_bytes; did you mean max_upload_bytes" in result.stderr
    assert "setting jobs_url is " in result.stderr
    assert "hunter2" not in result.stderr
