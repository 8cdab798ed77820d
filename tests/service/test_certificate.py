"""What a certificate is worth to the service: figures count, and nothing else that the file says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.bundle import Claim, ModelDocument, Precision, Runtime, StateTensor, head_runtime, read_document
from service.certificate import (
    ENCODER_LINES,
    HEAD_LINES,
    STATE_LINES,
    STRUCTURE_LINES,
    CertificateDocument,
    encoder_lines,
    head_lines,
    longest_ticks,
)
from service.intervals import wilson
from service.tolerances import ACCURACY, AGAINST_TRAINING, LONGEST, TOLERANCES, least_accuracy, tolerance_of
from tests.bundles import ROW, ROWS, STRUCTURE, line, proven, sealed
from tests.zoo import TRAINED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path)


@pytest.fixture
def model(folder: Path) -> ModelDocument:
    return read_document(folder / "model.json", ModelDocument)


@pytest.fixture
def certificate(folder: Path) -> CertificateDocument:
    return read_document(folder / "certificate.json", CertificateDocument)


def test_it_tells_what_failed_and_what_it_covers(certificate: CertificateDocument, model: ModelDocument) -> None:
    assert certificate.failing(model) == []
    assert certificate.covers("onnxruntime-cpu", "fp32", model)
    assert not certificate.covers("onnxruntime-cuda", "fp32", model)
    assert not certificate.covers("onnxruntime-cpu", "fp16", model)
    bad = ROW.model_copy(update={"measured": 0.5, "passed": False})
    failed = certificate.model_copy(update={"rows": (*STRUCTURE, ROW, bad)})
    said = "largest difference (onnxruntime-cpu, fp32, measured on cpu): 0.5, at most 0.0001 needed"
    assert failed.failing(model) == [said]
    lying = bad.model_copy(update={"passed": True, "detail": "batch 7"})
    assert certificate.model_copy(update={"rows": (*STRUCTURE, lying)}).failing(model) == [f"{said}; batch 7"]
    assert certificate.model_copy(update={"passed": False}).failing(model) == ["it says itself that it did not pass"]


@pytest.mark.parametrize("check", sorted(TOLERANCES.keys() - {ACCURACY}))
def test_a_limit_that_the_file_gives_is_not_asked(
    check: str, certificate: CertificateDocument, model: ModelDocument
) -> None:
    """A line that fails, with a limit and a word that let it pass."""
    tolerance = tolerance_of(check, "fp32")
    worse = 0.0 if tolerance.comparison == "at least" else 2 * tolerance.limit + 1
    for written in (
        {"limit": worse},
        {"limit": -1.0, "comparison": "at least"},
        {"limit": 1e9, "comparison": "at most"},
    ):
        row = line(check, measured=worse, **written)
        [fault] = certificate.model_copy(update={"rows": (*STRUCTURE, row)}).failing(model)[:1]
        assert f"{worse:g}, {tolerance.comparison} {tolerance.limit:g} needed" in fault, written


def test_of_the_longest_clip_every_tick_counts(model: ModelDocument) -> None:
    assert longest_ticks(model) == 57_600  # 4 h at 4 a second
    assert line(LONGEST, cases=57_600).fault(model) == ""
    assert "57599 cases, at least 57600 needed" in line(LONGEST, cases=57_599).fault(model)
    fast = model.model_copy(update={"spec": model.spec.model_copy(update={"sample_fps": 25.0})})
    assert longest_ticks(fast) == 65_536
    every = model.model_copy(update={"spec": model.spec.model_copy(update={"sample_fps": None})})
    assert longest_ticks(every) == 65_536


@pytest.mark.parametrize("check", ["encoder features, random frames", "encoder batch invariance"])
def test_a_gpu_is_given_its_own_batches(check: str, model: ModelDocument) -> None:
    on_gpu = {"runtime": "onnxruntime-cuda", "measured_on": "gpu"}
    assert "64 cases, at least 256 needed" in line(check, cases=64, **on_gpu).fault(model)
    assert line(check, cases=298, **on_gpu).fault(model) == ""


@pytest.mark.parametrize("check", sorted(TOLERANCES.keys() - {LONGEST}))
def test_too_few_cases_prove_nothing(check: str, certificate: CertificateDocument, model: ModelDocument) -> None:
    least = tolerance_of(check, "fp32").least_cases
    for cases in {0, least - 1}:
        row = line(check, cases=cases)
        said = certificate.model_copy(update={"rows": (*STRUCTURE, row)}).failing(model)[0]
        assert f"{check} (" in said
        assert f"{cases} cases, at least {least} needed" in said
    assert line(check, cases=least).fault(model) == ""


def test_what_is_not_a_number_keeps_no_limit(model: ModelDocument) -> None:
    assert "nan, at most" in line(AGAINST_TRAINING, measured=math.nan).fault(model)
    assert "nan, at least" in line("real clips, top-1", measured=math.nan).fault(model)


@pytest.mark.parametrize("missing", sorted(STRUCTURE_LINES))
def test_structure_is_always_there(missing: str, certificate: CertificateDocument, model: ModelDocument) -> None:
    without = certificate.model_copy(update={"rows": tuple(row for row in ROWS if row.check != missing)})
    assert without.failing(model) == [f"{missing} (fp32) is missing"]


def test_a_float16_encoder_has_its_own_structure(certificate: CertificateDocument, model: ModelDocument) -> None:
    subjects = certificate.subjects.model_copy(update={"encoder_fp16_onnx": "0" * 64})
    half = certificate.model_copy(update={"subjects": subjects})
    assert half.failing(model) == ["encoder graph, faults (fp16) is missing"]
    whole = half.model_copy(update={"rows": (*ROWS, line("encoder graph, faults", precision="fp16"))})
    assert whole.failing(model) == []


def test_what_a_model_declares_must_be_shown(model: ModelDocument) -> None:
    assert encoder_lines(model) == ENCODER_LINES
    assert AGAINST_TRAINING in ENCODER_LINES
    assert encoder_lines(claiming(model)) == ENCODER_LINES | {ACCURACY}
    assert head_lines(model) == HEAD_LINES | STATE_LINES
    assert head_lines(model.model_copy(update={"state": ()})) == HEAD_LINES
    spec = model.spec.model_copy(update={"window_frames": None, "stride_frames": None})
    whole = model.model_copy(update={"spec": spec})
    assert head_lines(whole) == HEAD_LINES | STATE_LINES | {LONGEST}
    assert head_lines(whole.model_copy(update={"state": ()})) == HEAD_LINES


def claiming(model: ModelDocument, accuracy: float = 0.99, clips: int = 400) -> ModelDocument:
    return model.model_copy(update={"claim": Claim(accuracy=accuracy, clips=clips, part="test")})


def test_a_claim_is_held_by_its_own_clips(model: ModelDocument) -> None:
    """0.99 on 400 clips may be 0.974; of 24 such clips 22 and more are right in 97.5 % of all draws."""
    boastful = claiming(model)
    assert line(ACCURACY, measured=22 / 24, cases=24).fault(boastful) == ""
    said = line(ACCURACY, measured=2 / 24, cases=24, limit=0.0).fault(boastful)
    assert said.startswith("real clips, accuracy (onnxruntime-cpu, fp32, measured on cpu): 0.0833333, at least 0.91666")


def test_least_accuracy_is_the_binomial_s_quantile() -> None:
    from scipy import stats  # type: ignore[import-untyped]

    for claimed, claimed_on, clips in (
        (0.99, 400, 24), (0.5, 10, 8), (1.0, 30, 12), (0.0, 5, 9), (0.93, 395, 394), (0.9, 40, 2000),
        (0.7, 300, 100_000),
    ):  # fmt: skip
        low = stats.binomtest(round(claimed * claimed_on), claimed_on).proportion_ci(0.95, method="wilson").low
        wanted = stats.binom.ppf(0.025, clips, low) / clips
        assert least_accuracy(round(claimed * claimed_on) / claimed_on, claimed_on, clips) == pytest.approx(wanted)
    assert least_accuracy(0.5, 10, 0) == 0.0
    assert least_accuracy(0.93, 395, 10**9) == pytest.approx(wilson(0.93, 395)[0], abs=1e-4), "at once"


@pytest.mark.parametrize(
    ("accuracy", "clips", "said"),
    [(0.99, 1, "greater than or equal to 8"), (0.99, 8, "0.99 is no share of 8 clips; the nearest is 1.0000")],
)
def test_a_claim_that_no_clips_can_have_shown(accuracy: float, clips: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Claim(accuracy=accuracy, clips=clips, part="test")
    assert Claim(accuracy=0.9291, clips=395, part="test").clips == 395


def test_state_is_declared_and_shown_on_the_runtime_that_carries_it(
    certificate: CertificateDocument, model: ModelDocument
) -> None:
    assert model.state == (StateTensor(name="hidden", size=2),)
    rows = (*ROWS, *proven("onnxruntime-cuda"))
    for missing in STATE_LINES:
        lacking = [row for row in rows if (row.check, row.runtime) != (missing, "onnxruntime-cuda")]
        partly = certificate.model_copy(update={"rows": tuple(lacking)})
        said = f"no line {missing!r} for onnxruntime-cuda fp32, measured on a gpu"
        assert partly.missing("onnxruntime-cuda", "fp32", model) == said
        assert partly.covers("onnxruntime-cpu", "fp32", model)


@pytest.mark.parametrize(
    ("runtime", "precision", "measured_on", "covered"),
    [
        ("onnxruntime-cpu", "fp32", "cpu", True),
        ("onnxruntime-cpu", "fp16", "cpu", False),  # casts around fp32 kernels
        ("onnxruntime-cpu", "bf16", "cpu", False),
        ("onnxruntime-cuda", "fp32", "gpu", True),
        ("onnxruntime-cuda", "fp16", "gpu", True),
        ("onnxruntime-cuda", "fp16", "cpu", False),
        ("onnxruntime-cuda", "bf16", "gpu", False),  # ONNX's Conv takes none
        ("onnxruntime-tensorrt", "fp16", "gpu", True),
        ("openvino-cpu", "fp32", "cpu", True),
        ("openvino-cpu", "bf16", "cpu", True),
        ("openvino-cpu", "bf16", "gpu", False),
        ("openvino-cpu", "fp16", "cpu", False),
    ],
)
def test_a_pair_is_covered_only_where_its_own_device_measured_it(
    certificate: CertificateDocument,
    model: ModelDocument,
    runtime: Runtime,
    precision: Precision,
    measured_on: str,
    covered: bool,
) -> None:
    rows = tuple(row.model_copy(update={"measured_on": measured_on}) for row in proven(runtime, precision))
    of_heads = HEAD_LINES | STATE_LINES
    heads = tuple(row for row in (*ROWS, *proven(head_runtime(runtime))) if row.check in of_heads)
    assert certificate.model_copy(update={"rows": rows + heads}).covers(runtime, precision, model) is covered


@pytest.mark.parametrize("missing", sorted(ENCODER_LINES | HEAD_LINES | STATE_LINES))
def test_a_pair_without_one_of_its_lines_is_not_covered(
    certificate: CertificateDocument, model: ModelDocument, missing: str
) -> None:
    most = tuple(row for row in (*ROWS, *proven("openvino-cpu")) if row.check != missing)
    partly = certificate.model_copy(update={"rows": most})
    assert not partly.covers("onnxruntime-cpu", "fp32", model)
    assert not partly.covers("openvino-cpu", "fp32", model), "its head runs on ONNX Runtime"


def test_the_lines_are_those_that_the_trained_model_has() -> None:
    certificate = read_document(TRAINED / "certificate.json", CertificateDocument)
    model = read_document(TRAINED / "model.json", ModelDocument)
    assert model.claim is not None
    assert model.state != ()
    assert {row.check for row in certificate.rows} >= encoder_lines(model) | head_lines(model) | STRUCTURE_LINES
    assert certificate.failing(model) == []
