"""Model bundles: find, verify. A bundle is refused when its certificate is missing, failed or for other bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.bundle import (
    KNOWN_ANSWER,
    STATISTICS,
    EncoderDocument,
    ModelDocument,
    canonical_sha256,
    file_sha256,
    read_document,
)
from service.certificate import CertificateDocument
from service.errors import BundleError
from service.model_errors import ModelNotLoaded, ModelRefused, UnknownModel
from service.redaction import hidden
from service.selection import Wanted, default_of, listed, nameless, wanted

if TYPE_CHECKING:
    from service.settings import Settings


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
    known_answer_path: Path
    sha256: str

    @property
    def disk_bytes(self) -> int:
        """Of both graphs."""
        return self.head_path.stat().st_size + self.encoder_path.stat().st_size


@dataclass(frozen=True)
class RefusedBundle:
    """A bundle that is not served, and the line that says why."""

    name: str
    version: str
    reason: str


class Registry:
    """One version of each bundle below a folder, or in what BentoML's store keeps under a tag, `bento_model`.

    The newest one, or the one that the setting `models` names. unloaded: of bundles that are not in memory, why not;
    empty of those that the setting leaves out.
    """

    def __init__(
        self, models_dir: Path, default_model: str | None = None, bento_model: str | None = None, models: str = ""
    ) -> None:
        self.models_dir = models_dir
        self.default_model = default_model
        self.bento_model = bento_model
        self.bundles: dict[str, Bundle] = {}
        self.refused: dict[str, RefusedBundle] = {}
        self.unloaded: dict[str, str] = {}
        self._models = models
        self._versions: dict[str, list[Path]] = {}

    @classmethod
    def of(cls, settings: Settings) -> Registry:
        """Of the folder, and with the models, that settings name."""
        return cls(settings.models_dir, settings.default_model, settings.bento_model, settings.models)

    def find(self) -> None:
        """Which bundles there are, by their folders' names; reads no file of theirs.

        Raises BundleError when there is no such folder, UnknownModel for a name of `models` that no bundle has.
        """
        if self.bento_model is not None:
            self.models_dir = stored_models_dir(self.bento_model)
        if not self.models_dir.is_dir():
            raise BundleError(f"models_dir {self.models_dir} is not a folder; set REELSERVE_MODELS_DIR")
        self._versions = versions_of(self.models_dir)
        for each in wanted(self._models):
            self._check_known(each)
        named = default_of(self.models_dir, self._versions)
        if self.default_model is None and named in self.asked_for:
            self.default_model = named

    def scan(self) -> None:
        """Find and verify every bundle: reads and hashes all files. Raises as `find` does."""
        self.find()
        pinned = {each.name: each.version for each in wanted(self._models)}
        for name, folders in self._versions.items():
            version = pinned.get(name) or folders[-1].name
            [folder] = [folder for folder in folders if folder.name == version]
            try:
                self.bundles[name] = verify(folder, self.models_dir / "encoders")
            except BundleError as error:
                self.refused[name] = RefusedBundle(name, version, error.detail)
            except OSError as error:
                self.refused[name] = RefusedBundle(name, version, f"{error.filename} can't be read: {error.strerror}")
            except Exception as error:  # noqa: BLE001  (what is in its files fails this bundle alone)
                self.refused[name] = RefusedBundle(name, version, f"it can't be verified: {error!r}; export it again")

    @property
    def asked_for(self) -> list[str]:
        """Names of the models that may be loaded: those of the setting `models`, or all."""
        return [each.name for each in wanted(self._models)] or list(self._versions)

    @property
    def named(self) -> list[str]:
        """Names of models that someone counts on: those of the setting `models`, and the default one."""
        names = [each.name for each in wanted(self._models)]
        return list(dict.fromkeys([*([self.default_model] if self.default_model is not None else []), *names]))

    def default(self) -> str | None:
        """Name of the model that a request gets which names none; None where it has to."""
        if self.default_model is not None:
            return self.default_model
        asked_for = self.asked_for
        good = [name for name in asked_for if name in self.bundles] or asked_for
        return good[0] if len(good) == 1 else None

    def to_load(self) -> list[Bundle]:
        """What the setting `models` asks for, the default model first. Raises BadParameter where it can't be told."""
        default, asked_for = self.default(), self.asked_for
        if not self._models.strip():
            if default is None and asked_for:
                raise nameless(asked_for)
            asked_for = []
        names = dict.fromkeys([*([default] if default is not None else []), *asked_for])
        return [self.bundles[name] for name in names if name in self.bundles]

    def refuse(self, name: str, reason: str) -> None:
        """Take a verified bundle out: it can't be loaded here."""
        bundle = self.bundles.pop(name)
        self.refused[name] = RefusedBundle(name, bundle.model.version, reason)

    def get(self, asked: str | None) -> Bundle:
        """The bundle of this name, or NAME/VERSION, or the default one, loaded or not.

        Raises UnknownModel, ModelRefused, BadParameter, and ModelNotLoaded for another version than the one at hand.
        """
        asked = self.default() if asked is None else asked
        if asked is None:
            raise nameless(self.asked_for)
        each = Wanted.of(asked)
        self._check_known(each)
        refused, bundle = self.refused.get(each.name), self.bundles.get(each.name)
        version = refused.version if refused else bundle.model.version if bundle else each.version
        if each.version not in (None, version):
            raise ModelNotLoaded(
                f"version {each.version} of model {each.name} exists and is not loaded, version {version} is at hand; "
                f"the setting models takes {each} in its place",
                value=asked,
            )
        if refused:
            raise ModelRefused(f"model {each.name} {refused.version} is refused: {refused.reason}", value=asked)
        return self.bundles[each.name]

    def _check_known(self, each: Wanted) -> None:
        folders = self._versions.get(each.name)
        if folders is None:
            raise UnknownModel(
                f"no model is named {hidden(each.name)!r}; there are: {listed(self._versions)}", value=str(each)
            )
        versions = [folder.name for folder in folders]
        if each.version is not None and each.version not in versions:
            raise UnknownModel(
                f"model {each.name} has no version {hidden(each.version)!r}; there are: {', '.join(versions)}",
                value=str(each),
            )


def versions_of(models_dir: Path) -> dict[str, list[Path]]:
    """The folders of each model's versions, the newest last, by name; versions compare number by number."""
    versions: dict[str, list[Path]] = {}
    for document in sorted(models_dir.glob("*/*/model.json")):
        versions.setdefault(document.parent.parent.name, []).append(document.parent)
    return {name: sorted(versions[name], key=lambda folder: _version_key(folder.name)) for name in sorted(versions)}


def newest_versions(models_dir: Path) -> list[Path]:
    """The newest version's folder of each model, sorted by name."""
    return [folders[-1] for folders in versions_of(models_dir).values()]


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
    known_path, statistics_path = folder / KNOWN_ANSWER, folder / STATISTICS
    for path in (head_path, encoder_path, known_path, *([half_path] if encoder.fp16_sha256 else [])):
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
        (KNOWN_ANSWER, subjects.known_answer, file_sha256(known_path)),
        (
            STATISTICS,
            subjects.statistics or "none",
            file_sha256(statistics_path) if statistics_path.exists() else "none",
        ),
        ("encoder.json", subjects.encoder_json, canonical_sha256(encoder_path.with_name("encoder.json"))),
    ):
        if proven != found:
            raise BundleError(
                f"{what} does not match the certificate: {proven[:12]}… was proven, {found[:12]}… is there; "
                "export the bundle again"
            )
    if failing := certificate.failing(model):
        raise BundleError(f"the certificate failed: {failing[0]}; export the bundle again")
    return Bundle(model, encoder, certificate, head_path, encoder_path, known_path, subjects.model_json)


def _version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    parts = re.split(r"[._-]", version)
    return (*((2, int(part)) if part.isdigit() else (0, part) for part in parts), (1, 0))
