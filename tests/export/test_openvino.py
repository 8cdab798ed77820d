"""OpenVINO in the certificate: proven as it is served, and left out where it is not good enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.errors import CheckFailed
from export.prove import placement as placement_module
from export.prove import proof as proof_module
from export.prove.clips import ProofClip
from export.prove.placement import misplaced, openvino_placement
from export.prove.proof import Proof
from export.write.bundle import Options
from models import encoders
from models.heads import HeadDims
from service.bundle import Precision
from service.certificate import ENCODER_LINES, CertificateDocument, CertificateRow, Placement
from service.engine.openvino_runtime import compile_encoder, has_bf16
from service.registry import Bundle, verify
from service.tolerances import TOLERANCES, Tolerance, tolerance_of
from tests.export.models import build, sequence_head, video_model, write_scored
from tests.zoo import TRAINED_ENCODER

FILES = ("mine/1/head.onnx", "mine/1/model.json", "encoders/small-net-32x32/encoder.onnx")
bf16_here = pytest.mark.skipif(not has_bf16(), reason="this CPU computes no bf16")


def exported(clips: list[ProofClip], out: Path) -> Bundle:
    write_scored(build(), out, clips, Options(openvino=True))
    return verify(out / "mine" / "1", out / "encoders")


def where_convolutions_are(certificate: CertificateDocument) -> set[tuple[int, str]]:
    return {
        (line.nodes, line.provider)
        for line in certificate.placement
        if (line.runtime, line.op_type) == ("openvino-cpu", "Conv")
    }


@bf16_here
def test_both_precisions_are_proven_and_the_graphs_are_the_same(clips: list[ProofClip], tmp_path: Path) -> None:
    bundle = exported(clips, tmp_path / "with")
    certificate = bundle.certificate
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        rows = [row for row in certificate.rows if (row.runtime, row.precision) == ("openvino-cpu", precision)]
        assert {row.check for row in rows} == ENCODER_LINES
        assert {row.measured_on for row in rows} == {"cpu"}
        assert {row.check: row.limit for row in rows} == {
            row.check: tolerance_of(row.check, precision).limit for row in rows
        }
        assert certificate.covers("openvino-cpu", precision, bundle.model)
    found = {row.precision: row.measured for row in rows_of(certificate, "encoder features, random frames")}
    assert found["fp32"] < 1e-5 < 1e-4 < found["bf16"]
    providers = {(2, "OpenVINO's CPU plugin in fp32"), (2, "OpenVINO's CPU plugin in bf16")}
    assert where_convolutions_are(certificate) == providers
    assert certificate.left_out == ()
    assert "openvino" in certificate.versions
    write_scored(build(), tmp_path / "without", clips)
    for name in FILES:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def rows_of(certificate: CertificateDocument, check: str) -> list[CertificateRow]:
    return [row for row in certificate.rows if row.runtime == "openvino-cpu" and row.check == check]


@bf16_here
def test_a_model_that_bf16_spoils_is_served_without_it(
    clips: list[ProofClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is drawn in, as no network of a few weights loses labels."""

    def strict(check: str, precision: Precision) -> Tolerance:
        tolerance = tolerance_of(check, precision)
        spoiled = (check, precision) == ("real clips, scores", "bf16")
        return dataclasses.replace(tolerance, limit=0.0) if spoiled else tolerance

    monkeypatch.setattr(proof_module, "tolerance_of", strict)
    bundle = exported(clips, tmp_path)
    certificate = bundle.certificate
    assert certificate.failing(bundle.model) == []
    assert certificate.covers("openvino-cpu", "fp32", bundle.model)
    assert {row.precision for row in certificate.rows} == {"fp32"}
    assert where_convolutions_are(certificate) == {(2, "OpenVINO's CPU plugin in fp32")}
    [left_out] = certificate.left_out
    assert left_out.startswith("openvino-cpu, bf16: real clips, scores (openvino-cpu, bf16, measured on cpu)")
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "mine" / "1")])
    assert f"left out {left_out}" in shown.stdout


def test_a_cpu_without_bf16_does_not_prove_it(
    clips: list[ProofClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There OpenVINO compiles to float32 whatever it is asked for, as here when it is asked for float32."""
    monkeypatch.setattr(
        placement_module, "compile_encoder", lambda path, _, count: compile_encoder(path, "fp32", count)
    )
    bundle = exported(clips, tmp_path)
    certificate = bundle.certificate
    assert not certificate.covers("openvino-cpu", "bf16", bundle.model)
    [left_out] = certificate.left_out
    assert left_out.startswith("openvino-cpu, bf16: nodes misplaced")
    assert "Conv of the encoder on OpenVINO's CPU plugin in fp32" in left_out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Exception from src/core:\nno such operation"), "Exception from src/core:"),
        (CheckFailed("a line"), "a line"),
    ],
)
def test_what_an_attempt_proved_is_dropped_with_it(error: Exception, said: str) -> None:
    proof = Proof(lambda row: None)

    def fail(attempt: Proof) -> None:
        attempt.line("encoder batch invariance", 0, 1)
        raise error

    proof.attempt("openvino-cpu", "fp32", fail)
    assert proof.rows == []
    assert proof.left_out == [f"openvino-cpu, fp32: {said}"]
    proof.attempt("openvino-cpu", "fp32", lambda attempt: attempt.line("encoder batch invariance", 0, 1))
    assert [(row.runtime, row.precision) for row in proof.rows] == [("openvino-cpu", "fp32")]
    assert (proof.runtime, len(proof.left_out)) == ("onnxruntime-cpu", 1)


def test_a_fault_of_our_own_is_not_swallowed() -> None:
    def fail(_: Proof) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        Proof(lambda row: None).attempt("openvino-cpu", "fp32", fail)


@pytest.mark.parametrize(
    ("provider", "precision", "wrong"),
    [
        ("OpenVINO's CPU plugin in bf16", "bf16", False),
        ("OpenVINO's CPU plugin in fp32", "bf16", True),
        ("OpenVINO's CPU plugin in fp32", "fp32", False),
        ("OpenVINO's CPU plugin in bf16", "fp32", True),
    ],
)
def test_a_convolution_in_another_precision_is_misplaced(provider: str, precision: Precision, wrong: bool) -> None:
    line = Placement(graph="encoder", op_type="Conv", nodes=2, runtime="openvino-cpu", provider=provider)
    assert misplaced([line], precision) == ([line] if wrong else [])


def test_the_trained_encoder_is_convolutions_from_end_to_end() -> None:
    [line] = openvino_placement(TRAINED_ENCODER / "encoder.onnx", "encoder", "fp32")
    assert (line.op_type, line.nodes, line.provider) == ("Conv", 49, "OpenVINO's CPU plugin in fp32")


@pytest.mark.parametrize("check", sorted(ENCODER_LINES))
def test_bf16_is_held_less_tightly_than_float16_and_judged_by_the_same_labels(check: str) -> None:
    full, half, brain = (tolerance_of(check, precision) for precision in ("fp32", "fp16", "bf16"))
    assert full == TOLERANCES[check]
    if full.comparison == "at most":
        assert full.limit <= half.limit <= brain.limit
    else:
        assert full.limit > half.limit == brain.limit == 0.98


@pytest.mark.parametrize(
    ("arguments", "installed", "tried"),
    [([], True, True), ([], False, False), (["--openvino"], False, True), (["--no-openvino"], True, False)],
)
def test_the_command_tries_it_where_it_is_installed(
    arguments: list[str],
    installed: bool,
    tried: bool,
    clips_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Exception):
        pass

    asked: list[Options] = []

    def keep(*given: Any, **_: Any) -> Path:
        asked.extend(option for option in given if isinstance(option, Options))
        raise Stop

    said: Callable[[], str] = lambda: "" if installed else "not installed"  # noqa: E731
    monkeypatch.setattr("export.__main__.write_bundle", keep)
    monkeypatch.setattr("export.__main__.absent", said)
    command = ["tests.export.models:build", "--out", str(tmp_path), "--clips", str(clips_folder), *arguments]
    assert isinstance(CliRunner().invoke(app, command).exception, Stop)
    assert [option.openvino for option in asked] == [tried]


def test_an_encoder_without_products_is_served_without_it(clips: list[ProofClip], tmp_path: Path) -> None:
    """Means of pixels: nothing is computed that could be in another precision, or elsewhere than it should."""
    means = encoders.build("thumbnail-4", 32, 32)
    head = sequence_head(HeadDims(means.feature_size, 8, 3, "mean", "lstm"))
    model = dataclasses.replace(video_model(head), encoder=means, encoder_name="thumbnail-4")
    write_scored(model, tmp_path, clips, Options(openvino=True))
    bundle = verify(tmp_path / "mine" / "1", tmp_path / "encoders")
    assert bundle.certificate.covers("onnxruntime-cpu", "fp32", bundle.model)
    said = "computes no convolution, no product and no recurrent layer"
    # In fp32, and in bf16: whether this CPU has it makes no difference where nothing is computed.
    assert [said in each for each in bundle.certificate.left_out] == [True, True]
