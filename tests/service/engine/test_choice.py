"""Which runtime serves: the first preferred one that is here and proven, and what is said when it is not the first."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from service.bundle import ModelDocument, Precision, Runtime, read_document
from service.certificate import CertificateDocument, CertificateRow
from service.engine import choice, onnx_runtime, openvino_runtime
from service.engine.choice import choose_runtime
from service.engine.preferences import AUTO, preferences
from service.errors import NotReady
from tests.bundles import ROWS, proven, sealed
from tests.zoo import TRAINED

CPU: Runtime = "onnxruntime-cpu"
CUDA: Runtime = "onnxruntime-cuda"
TENSORRT: Runtime = "onnxruntime-tensorrt"
OPENVINO: Runtime = "openvino-cpu"
HERE: dict[str, str] = {CPU: "", OPENVINO: "", CUDA: "no CUDA here", TENSORRT: "no TensorRT here"}


MODEL = read_document(TRAINED / "model.json", ModelDocument)


def certificate(folder: Path, *rows: CertificateRow) -> CertificateDocument:
    return read_document(sealed(folder, rows=rows) / "certificate.json", CertificateDocument)


@pytest.fixture
def everything(tmp_path: Path) -> CertificateDocument:
    """Every pair is proven."""
    return certificate(
        tmp_path, *ROWS, *proven(OPENVINO), *proven(OPENVINO, "bf16"), *proven(CUDA), *proven(CUDA, "fp16"),
        *proven(TENSORRT), *proven(TENSORRT, "fp16"),
    )  # fmt: skip


def with_gpu(monkeypatch: pytest.MonkeyPatch, **absent: str) -> None:
    """A machine with all runtimes but those that are named, by what is said of them; there is no GPU to test on."""
    found = {CPU: "", OPENVINO: "", CUDA: "", TENSORRT: ""} | absent
    monkeypatch.setattr(choice, "absent", lambda runtime: found[runtime])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("auto", AUTO),
        ("cpu", (CPU,)),
        ("cuda", (CUDA,)),
        ("openvino-cpu", (OPENVINO,)),
        ("onnxruntime-tensorrt,auto", (TENSORRT, CUDA, CPU)),
        (" cuda , openvino-cpu,cpu ", (CUDA, OPENVINO, CPU)),
        ("cpu,cpu,auto", (CPU, CUDA)),
    ],
)
def test_preferences(text: str, found: tuple[Runtime, ...]) -> None:
    assert preferences(text) == found


@pytest.mark.parametrize("text", ["", "tpu", "cpu,", "CPU", "cuda;cpu"])
def test_what_is_no_runtime_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no runtime; there are: auto, cpu, cuda, onnxruntime-cpu, .*openvino-cpu"):
        preferences(text)


@pytest.mark.parametrize(
    ("wanted", "precision", "missing", "chosen"),
    [
        ("auto", "fp32", {}, CUDA),
        ("auto", "fp32", {CUDA: "no CUDA here"}, CPU),
        ("auto", "fp16", {}, CUDA),
        ("cpu", "fp32", {}, CPU),
        ("cuda", "fp16", {}, CUDA),
        ("openvino-cpu,cpu", "fp32", {}, OPENVINO),
        ("openvino-cpu,cpu", "fp32", {OPENVINO: "not installed"}, CPU),
        ("openvino-cpu", "bf16", {}, OPENVINO),
        ("cuda,openvino-cpu,cpu", "bf16", {}, OPENVINO),  # no CUDA in bf16
        ("onnxruntime-tensorrt,cuda,cpu", "fp32", {TENSORRT: "no TensorRT here"}, CUDA),
        ("cpu,cuda", "fp16", {}, CUDA),
    ],
)
def test_the_first_that_is_here_and_proven(
    wanted: str,
    precision: Precision,
    missing: dict[str, str],
    chosen: Runtime,
    everything: CertificateDocument,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpu(monkeypatch, **missing)
    assert choose_runtime(preferences(wanted), precision, everything, MODEL) == chosen


@pytest.mark.parametrize(
    ("wanted", "precision", "words"),
    [
        ("cuda", "fp32", "runtime onnxruntime-cuda is not here: no CUDA here"),
        ("cpu", "fp16", r"does not prove onnxruntime-cpu fp16 \(onnxruntime-cpu does not compute in fp16\); export on"),
        ("cpu", "bf16", "onnxruntime-cpu does not compute in bf16"),
        ("openvino-cpu", "fp16", "openvino-cpu does not compute in fp16"),
        ("auto", "fp16", "onnxruntime-cuda is not here: no CUDA here; .*does not prove onnxruntime-cpu fp16"),
    ],
)
def test_what_is_asked_for_is_never_replaced(
    wanted: str, precision: Precision, words: str, everything: CertificateDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(monkeypatch, **HERE)
    with pytest.raises(NotReady, match=words):
        choose_runtime(preferences(wanted), precision, everything, MODEL)


def test_what_is_not_proven_is_passed_over_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_gpu(monkeypatch)
    only_cpu = certificate(tmp_path, *ROWS)
    assert choose_runtime(AUTO, "fp32", only_cpu, MODEL) == CPU
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert line.message == (
        "the certificate does not prove onnxruntime-cuda fp32 (no line 'encoder batch invariance' for onnxruntime-cuda "
        "fp32, measured on a gpu); export on a machine that has it: "
        "serving on onnxruntime-cpu"
    )


@pytest.mark.parametrize(("wanted", "level"), [("auto", logging.INFO), ("cuda,cpu,openvino-cpu", logging.WARNING)])
def test_a_gpu_that_is_not_here_is_missed_only_if_it_was_named(
    wanted: str,
    level: int,
    everything: CertificateDocument,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_gpu(monkeypatch, **HERE)
    caplog.set_level(logging.INFO)
    assert choose_runtime(preferences(wanted), "fp32", everything, MODEL) == CPU
    assert [(line.levelno, line.message) for line in caplog.records] == [
        (level, "runtime onnxruntime-cuda is not here: no CUDA here: serving on onnxruntime-cpu")
    ]


def test_the_first_choice_says_nothing(everything: CertificateDocument, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose_runtime(("onnxruntime-cpu", "openvino-cpu"), "fp32", everything, MODEL) == CPU
    assert caplog.records == []


def test_a_gpu_that_is_required(everything: CertificateDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch)
    assert choose_runtime(("onnxruntime-cpu", "onnxruntime-cuda"), "fp32", everything, MODEL, require_gpu=True) == CUDA
    with_gpu(monkeypatch, **HERE)
    words = "onnxruntime-cuda is not here: no CUDA here; require_gpu is set, and onnxruntime-cpu is on no GPU"
    with pytest.raises(NotReady, match=words):
        choose_runtime(AUTO, "fp32", everything, MODEL, require_gpu=True)


def test_the_cpu_is_always_here() -> None:
    assert choice.absent("onnxruntime-cpu") == ""


def test_a_provider_that_the_package_lacks_is_named() -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("ONNX Runtime's GPU package is installed")
    assert choice.absent("onnxruntime-cuda") == (
        "ONNX Runtime has no CUDAExecutionProvider here; install requirements/serve-gpu.txt"
    )


def test_openvino_is_an_extra(monkeypatch: pytest.MonkeyPatch, everything: CertificateDocument) -> None:
    assert choice.absent("openvino-cpu") == ""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with pytest.raises(
        NotReady, match=r"openvino is not installed; install the extra: requirements/serve-openvino\.txt"
    ):
        choose_runtime(("openvino-cpu",), "fp32", everything, MODEL)
    with pytest.raises(NotReady, match="openvino is not installed"):
        openvino_runtime.compile_encoder(Path("encoder.onnx"), "fp32", 1)


def test_the_graph_that_asks_a_provider_whether_it_works() -> None:
    model = onnx.load_from_string(onnx_runtime._IDENTITY)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
