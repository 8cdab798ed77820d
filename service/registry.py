"""Model bundles: find, verify. A bundle is refused when its certificate is missing, failed or for other bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from service.bundle import (
    CertificateDocument,
    EncoderDocument,
    ModelDocument,
    canonical_sha256,
    file_sha256,
    read_document,
)
from service.errors import BadParameter, BundleError, ModelRefused, UnknownModel
from service.redaction import hidden


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its bytes are those that the certificate proves.

    sha256: of canonical model.json, which holds the hashes of both graphs: the identity of what is served.
    """

    model: ModelDocument
    encoder: EncoderDocument
    certificate: CertificateDocument
    head_path: Path
    encoder_path: Path
    sha256: str


@dataclass(frozen=True)
class RefusedBundle:
    """A bundle that is not served, and the line that says why."""

    name: str
    version: str
    reason: str


class Registry:
    """The newest version of each bundle below a folder, or in what BentoML's store keeps under a tag, `bento_model`."""

    def __init__(self, models_dir: Path, default_model: str | None = None, bento_model: str | None = None) -> None:
        self.models_dir = models_dir
        self.default_model = default_model
        self.bento_model = bento_model
        self.bundles: dict[str, Bundle] = {}
        self.refused: dict[str, RefusedBundle] = {}

    def scan(self) -> None:
        """Find and verify every bundle: reads and hashes all files. Raises BundleError when there is no such folder."""
        if self.bento_model is not None:
            self.models_dir = stored_models_dir(self.bento_model)
        if not self.models_dir.is_dir():
            raise BundleError(f"models_dir {self.models_dir} is not a folder; set REELSERVE_MODELS_DIR")
        for folder in newest_versions(self.models_dir):
            name, version = folder.parent.name, folder.name
            try:
                self.bundles[name] = verify(folder, self.models_dir / "encoders")
            except BundleError as error:
                self.refused[name] = RefusedBundle(name, version, error.detail)
            except OSError as error:
                self.refused[name] = RefusedBundle(name, version, f"{error.filename} can't be read: {error.strerror}")

    def refuse(self, name: str, reason: str) -> None:
        """Take a verified bundle out: it can't be loaded here."""
        bundle = self.bundles.pop(name)
        self.refused[name] = RefusedBundle(name, bundle.model.version, reason)

    def get(self, name: str | None) -> Bundle:
        """The bundle of this name, or the default one. Raises UnknownModel, ModelRefused, BadParameter."""
        if name is None:
            name = self.default_model
        if name is None:
            known = sorted(self.bundles) or sorted(self.refused)
            if len(known) != 1:
                raise BadParameter(f"name a model: there are {len(known)} ({', '.join(known) or 'none'})")
            name = known[0]
        if name in self.refused:
            refused = self.refused[name]
            raise ModelRefused(f"model {name} {refused.version} is refused: {refused.reason}", value=name)
        if name not in self.bundles:
            raise UnknownModel(
                f"no model is named {hidden(name)!r}; there are: {', '.join(sorted(self.bundles)) or 'none'}",
                value=name,
            )
        return self.bundles[name]


def newest_versions(models_dir: Path) -> list[Path]:
    """The newest version's folder of each model, sorted by name; versions compare number by number."""
    newest: dict[str, Path] = {}
    for document in sorted(models_dir.glob("*/*/model.json")):
        folder = document.parent
        held = newest.get(folder.parent.name)
        if held is None or _version_key(folder.name) > _version_key(held.name):
            newest[folder.parent.name] = folder
    return [newest[name] for name in sorted(newest)]


def stored_models_dir(tag: str) -> Path:
    """The folder of models that BentoML's store keeps under a tag; in a served bento, the store is the bento's own.

    Without a version, or with `latest`, it is the one stored last. Raises BundleError when the tag is wrong, is not in
    the store, or was not put there by `python -m export --bento`.
    """
    import bentoml  # only here: nothing else that reads bundles needs it
    from bentoml.exceptions import BentoMLException, NotFound

    try:
        asked = bentoml.Tag.from_taglike(tag)
        # `get` alone knows `latest` and a bento's aliases, and would take version 10 for 1 where there is no 1.
        newest = asked.version in (None, "latest")
        found = [bentoml.models.get(tag)] if newest else bentoml.models.list(asked)
    except NotFound:
        found = []
    except (BentoMLException, OSError, ValueError) as error:
        raise BundleError(
            f"bento_model {tag} can't be read from BentoML's model store: {error}; "
            "`bentoml models list` shows what is there; set REELSERVE_BENTO_MODEL",
            value=tag,
        ) from error
    if not found:
        raise BundleError(
            f"bento_model {tag} is not in BentoML's model store; `bentoml models list` shows what is there, "
            "`python -m export … --bento` puts a model in; set REELSERVE_BENTO_MODEL or BENTOML_HOME",
            value=tag,
        )
    folder = Path(found[0].path)
    if not newest_versions(folder):
        raise BundleError(
            f"bento_model {tag} holds no bundle that can be read; put one in with `python -m export … --bento`",
            value=tag,
        )
    return folder


def verify(folder: Path, encoders_dir: Path) -> Bundle:
    """Check a bundle against its certificate, byte for byte; BundleError names the line that failed."""
    model = read_document(folder / "model.json", ModelDocument)
    encoder_path = encoders_dir / model.encoder.name / "encoder.onnx"
    encoder = read_document(encoder_path.with_name("encoder.json"), EncoderDocument)
    certificate = read_document(folder / "certificate.json", CertificateDocument)
    if (model.name, model.version) != (folder.parent.name, folder.name):
        raise BundleError(
            f"model.json names {model.name} {model.version}, its folder is {folder.parent.name}/{folder.name}"
        )
    if (encoder.frame_height, encoder.frame_width) != (model.spec.frame_height, model.spec.frame_width):
        raise BundleError(
            f"model.json has frames of {model.spec.frame_width} x {model.spec.frame_height}, its encoder of "
            f"{encoder.frame_width} x {encoder.frame_height}; export the bundle again"
        )
    head_path, half_path = folder / "head.onnx", encoder_path.with_name("encoder.fp16.onnx")
    for path in (head_path, encoder_path, *([half_path] if encoder.fp16_sha256 else [])):
        if not path.is_file():
            raise BundleError(f"{path.name} is missing in {path.parent}; export the bundle again")
    head_sha256, encoder_sha256 = file_sha256(head_path), file_sha256(encoder_path)
    half_sha256 = file_sha256(half_path) if encoder.fp16_sha256 else "none"
    subjects = certificate.subjects
    for what, proven, found in (
        ("encoder.fp16.onnx", subjects.encoder_fp16_onnx or "none", half_sha256),
        ("fp16_sha256 of encoder.json", encoder.fp16_sha256 or "none", half_sha256),
        ("head.onnx", subjects.head_onnx, head_sha256),
        ("head_sha256 of model.json", model.head_sha256, head_sha256),
        ("encoder.onnx", subjects.encoder_onnx, encoder_sha256),
        ("encoder.sha256 of model.json", model.encoder.sha256, encoder_sha256),
        ("sha256 of encoder.json", encoder.sha256, encoder_sha256),
        ("model.json", subjects.model_json, canonical_sha256(folder / "model.json")),
        ("encoder.json", subjects.encoder_json, canonical_sha256(encoder_path.with_name("encoder.json"))),
    ):
        if proven != found:
            raise BundleError(
                f"{what} does not match the certificate: {proven[:12]}… was proven, {found[:12]}… is there; "
                "export the bundle again"
            )
    failing = certificate.failing()
    if failing or not certificate.passed or not certificate.rows:
        raise BundleError(f"the certificate failed: {failing[0] if failing else 'it proves nothing'}")
    return Bundle(model, encoder, certificate, head_path, encoder_path, subjects.model_json)


def _version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"[._-]", version)
    return (*((2, int(part)) if part.isdigit() else (0, part) for part in parts), (1, 0))
