from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from export import bundle as bundle_module
from export.bundle import ExportError, write_bundle
from export.certificate import difference
from export.encoder import export_encoder
from export.head import export_head, state_tensors
from models import encoders
from models.checkpoint import Checkpoint
from models.heads import LSTMDims, LSTMHead, LSTMState, Pooling
from service.bundle import CertificateDocument, read_document
from service.registry import verify
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=5, frame_height=64, frame_width=64, window_frames=4, stride_frames=2)
ROOT = Path(__file__).resolve().parents[2]


def checkpoint_of(pooling: Pooling = "mean") -> Checkpoint:
    torch.manual_seed(0)
    encoder = encoders.build("efficientnet-lite0", 64, 64)
    head = LSTMHead(LSTMDims(1280, 16, 3, pooling)).eval()
    training = {"created": "2026-01-01T00:00:00+00:00", "metrics": {"validation_accuracy": 0.5}}
    return Checkpoint(
        "drawn", ("a", "b", "c"), SPEC, encoder.name, encoder.state_dict(), head.dims, head.state_dict(), training
    )


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return checkpoint_of()


@pytest.fixture(scope="module")
def encoder_bytes(checkpoint: Checkpoint) -> bytes:
    return export_encoder(checkpoint.encoder(), 64, 64)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [draw(folder / f"{frames}.mp4", num_frames=frames).path for frames in (6, 25, 60)]


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(checkpoint, tmp_path_factory.mktemp("zoo"), "1", clips)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 7), (2, 40)])
def test_the_head_equals_pytorch_state_included(pooling: Pooling, batch: int, time: int) -> None:
    head = checkpoint_of(pooling).head()
    session = ort.InferenceSession(export_head(head))
    features = torch.rand(batch, time, 1280)
    lengths = torch.randint(1, time + 1, (batch,))
    state = LSTMState(torch.rand(batch, 16), torch.rand(batch, 16), torch.rand(batch, 16), torch.full((batch, 1), 2.0))
    names = [tensor.name for tensor in state_tensors(head)]
    feeds = {"features": features.numpy(), "lengths": lengths.numpy()} | {n: getattr(state, n).numpy() for n in names}
    outputs, *after = session.run(["outputs", *(f"{n}_out" for n in names)], feeds)
    with torch.inference_mode():
        logits, wanted = head.step(features, lengths, state)
    np.testing.assert_allclose(outputs, logits.numpy(), atol=1e-5)
    for name, values in zip(names, after, strict=True):
        np.testing.assert_allclose(values, getattr(wanted, name).numpy(), atol=1e-4)


def test_the_graphs_have_symbolic_shapes_and_one_plain_lstm(checkpoint: Checkpoint, encoder_bytes: bytes) -> None:
    head = onnx.load_from_string(export_head(checkpoint.head()))
    assert [node.op_type for node in head.graph.node].count("LSTM") == 1
    assert {"Loop", "Scan", "Slice", "Concat"}.isdisjoint(node.op_type for node in head.graph.node)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for model in (head, onnx.load_from_string(encoder_bytes))
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["features"] == ["frames", 1280]  # of the encoder, read last
    assert shapes["lengths"] == ["batch"]
    assert shapes["outputs"] == ["batch", 3]
    assert shapes["frames"] == ["frames", 64, 64, 3]
    opsets = {opset.domain: opset.version for opset in head.opset_import}
    assert opsets == {"": 18}


def test_the_encoder_takes_any_number_of_frames(checkpoint: Checkpoint, encoder_bytes: bytes) -> None:
    session = ort.InferenceSession(encoder_bytes)
    for count in (1, 2, 5, 16):
        frames = np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), np.uint8)
        with torch.inference_mode():
            wanted = checkpoint.encoder()(torch.from_numpy(frames)).numpy()
        np.testing.assert_allclose(session.run(None, {"frames": frames})[0], wanted, atol=1e-3)


def test_exporting_twice_gives_identical_bytes_without_a_machine_path(
    checkpoint: Checkpoint, encoder_bytes: bytes
) -> None:
    assert export_encoder(checkpoint.encoder(), 64, 64) == encoder_bytes
    head = export_head(checkpoint.head())
    assert export_head(checkpoint.head()) == head
    for graph in (encoder_bytes, head):
        for trace in (str(ROOT), str(Path(torch.__file__).parent), "site-packages", ".py"):
            assert trace.encode() not in graph


def test_onnx_runtime_prints_nothing(bundle: Path) -> None:
    script = """
import sys, numpy as np, onnxruntime as ort
ort.set_default_logger_severity(2)
encoder, head = (ort.InferenceSession(path) for path in sys.argv[1:])
for n in (1, 3):
    encoder.run(None, {"frames": np.zeros((n, 64, 64, 3), np.uint8)})
    state = {name: np.zeros((n, size), np.float32) for name, size in
             (("hidden", 16), ("cell", 16), ("pooled_sum", 16), ("pooled_count", 1))}
    for t in (1, 9):
        head.run(None, {"features": np.zeros((n, t, 1280), np.float32), "lengths": np.full(n, t), **state})
"""
    graphs = [str(next(bundle.parents[1].glob("encoders/*/encoder.onnx"))), str(bundle / "head.onnx")]
    done = subprocess.run([sys.executable, "-c", script, *graphs], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bundle_is_complete_proven_and_verified(bundle: Path, clips: list[Path]) -> None:
    held = verify(bundle, bundle.parents[1] / "encoders")
    assert held.model.labels == ("a", "b", "c")
    rows = {row.check: row for row in held.certificate.rows}
    assert all(row.passed for row in rows.values())
    assert rows["real clips, top-1"].cases == len(clips)
    assert not list(bundle.parents[1].glob(".export-*"))


def test_exporting_again_changes_no_byte(bundle: Path, checkpoint: Checkpoint, clips: list[Path]) -> None:
    files = sorted(path for path in bundle.parents[1].rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    write_bundle(checkpoint, bundle.parents[1], "1", clips)
    assert [path.read_bytes() for path in files] == before


def _swap_gates(model: onnx.ModelProto) -> None:
    """PyTorch's gate order, as a copy of the weights would have it."""
    for weights in model.graph.initializer:
        if weights.name == "lstm.R":
            i, o, f, c = np.split(numpy_helper.to_array(weights), 4, axis=1)
            weights.CopyFrom(numpy_helper.from_array(np.concatenate([i, f, c, o], axis=1), weights.name))


def _drop_lengths(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "LSTM":
            node.input[4] = ""


@pytest.mark.parametrize(
    ("damage", "line"), [(_swap_gates, "head outputs, grid"), (_drop_lengths, "head padding invariance")]
)
def test_a_damaged_head_fails_its_line_and_nothing_is_written(
    damage: Callable[[onnx.ModelProto], None],
    line: str,
    checkpoint: Checkpoint,
    encoder_bytes: bytes,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damaged(head: LSTMHead) -> bytes:
        model = onnx.load_from_string(export_head(head))
        damage(model)
        serialized: bytes = model.SerializeToString()
        return serialized

    monkeypatch.setattr(bundle_module, "export_head", damaged)
    monkeypatch.setattr(bundle_module, "export_encoder", lambda *_: encoder_bytes)
    with pytest.raises(ExportError, match=line):
        write_bundle(checkpoint, tmp_path, "1", clips)
    assert list(tmp_path.iterdir()) == []


def test_a_swapped_colour_order_is_caught(
    checkpoint: Checkpoint, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(encoder: encoders.ImageEncoder, height: int, width: int) -> bytes:
        encoder.mean, encoder.std = encoder.mean.flip(1), encoder.std.flip(1)
        return export_encoder(encoder, height, width)

    monkeypatch.setattr(bundle_module, "export_encoder", swapped)
    with pytest.raises(ExportError, match="encoder features"):
        write_bundle(checkpoint, tmp_path, "1", clips)


def test_without_clips_nothing_is_certified(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--clips"):
        write_bundle(checkpoint, tmp_path, "1", [])


def test_another_encoder_under_the_same_name_is_not_overwritten(
    bundle: Path, checkpoint: Checkpoint, clips: list[Path]
) -> None:
    state = {name: tensor.clone() for name, tensor in checkpoint.encoder_state.items()}
    state["cnn.network._conv_stem.weight"] *= 1.01
    other = Checkpoint(**{**vars(checkpoint), "encoder_state": state, "name": "other"})
    with pytest.raises(ExportError, match="holds another encoder"):
        write_bundle(other, bundle.parents[1], "1", clips)
    assert not (bundle.parents[1] / "other").exists()


def test_the_certificate_names_what_proved_it(bundle: Path) -> None:
    certificate = read_document(bundle / "certificate.json", CertificateDocument)
    assert certificate.versions == {
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": ort.__version__,
    }


def test_a_nan_fails_the_certificate() -> None:
    nan, zero = np.array([np.nan]), np.zeros(1)
    assert difference(nan, zero) == difference(zero, nan) == float("inf")


def test_the_clips_of_the_training_prove_when_none_are_named(checkpoint: Checkpoint, clips: list[Path]) -> None:
    folder = clips[0].parent
    trained = Checkpoint(**{**vars(checkpoint), "training": {**checkpoint.training, "data_path": str(folder)}})
    trained.save(folder / "m.pt")
    done = subprocess.run(
        [sys.executable, "-m", "export", str(folder / "m.pt"), "--out", str(folder / "zoo")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(folder) not in (folder / "zoo" / "drawn" / "1" / "model.json").read_text()


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    done = subprocess.run(
        [sys.executable, "-m", "export", str(tmp_path / "junk.pt")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not a Reelserve checkpoint" in done.stdout.replace("\n", " ")
