from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from service.bundle import CertificateDocument, CertificateRow, read_document
from service.engine.sessions import choose_runtime
from service.errors import NotReady
from tests.bundles import ROW, sealed


def certificate(folder: Path, *rows: CertificateRow) -> CertificateDocument:
    return read_document(sealed(folder, rows=rows) / "certificate.json", CertificateDocument)


def test_the_cpu_serves_what_is_proven_for_it(tmp_path: Path) -> None:
    proven = certificate(tmp_path, ROW)
    assert choose_runtime("cpu", proven) == "onnxruntime-cpu"
    assert choose_runtime("auto", proven) == "onnxruntime-cpu", "nothing is proven for any other"


@pytest.mark.parametrize("change", [{"runtime": "onnxruntime-cuda"}, {"precision": "fp16"}])
def test_what_is_not_proven_is_not_served(tmp_path: Path, change: dict[str, str]) -> None:
    other = certificate(tmp_path, ROW.model_copy(update=change))
    with pytest.raises(NotReady, match="proves nothing for onnxruntime-cpu fp32"):
        choose_runtime("cpu", other)


def test_a_runtime_asked_for_by_name_is_never_replaced(tmp_path: Path) -> None:
    present = "CUDAExecutionProvider" in ort.get_available_providers()
    words = "proves nothing for onnxruntime-cuda fp32" if present else "no CUDA provider here"
    with pytest.raises(NotReady, match=words):
        choose_runtime("cuda", certificate(tmp_path, ROW))
