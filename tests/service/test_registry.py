from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle import ModelDocument, canonical_sha256, file_sha256, read_document, write_document
from service.certificate import CertificateDocument
from service.errors import BadParameter, BundleError
from service.model_errors import ModelNotLoaded, ModelRefused, UnknownModel
from service.registry import Registry, newest_versions, verify
from service.serving import Serving
from service.settings import Settings
from tests.bundles import ROW, STRUCTURE, copy_of_the_zoo, flip_a_byte, line, sealed, swap_labels
from tests.zoo import ZOO


def scanned(models_dir: Path, default_model: str | None = None) -> Registry:
    registry = Registry(models_dir, default_model)
    registry.scan()
    return registry


def test_a_sealed_bundle_is_served(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    bundle = scanned(tmp_path).get("tiny")
    assert bundle.head_path == folder / "head.onnx"
    assert bundle.encoder_path == tmp_path / "encoders" / "tiny-encoder" / "encoder.onnx"
    assert bundle.sha256 == canonical_sha256(folder / "model.json")


def test_the_bundles_that_ship_are_sealed() -> None:
    registry = scanned(ZOO)
    assert "actions-lstm" in registry.bundles
    assert registry.refused == {}


def flip(name: str) -> Callable[[Path], None]:
    return lambda folder: flip_a_byte(folder / name)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def add(name: str) -> Callable[[Path], None]:
    return lambda folder: write_another(folder / name)


def write_another(path: Path) -> None:
    path.write_bytes(b"of another model")


def change_encoder(folder: Path) -> None:
    path = folder / "../../encoders/tiny-encoder/encoder.json"
    path.write_text(path.read_text().replace("Apache-2.0", "MIT"))


def rename(folder: Path) -> None:
    folder.rename(folder.with_name("2"))


def reseal(**update: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "certificate.json"
        write_document(path, read_document(path, CertificateDocument).model_copy(update=update))

    return change


def other_size(folder: Path) -> None:
    """Frames that the encoder does not take."""
    document = json.loads((folder / "model.json").read_text())
    document["spec"]["frame_width"] = 4096
    (folder / "model.json").write_text(json.dumps(document))


_FAILED = ROW.model_copy(update={"measured": 0.5, "passed": False})
_ENCODER = "../../encoders/tiny-encoder/"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip("head.onnx"), "head.onnx does not match"),
        (flip(_ENCODER + "encoder.onnx"), "encoder.onnx does not match"),
        (swap_labels, "model.json does not match"),
        (change_encoder, "encoder.json does not match"),
        (flip("known_answer.npz"), "known_answer.npz does not match"),
        (add("statistics.npz"), "statistics.npz does not match the certificate: none… was proven"),
        (remove("known_answer.npz"), "known_answer.npz is missing"),
        (remove("head.onnx"), "head.onnx is missing"),
        (remove("certificate.json"), "certificate.json is missing"),
        (remove(_ENCODER + "encoder.onnx"), "encoder.onnx is missing"),
        (remove(_ENCODER + "encoder.json"), "encoder.json is missing"),
        (other_size, "model.json has frames of 4096 x"),
        (rename, "model.json names tiny 1, its folder is tiny/2"),
        (reseal(rows=(*STRUCTURE, ROW, _FAILED)), "failed: largest difference (onnxruntime-cpu, fp32, measured on"),
        (reseal(passed=False), "the certificate failed: it says itself that it did not pass"),
        (reseal(rows=()), "the certificate failed: encoder graph, faults (fp32) is missing"),
    ],
    ids=[
        "head", "encoder", "label", "encoder-json", "known-answer", "other-statistics",
        "no-known-answer", "no-head", "no-certificate", "no-encoder", "no-encoder-json",
        "frame-size", "renamed", "failed-row", "failed", "no-rows",
    ],
)  # fmt: skip
def test_a_broken_seal_is_refused_with_the_reason(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(sealed(tmp_path))
    registry = scanned(tmp_path)
    assert registry.bundles == {}
    assert reason in registry.refused["tiny"].reason
    with pytest.raises(ModelRefused) as caught:
        registry.get("tiny")
    assert reason in caught.value.detail
    assert caught.value.detail.startswith("model tiny ")


def test_a_certificate_of_absurd_figures_fails_that_bundle_alone(tmp_path: Path) -> None:
    sealed(tmp_path, "good")
    path = sealed(tmp_path, "odd") / "certificate.json"
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row["cases"] = 10**12
    path.write_text(json.dumps(content))
    registry = scanned(tmp_path)
    assert list(registry.bundles) == ["good"]
    assert "rows.0.cases: Input should be less than or equal to 1000000000" in registry.refused["odd"].reason


def test_whatever_verification_raises_fails_that_bundle_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path, "good")
    sealed(tmp_path, "odd")
    failing = CertificateDocument.failing

    def odd(certificate: CertificateDocument, model: ModelDocument) -> list[str]:
        return failing(certificate, model) if model.name == "good" else [1 / 0]  # type: ignore[list-item]

    monkeypatch.setattr(CertificateDocument, "failing", odd)
    registry = scanned(tmp_path)
    assert list(registry.bundles) == ["good"]
    assert "it can't be verified: ZeroDivisionError" in registry.refused["odd"].reason


def test_every_byte_counts(tmp_path: Path) -> None:
    """Whatever byte of whatever file but the certificate is turned over, the bundle is refused."""
    folder = sealed(tmp_path)
    encoders = tmp_path / "encoders"
    names = ("head.onnx", _ENCODER + "encoder.onnx")
    for path in ((folder / name).resolve() for name in names):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(BundleError, match="does not match"):
                verify(folder, encoders)
        path.write_bytes(whole)
    verify(folder, encoders)


def test_one_bad_bundle_leaves_the_others(tmp_path: Path) -> None:
    sealed(tmp_path, "good")
    flip_a_byte(sealed(tmp_path, "bad") / "head.onnx")
    registry = scanned(tmp_path)
    assert (list(registry.bundles), list(registry.refused)) == (["good"], ["bad"])


def test_names(tmp_path: Path) -> None:
    sealed(tmp_path, "cats")
    assert scanned(tmp_path).get(None).model.name == "cats", "the only one needs no name"
    sealed(tmp_path, "dogs")
    with pytest.raises(BadParameter, match=r"there are 2 \(cats, dogs\)"):
        scanned(tmp_path).get(None)
    assert scanned(tmp_path, "dogs").get(None).model.name == "dogs"
    with pytest.raises(UnknownModel, match="'fish'; there are: cats, dogs"):
        scanned(tmp_path).get("fish")
    with pytest.raises(UnknownModel, match="'fish'"):
        scanned(tmp_path, "fish").get(None)


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (("1", "2", "10"), "10"),
        (("1.9", "1.10", "1.2"), "1.10"),
        (("2026-01-31", "2026-02-01", "2025-12-31"), "2026-02-01"),
        (("1", "1.1"), "1.1"),
        (("2", "2-rc1", "10-rc2"), "10-rc2"),
    ],
)
def test_the_newest_version_is_served(tmp_path: Path, versions: tuple[str, ...], newest: str) -> None:
    for version in versions:
        sealed(tmp_path, version=version)
    assert [folder.name for folder in newest_versions(tmp_path)] == [newest]
    assert scanned(tmp_path).get("tiny").model.version == newest


def test_a_release_is_newer_than_its_candidate(tmp_path: Path) -> None:
    for version in ("2", "2-rc1"):
        sealed(tmp_path, version=version)
    assert [folder.name for folder in newest_versions(tmp_path)] == ["2"]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Versions 1, 2 and 10 of `cats`, and `dogs`."""
    for version in ("1", "2", "10"):
        sealed(tmp_path, "cats", version)
    sealed(tmp_path, "dogs")
    return tmp_path


def loads(registry: Registry) -> list[tuple[str, str]]:
    return [(bundle.model.name, bundle.model.version) for bundle in registry.to_load()]


@pytest.mark.parametrize(
    ("models", "default_model", "names"),
    [
        ("", "dogs", [("dogs", "1")]),
        ("cats", None, [("cats", "10")]),
        ("cats/2", None, [("cats", "2")]),
        (" cats/2 , dogs", "dogs", [("dogs", "1"), ("cats", "2")]),
        ("all", None, [("cats", "10"), ("dogs", "1")]),
        ("all", "dogs", [("dogs", "1"), ("cats", "10")]),
    ],
)
def test_what_is_loaded(zoo: Path, models: str, default_model: str | None, names: list[tuple[str, str]]) -> None:
    """The default model first: it is the last one that memory may be too little for."""
    registry = Registry(zoo, default_model, models=models)
    registry.scan()
    assert loads(registry) == names
    assert set(registry.bundles) == {"cats", "dogs"}, "what is not loaded is verified too"


def test_of_several_models_none_is_loaded_unasked(zoo: Path) -> None:
    with pytest.raises(BadParameter, match=r"there are 2 \(cats, dogs\), and none is the default; the settings models"):
        scanned(zoo).to_load()


def test_the_folder_names_its_default_model(zoo: Path) -> None:
    (zoo / "default").write_text("dogs\n")
    registry = scanned(zoo)
    assert (registry.default(), loads(registry)) == ("dogs", [("dogs", "1")])
    assert scanned(zoo, "cats").default() == "cats", "a setting comes before the file"
    registry = Registry(zoo, models="cats")
    registry.scan()
    assert (registry.default(), loads(registry)) == ("cats", [("cats", "10")]), "it is not loaded, and the other is"


@pytest.mark.parametrize(("content", "words"), [(b"fish", "names 'fish'"), (b"\xff", "can't be read")])
def test_a_default_that_is_not_there(zoo: Path, content: bytes, words: str) -> None:
    (zoo / "default").write_bytes(content)
    with pytest.raises(BundleError, match=words):
        scanned(zoo)


@pytest.mark.parametrize(
    ("models", "words"),
    [("cats,fish", "'fish'; there are: cats, dogs"), ("cats/3", "cats has no version '3'; there are: 1, 2, 10")],
)
def test_a_name_that_no_model_has(zoo: Path, models: str, words: str) -> None:
    with pytest.raises(UnknownModel, match=words):
        Registry(zoo, models=models).find()


def test_a_request_may_name_the_version(zoo: Path) -> None:
    registry = Registry(zoo, models="cats/2")
    registry.scan()
    assert registry.get("cats/2") is registry.get("cats")
    with pytest.raises(ModelNotLoaded, match="version 10 of model cats exists and is not loaded, version 2 is at hand"):
        registry.get("cats/10")
    with pytest.raises(UnknownModel, match="has no version '3'"):
        registry.get("cats/3")
    flip_a_byte(zoo / "cats" / "2" / "head.onnx")
    registry = Registry(zoo, models="cats/2")
    registry.scan()
    with pytest.raises(ModelRefused, match="cats 2 is refused"):
        registry.get("cats/2")
    with pytest.raises(ModelNotLoaded):
        registry.get("cats/1")


def test_the_zoo_has_a_default() -> None:
    assert scanned(ZOO).default() == "actions-lstm"


def test_a_folder_without_bundles(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    registry = scanned(tmp_path)
    assert (registry.bundles, registry.refused) == ({}, {})
    with pytest.raises(BadParameter, match="there are 0"):
        registry.get(None)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="REELSERVE_MODELS_DIR"):
        scanned(tmp_path / "nowhere")


def test_the_only_model_refused_is_told_as_such(tmp_path: Path) -> None:
    swap_labels(copy_of_the_zoo(tmp_path, "swapped"))
    serving = Serving(Settings(models_dir=tmp_path, default_model="swapped"))
    serving.load()
    try:
        assert "model.json does not match" in (serving.problem() or "")
        with pytest.raises(ModelRefused, match=r"model\.json does not match"):
            serving.model("swapped")
    finally:
        serving.close()


def test_a_half_precision_encoder_is_sealed_too(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    half = tmp_path / "encoders" / "tiny-encoder" / "encoder.fp16.onnx"
    half.write_bytes(b"half")
    verify(folder, tmp_path / "encoders")  # not named, not served: as if it were not there
    document = half.with_name("encoder.json")
    document.write_text(json.dumps(json.loads(document.read_text()) | {"fp16_sha256": file_sha256(half)}))
    with pytest.raises(BundleError, match=r"encoder\.fp16\.onnx does not match the certificate"):
        verify(folder, tmp_path / "encoders")
    certificate = folder / "certificate.json"
    content = json.loads(certificate.read_text())
    content["subjects"] |= {"encoder_fp16_onnx": file_sha256(half), "encoder_json": canonical_sha256(document)}
    certificate.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"encoder graph, faults \(fp16\) is missing"):
        verify(folder, tmp_path / "encoders")
    content["rows"].append(line("encoder graph, faults", precision="fp16").model_dump())
    certificate.write_text(json.dumps(content))
    verify(folder, tmp_path / "encoders")
    half.write_bytes(b"other")
    with pytest.raises(BundleError, match=r"encoder\.fp16\.onnx does not match the certificate"):
        verify(folder, tmp_path / "encoders")
    half.unlink()
    with pytest.raises(BundleError, match=r"encoder\.fp16\.onnx is missing"):
        verify(folder, tmp_path / "encoders")
