"""A user's own networks, from PyTorch to the bundle that is served; and our own checkpoints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from export.__main__ import app
from export.prove.clips import ProofClip
from export.scores import score_clips
from export.source import VideoModel, load, of_checkpoint
from export.write.bundle import Options
from models import encoders
from models.checkpoint import Checkpoint
from models.heads import HeadDims
from service.bundle import ModelDocument, Task, read_document
from service.certificate import CertificateDocument
from service.engine.heads import Head
from service.engine.scorer import WindowScorer
from service.engine.sessions import open_session
from service.registry import verify
from service.video.windows import cover
from tests.export.models import (
    FEATURES,
    LABELS,
    SPEC,
    FramewiseLSTM,
    PackedGRU,
    UnpackedLast,
    sequence_head,
    video_model,
    write_scored,
)

ROOT = Path(__file__).resolve().parents[2]
HEADS: dict[str, tuple[type[nn.Module], Task, dict[str, int]]] = {
    "packed-gru": (PackedGRU, "clip", {}),
    "framewise-lstm": (
        FramewiseLSTM,
        "frame",
        {"below_hidden": 7, "below_cell": 7, "above_hidden": 5, "above_cell": 5},
    ),
    "unpacked-rnn": (UnpackedLast, "clip", {"hidden": 6}),
}


@pytest.fixture(scope="module", params=HEADS)
def exported(
    request: pytest.FixtureRequest, clips: list[ProofClip], tmp_path_factory: pytest.TempPathFactory
) -> tuple[VideoModel, Path]:
    """One model a head, and its bundle in a folder that they share."""
    head, task, _ = HEADS[request.param]
    torch.manual_seed(0)
    model = video_model(head(), task=task, name=request.param)
    return model, write_scored(model, tmp_path_factory.getbasetemp() / "zoo-of-users", clips, Options(fp16=True))


def test_a_user_s_model_is_verified_and_names_its_state(exported: tuple[VideoModel, Path]) -> None:
    model, folder = exported
    held = verify(folder, folder.parents[1] / "encoders")
    assert (held.model.name, held.model.task, held.model.labels) == (model.name, model.task, LABELS)
    assert {state.name: state.size for state in held.model.state} == HEADS[model.name][2]
    assert held.certificate.sources == model.sources
    assert held.certificate.exporters == {
        "encoder": "torch.onnx.export(dynamo=True)",
        "head": "torch.onnx.export(dynamo=True), recurrent layers as torch.onnx.ops.symbolic",
    }


def test_a_model_that_sees_every_frame_is_proven_on_frames(clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = video_model(FramewiseLSTM(), task="frame", name="every")
    model = replace(model, spec=SPEC.model_copy(update={"sample_fps": None}))
    held = verify(write_scored(model, tmp_path, clips), tmp_path / "encoders")
    assert held.model.spec.sample_fps is None
    assert {row.check: row.cases for row in held.certificate.rows}["real clips, each window"] == sum(
        len(cover(frames, model.spec)) for frames in (6, 25, 63, 5, 7, 8, 9, 11)
    )


def test_a_certificate_names_what_proved_it(exported: tuple[VideoModel, Path]) -> None:
    certificate = read_document(exported[1] / "certificate.json", CertificateDocument)
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        assert certificate.versions[package] == version(package)
    assert certificate.devices["cpu"]
    assert {row.runtime for row in certificate.rows} >= {"onnxruntime-cpu"}
    assert {row.check: row.cases for row in certificate.rows}["real clips, top-1"] == 8


def test_the_encoder_takes_any_number_of_frames_and_nothing_is_printed(
    exported: tuple[VideoModel, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported
    session = open_session(folder.parents[1] / "encoders" / "small-net-32x32" / "encoder.onnx", "onnxruntime-cpu")
    for count in (1, 2, 5, 16):
        frames = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
        with torch.inference_mode():
            wanted = model.encoder(torch.from_numpy(frames)).numpy()
        np.testing.assert_allclose(session.run(["features"], {"frames": frames})[0], wanted, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_what_is_served_is_what_pytorch_says(exported: tuple[VideoModel, Path]) -> None:
    model, folder = exported
    head = _served(folder)
    for num_ticks in (1, 3, 4, 11):
        features = np.random.default_rng(num_ticks).normal(0, 0.5, (num_ticks, FEATURES)).astype(np.float32)
        scorer = WindowScorer(head)
        for at in range(0, num_ticks, 3):
            scorer.push(features[at : at + 3])
        windows = cover(num_ticks, SPEC)
        wanted = [_pytorch(model, features[w.start : w.stop]) for w in windows]
        for window, scores in zip(windows, wanted, strict=True):
            got = head.scores([features[window.start : window.stop]])
            np.testing.assert_allclose(got if model.task == "frame" else got[0], scores, atol=1e-5)
        answer = scorer.finish()
        assert answer.windows == windows
        if model.task == "clip":
            np.testing.assert_allclose(answer.mean, np.mean(wanted, axis=0), atol=1e-5)
        else:
            totals, counts = np.zeros((num_ticks, len(LABELS))), np.zeros((num_ticks, 1))
            for window, scores in zip(windows, wanted, strict=True):
                totals[window.start : window.stop] += scores
                counts[window.start : window.stop] += 1
            np.testing.assert_allclose(answer.scores, totals / counts, atol=1e-5)


def test_a_state_that_no_one_wrote_streams_as_the_whole(exported: tuple[VideoModel, Path]) -> None:
    model, folder = exported
    session = open_session(folder / "head.onnx", "onnxruntime-cpu")
    names = list(HEADS[model.name][2])
    if not names:
        assert [node.name for node in session.get_inputs()] == ["features", "lengths"]  # bidirectional: no stream
        return
    features = np.random.default_rng(3).normal(0, 0.5, (2, 17, FEATURES)).astype(np.float32)
    state = {name: np.zeros((2, size), np.float32) for name, size in HEADS[model.name][2].items()}
    outputs = ["outputs", *(f"{name}_out" for name in names)]
    whole, *_ = session.run(outputs, {"features": features, "lengths": np.array([17, 17]), **state})
    at, parts = 0, []
    for size in (1, 6, 2, 8):
        feeds = {"features": features[:, at : at + size], "lengths": np.array([size, size]), **state}
        part, *after = session.run(outputs, feeds)
        state = dict(zip(names, after, strict=True))
        parts.append(part)
        at += size
    np.testing.assert_allclose(parts[-1] if model.task == "clip" else np.concatenate(parts, axis=1), whole, atol=1e-6)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_exporting_twice_gives_identical_bytes_without_a_machine_path(
    exporter: str, clips: list[ProofClip], tmp_path: Path
) -> None:
    contents = []
    for zoo in (tmp_path / "one", tmp_path / "two", tmp_path / "two"):  # the last over itself
        torch.manual_seed(0)
        options = Options(fp16=True, exporter=exporter, replace=True)  # type: ignore[arg-type]
        write_scored(video_model(PackedGRU()), zoo, clips, options)
        contents.append({str(path.relative_to(zoo)): path.read_bytes() for path in zoo.rglob("*") if path.is_file()})
    assert contents[0] == contents[1] == contents[2]
    assert sorted(contents[0]) == [
        "encoders/small-net-32x32/encoder.fp16.onnx",
        "encoders/small-net-32x32/encoder.json",
        "encoders/small-net-32x32/encoder.onnx",
        "mine/1/certificate.json",
        "mine/1/head.onnx",
        "mine/1/known_answer.npz",
        "mine/1/model.json",
    ]
    for name, content in contents[0].items():
        for trace in (str(ROOT), str(tmp_path), str(Path.home()) + "/", "site-packages", "torch/nn", "models.py"):
            assert trace.encode() not in content, (name, trace)


def test_the_torchscript_exporter_writes_the_same_network(clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = write_scored(video_model(PackedGRU()), tmp_path, clips, Options(exporter="torchscript"))
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    assert certificate.exporters["encoder"] == "torch.onnx.export(dynamo=False)"
    session = open_session(tmp_path / "encoders" / "small-net-32x32" / "encoder.onnx", "onnxruntime-cpu")
    assert session.get_inputs()[0].shape == ["frames", 32, 32, 3]
    assert session.get_outputs()[0].shape == ["frames", FEATURES]


def test_the_command_exports_a_user_s_factory_and_shows_the_page(
    clips_folder: Path, scores: Path, tmp_path: Path
) -> None:
    command = ["tests.export.models:build", "--out", str(tmp_path), "--clips", str(clips_folder)]
    command += ["--scores", str(scores)]
    done = subprocess.run(
        [sys.executable, "-m", "export", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    # OpenVINO is tried in bf16 as well, and says so where the CPU has none.
    complaints = [line for line in done.stderr.splitlines() if "bf16, which this CPU lacks" not in line]
    assert (done.returncode, complaints) == (0, []), done.stdout
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "mine" / "1")])
    assert shown.exit_code == 0
    for said in (
        "mine 1: certificate passed", "head outputs, grid", "real clips, top-1", "nodes misplaced",
        " Conv of the encoder on CPUExecutionProvider", "2 GRU of the head on CPUExecutionProvider",
        "encoder weights: drawn by the tests; licence: Apache-2.0", "head.onnx: sha256",
    ):  # fmt: skip
        assert said in shown.stdout
        assert said in done.stdout
    assert f"bundle: {tmp_path / 'mine' / '1'}" in done.stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("tests.export.no_such:build", "can't be imported: No module named 'tests.export.no_such'; name it as Python"),
        ("tests.export.models:no_such", "has no attribute 'no_such'"),
        ("tests.export.models:encoder", "returned a ImageEncoder, not an export.source.VideoModel"),
        ("what is this", "'what is this' is neither a file nor module:factory, as in my_package.model:build"),
        ("runs/no-such.pt", "'runs/no-such.pt' is neither a file nor module:factory"),
    ],
)
def test_a_wrong_source_is_named(source: str, said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [source, "--out", str(tmp_path / "zoo")])
    assert done.exit_code == 1
    assert done.stdout.startswith("not exported: ")
    assert said in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    done = CliRunner().invoke(app, [str(tmp_path / "junk.pt")])
    assert done.exit_code == 1
    assert "not a Reelserve checkpoint" in done.stdout


@pytest.fixture(scope="module")
def checkpoint(clips: list[ProofClip], clips_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ours, that says where its clips are."""
    torch.manual_seed(0)
    spec = SPEC.model_copy(update={"frame_height": 32, "frame_width": 32})
    encoder = encoders.build("efficientnet-lite0", 32, 32)
    head = sequence_head(HeadDims(1280, 16, 3, "attention", "gru"))
    training = {"created": "2026-01-01T00:00:00+00:00", "data_path": str(clips_folder), "data": "drawn", "curve": [1.0]}
    path = tmp_path_factory.mktemp("checkpoint") / "drawn.pt"
    trained = Checkpoint(
        "drawn", LABELS, spec, encoder.name, encoder.state_dict(), head.dims, head.state_dict(), training
    )  # fmt: skip
    replace(trained, clips=score_clips(of_checkpoint(trained), clips)).save(path)
    return path


def test_the_clips_of_the_training_prove_a_checkpoint(checkpoint: Path, clips_folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(checkpoint), "--out", str(tmp_path), "--fp16"])
    assert done.exit_code == 0, done.stdout
    held = verify(tmp_path / "drawn" / "1", tmp_path / "encoders")
    assert {row.cases for row in held.certificate.rows if row.check == "real clips, top-1"} == {8}
    assert list(held.model.training) == ["created", "data"]
    assert held.model.created == "2026-01-01T00:00:00+00:00"
    assert [source.name for source in held.certificate.sources] == ["encoder weights", "training data"]
    for path in tmp_path.rglob("*.json"):
        assert str(clips_folder) not in path.read_text()


def test_a_checkpoint_without_clips_asks_for_some(checkpoint: Path) -> None:
    stored = Checkpoint.load(checkpoint)
    stored.training["data_path"] = "/no/such/folder"
    assert of_checkpoint(stored).clips == Path("/no/such/folder")
    assert load(str(checkpoint)).clips is not None
    del stored.training["data_path"]
    assert of_checkpoint(stored).clips is None


def _served(folder: Path) -> Head:
    document = read_document(folder / "model.json", ModelDocument)
    return Head(open_session(folder / "head.onnx", "onnxruntime-cpu"), document)


def _pytorch(model: VideoModel, features: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Scores of one window by itself, in float64."""
    head = cast(Callable[..., torch.Tensor], model.head.double())
    with torch.inference_mode():
        logits = head(torch.from_numpy(features).double()[None], torch.tensor([len(features)]))[0]
    scores: np.ndarray = logits.softmax(dim=-1).numpy()  # type: ignore[type-arg]
    return scores
