"""Every known kind of broken export, and the line of the certificate that stops it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.errors import CheckFailed, ExportError
from export.prove.clips import ProofClip
from export.prove.structure import faults
from export.source import VideoModel
from export.trace.encoder import export_encoder
from export.trace.head import HeadGraph, export_head
from export.write import bundle as bundle_module
from export.write.bundle import Options
from models.heads import HeadDims, SequenceHead
from service.certificate import CertificateRow
from service.differences import difference
from tests.export import damage
from tests.export.damage import Graph, Module
from tests.export.models import FEATURES, LABELS, encoder, sequence_head, video_model, write_scored

HEAD, ENCODER = "head graph, faults", "encoder graph, faults"
OUTPUTS, STATE, FEATURES_LINE = "head outputs, grid", "head state, grid", "encoder features, random frames"


@dataclass(frozen=True)
class Broken:
    """line: of the certificate, that stops it; says: part of its message; of: the head that is broken, cell and more.

    graph: damages the head's bytes (`encoder`: the encoder's); module: gives what is exported in place of the module.
    """

    line: str
    says: str
    graph: Graph | None = None
    module: Module | None = None
    of: str = "lstm"
    encoder: bool = False


BROKEN: dict[str, Broken] = {
    "time frozen in an input's shape": Broken(
        HEAD, "features: dimension 1 is 5, not `time`", damage.frozen_in_metadata("features", 1, 5)
    ),
    "time frozen in the output's shape": Broken(
        HEAD, "outputs: dimension 1 is 5, not `time`", damage.frozen_in_metadata("outputs", 1, 5), of="lstm frames"
    ),
    "time frozen inside": Broken(
        OUTPUTS, "reshape", damage.frozen_inside("outputs", (-1, 5, len(LABELS))), of="lstm frames"
    ),
    "batch of one in a shape": Broken(
        HEAD, "outputs: dimension 0 is 1, not `batch`", damage.frozen_in_metadata("outputs", 0, 1)
    ),
    "batch of one in the state's shape": Broken(
        HEAD, "hidden_out: dimension 0 is 1, not `batch`", damage.frozen_in_metadata("hidden_out", 0, 1)
    ),
    "batch of one inside": Broken(OUTPUTS, "reshape", damage.frozen_inside("outputs", (1, len(LABELS)))),
    "batch of one as initial state": Broken(
        OUTPUTS, "initial_h", damage.batch_of_one_as_initial_state, of="lstm bidirectional"
    ),
    "frames of one in the encoder's shape": Broken(
        ENCODER, "frames: dimension 0 is 1", damage.frozen_in_metadata("frames", 0, 1), encoder=True
    ),
    "frames of one inside the encoder": Broken(
        FEATURES_LINE,
        "invalid dimensions for output: features for the following indices index: 0 Got: 32 Expected: 1",
        damage.frozen_inside("features", (1, FEATURES)),
        encoder=True,
    ),
    "wrong normalisation": Broken(FEATURES_LINE, "batch", module=damage.imagenet_normalisation, encoder=True),
    "wrong range of pixels": Broken(FEATURES_LINE, "batch", module=damage.pixels_up_to_255, encoder=True),
    "swapped RGB": Broken(FEATURES_LINE, "batch", module=damage.Bgr, encoder=True),
    "stale encoder": Broken(FEATURES_LINE, "batch", module=damage.other_epoch("cnn.stem"), encoder=True),
    "stale last layer of the encoder": Broken(
        FEATURES_LINE, "batch", module=damage.other_epoch("cnn.project"), encoder=True
    ),
    "stale recurrent weights": Broken(OUTPUTS, "batch", module=damage.other_epoch("rnn")),
    "stale classifier": Broken(OUTPUTS, "batch", module=damage.other_epoch("classifier")),
    "stale attention": Broken(OUTPUTS, "batch", module=damage.other_epoch("attention"), of="gru attention"),
    "dropped lengths": Broken(HEAD, "has no sequence_lens: padding reaches its state", damage.drop_input(4)),
    "lengths of the whole batch": Broken(OUTPUTS, "batch", damage.lengths_of_all_frames),
    "state not carried": Broken(HEAD, "does not start from the state that is given", damage.drop_input(5)),
    "cell not carried": Broken(HEAD, "does not start from the state that is given", damage.drop_input(6)),
    "swapped gates": Broken(OUTPUTS, "batch", damage.swap_gates),
    "GRU that resets before the product": Broken(
        OUTPUTS, "batch", damage.attribute("linear_before_reset", 0), of="gru"
    ),
    "RNN with another activation": Broken(OUTPUTS, "batch", damage.attribute("activations", ["Relu"]), of="rnn"),
    "dropped peepholes": Broken(OUTPUTS, "batch", damage.drop_input(7), of="peephole-lstm"),
    "bidirectional as forward only": Broken(OUTPUTS, "batch", damage.forward_only, of="lstm bidirectional"),
    "swapped directions": Broken(OUTPUTS, "batch", damage.swap_directions, of="lstm bidirectional"),
    "reverse instead of forward": Broken(OUTPUTS, "batch", damage.attribute("direction", "reverse"), of="gru"),
    "newer opset": Broken(HEAD, "opset 22 is not in 17–20: newer ones put the RNN on the CPU", damage.opset_22),
    "newer opset of the encoder": Broken(ENCODER, "opset 22 is not in 17–20", damage.opset_22, encoder=True),
    "weights packed at every run": Broken(HEAD, "pack (Concat) is computed from constants", damage.repack_weights),
    "weights turned at every run": Broken(HEAD, "turn (Transpose) is computed from const", damage.transpose_weights),
    "a path of the machine": Broken(HEAD, "a trace of this machine is inside: .py", damage.path_inside),
    "a path inside the encoder": Broken(ENCODER, "a trace of this machine is inside", damage.path_inside, encoder=True),
    "a loop": Broken(HEAD, "loop (Loop) is a loop or branch", damage.loop),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_export_stops_at_its_line(
    kind: str, clips: list[ProofClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BROKEN[kind]
    _export_broken(broken, monkeypatch)
    _write_an_earlier_bundle(tmp_path)
    before = _files(tmp_path)
    rows: list[CertificateRow] = []
    model = video_model(_head(broken.of), task="frame" if broken.of.endswith("frames") else "clip")
    with pytest.raises(CheckFailed, match="^" + re.escape(broken.line)) as failed:
        write_scored(model, tmp_path, clips, Options(replace=True), rows.append)
    assert broken.says.lower() in str(failed.value).lower()
    assert [row.check for row in rows if not row.passed] == [broken.line] == [rows[-1].check]
    assert _files(tmp_path) == before


def test_an_unbroken_export_passes_every_line(clips: list[ProofClip], tmp_path: Path) -> None:
    rows: list[CertificateRow] = []
    head = sequence_head(HeadDims(FEATURES, 6, len(LABELS)))
    write_scored(video_model(head), tmp_path, clips, Options(fp16=True), rows.append)
    assert {broken.line for broken in BROKEN.values()} <= {row.check for row in rows if row.passed}
    assert {row.precision for row in rows} == {"fp32", "fp16"}
    assert {"encoder graph, faults", "nodes misplaced"} <= {row.check for row in rows if row.precision == "fp16"}


def test_an_encoder_that_drifts_in_fp16_is_caught(clips: list[ProofClip], tmp_path: Path) -> None:
    """Features as the difference of two numbers that float16 rounds to one."""
    model = _scaled(1, 1)
    with torch.no_grad():
        model.encoder.get_parameter("cnn.residual.bias").add_(100)
        weight = model.encoder.get_parameter("cnn.project.weight")
        model.encoder.get_parameter("cnn.project.bias").sub_(100 * weight.sum(dim=1))
    with pytest.raises(CheckFailed, match=rf"^{FEATURES_LINE} \(onnxruntime-cpu, fp16, measured on cpu\)"):
        write_scored(model, tmp_path / "zoo", clips, Options(fp16=True))
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    ("norm", "residual", "named"),
    [(1, 1e6, "cnn.residual.weight"), (1e3, 1e3, "cnn.residual.conv")],
    ids=["weights", "activations"],
)
def test_an_encoder_that_overflows_in_fp16_is_caught(
    norm: float, residual: float, named: str, clips: list[ProofClip], tmp_path: Path
) -> None:
    """The same features in float32, by way of numbers beyond float16's 65504; a CPU's fp16 would not show it."""
    model = _scaled(norm, residual)
    write_scored(model, tmp_path / "fp32", clips)
    with pytest.raises(
        ExportError, match=rf"^{named} of the encoder reaches [\d.e+]+, .*65504.*export without --fp16$"
    ):
        write_scored(model, tmp_path / "zoo", clips, Options(fp16=True))
    assert not (tmp_path / "zoo").exists()


def test_a_nan_is_the_largest_difference() -> None:
    nan, zero = np.array([np.nan]), np.zeros(1)
    assert difference(nan, zero) == difference(zero, nan) == difference(zero, np.zeros(2)) == np.inf


def test_three_letters_in_the_weights_are_no_path() -> None:
    head = sequence_head(HeadDims(FEATURES, 6, len(LABELS)))
    graph = HeadGraph(head, FEATURES, "clip")
    model = onnx.load_from_string(export_head(graph))
    tensor = model.graph.initializer[0]
    tensor.raw_data = b"x.py" + tensor.raw_data[4:]
    assert faults(model, graph.axes, 2) == []


def _export_broken(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    def head(graph: HeadGraph) -> bytes:
        if broken.encoder or broken.module is None:
            return _damaged(_sound_head(broken.of), None if broken.encoder else broken.graph)
        return export_head(HeadGraph(broken.module(graph.module), graph.feature_size, graph.task))

    def image_encoder(module: nn.Module, *rest: object) -> bytes:
        if not broken.encoder:
            return _sound_encoder()
        if broken.module is None:
            return _damaged(_sound_encoder(), broken.graph)
        return export_encoder(broken.module(module), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_module, "export_head", head)
    monkeypatch.setattr(bundle_module, "export_encoder", image_encoder)


def _damaged(content: bytes, graph: Graph | None) -> bytes:
    if graph is None:
        return content
    model = onnx.load_from_string(content)
    graph(model)
    damaged: bytes = model.SerializeToString()
    assert damaged != content
    return damaged


@functools.cache
def _sound_encoder() -> bytes:
    return export_encoder(encoder(), 32, 32)


@functools.cache
def _sound_head(of: str) -> bytes:
    return export_head(HeadGraph(_head(of), FEATURES, "frame" if of.endswith("frames") else "clip"))


def _head(of: str) -> SequenceHead:
    """`lstm bidirectional`: the cell, and what is more about it."""
    cell, _, more = of.partition(" ")
    pooling = {"frames": "none", "attention": "attention"}.get(more, "last")
    return sequence_head(HeadDims(FEATURES, 6, len(LABELS), pooling, cell, bidirectional=more == "bidirectional"))  # type: ignore[arg-type]


def _write_an_earlier_bundle(out: Path) -> None:
    (out / "mine" / "1").mkdir(parents=True)
    (out / "encoders" / "small-net-32x32").mkdir(parents=True)
    for name in ("mine/1/head.onnx", "mine/1/MODEL_CARD.md", "encoders/small-net-32x32/encoder.onnx"):
        (out / name).write_text(f"the {name} of yesterday")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def _scaled(norm: float, residual: float) -> VideoModel:
    """The encoder of the tests by way of other magnitudes."""
    model = video_model(sequence_head(HeadDims(FEATURES, 6, len(LABELS))))
    factors = {"norm.weight": norm, "norm.bias": norm, "residual.weight": residual}
    with torch.no_grad():
        for name, factor in factors.items():
            model.encoder.get_parameter(f"cnn.{name}").mul_(factor)
        model.encoder.get_parameter("cnn.project.weight").div_(norm * residual)
    return model
