from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.bundle import (
    EncoderDocument,
    ModelDocument,
    canonical_sha256,
    file_sha256,
    read_document,
    write_document,
)
from service.certificate import CertificateDocument
from service.errors import BundleError
from tests.bundles import sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path)


@pytest.fixture
def model(folder: Path) -> ModelDocument:
    return read_document(folder / "model.json", ModelDocument)


def test_documents_survive_a_round_trip(folder: Path, model: ModelDocument, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    write_document(copy, model)
    assert read_document(copy, ModelDocument) == model
    assert copy.read_bytes() == (folder / "model.json").read_bytes(), "the same document gives the same bytes"


def test_the_canonical_hash_is_that_of_the_content(folder: Path, model: ModelDocument, tmp_path: Path) -> None:
    """White space and the order of keys are not content; any value is."""
    content = json.loads(model.model_dump_json())
    shuffled = tmp_path / "shuffled.json"
    shuffled.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert canonical_sha256(shuffled) == canonical_sha256(folder / "model.json")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_sha256(shuffled) == hashlib.sha256(text.encode()).hexdigest()


def test_a_number_may_be_one_and_a_softmax_may_not(model: ModelDocument) -> None:
    """The softmax of one label is always 1."""
    content = model.model_dump() | {"labels": ("speed",)}
    assert ModelDocument.model_validate(content | {"score": "none"}).labels == ("speed",)
    with pytest.raises(ValidationError, match="the softmax of one is always 1: name 2 at least"):
        ModelDocument.model_validate(content | {"score": "softmax"})


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("dog", "cat", "fish")},
        {"version": "2"},
        {"score": "sigmoid"},
        {"training": {"seed": 1}},
        {"state": ()},
        {"created": "2026-01-01T00:00:01+00:00"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_breaks_the_canonical_hash(
    folder: Path, model: ModelDocument, change: dict[str, object], tmp_path: Path
) -> None:
    write_document(tmp_path / "changed.json", model.model_copy(update=change))
    assert canonical_sha256(tmp_path / "changed.json") != canonical_sha256(folder / "model.json")


def test_labels_in_any_script(model: ModelDocument, tmp_path: Path) -> None:
    named = model.model_copy(update={"labels": ("Überschlag", "跳绳", "🏹")})
    write_document(tmp_path / "named.json", named)
    assert "跳绳" in (tmp_path / "named.json").read_text(encoding="utf-8")
    assert read_document(tmp_path / "named.json", ModelDocument) == named


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_file_sha256(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert file_sha256(tmp_path / "file") == hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../up"),
        ("name", "UPPER"),
        ("name", ""),
        ("version", "1/2"),
        ("task", "detect"),
        ("labels", []),
        ("head_sha256", "0" * 63),
        ("score", "argmax"),
        ("spec", {"sample_fps": 0}),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_is_named(folder: Path, field: str, value: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(BundleError, match=rf"model\.json: {field}.*export the bundle again"):
        read_document(path, ModelDocument)


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (1, r"is of format 1, which .*`python -m models train` .*`python -m export CHECKPOINT --replace`.*`--scores`"),
        (3, r"is of format 3, this service reads 2: update the service"),
    ],
)
def test_another_format_is_said_before_its_fields(folder: Path, found: int, remedy: str) -> None:
    for name, kind in (("model.json", ModelDocument), ("certificate.json", CertificateDocument)):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": found, "surprise": 1}))
        with pytest.raises(BundleError, match=remedy):
            read_document(path, kind)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}"])
def test_what_is_no_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(BundleError, match=r"encoder\.json: .*export the bundle again"):
        read_document(tmp_path / "encoder.json", EncoderDocument)


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"certificate\.json is missing in .*export the bundle again"):
        read_document(tmp_path / "certificate.json", CertificateDocument)


def test_a_missing_field_is_named(folder: Path) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    del content["labels"]
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"model\.json: labels: Field required"):
        read_document(path, ModelDocument)
