"""Put a finished bundle into BentoML's model store: `python -m export … --bento`.

The stored model is itself a folder of models with one bundle in it, so the service reads it as it reads any other.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml.exceptions import BentoMLException, NotFound

from export.errors import ExportError
from service.bundle import file_sha256
from service.errors import BundleError
from service.registry import Bundle, verify

# What BentoML itself writes beside our files.
_BENTOML_FILE = "model.yaml"


class BentoStoreError(ExportError):
    """The bundle was not stored; the message says why and what to do."""


def store(bundle: Path, encoders_dir: Path) -> str:
    """Verify and store `<models_dir>/<name>/<version>` with its encoder; returns the tag, `<name>:<version>`.

    A tag that holds the same bytes is left as it is. Raises BentoStoreError, and then nothing is stored: the bundle
    does not verify, its name makes no tag, the tag holds other bytes, or the store can't be written.
    """
    try:
        verified = verify(bundle, encoders_dir)
        files = _files(bundle, encoders_dir / verified.model.encoder.name)
    except (BundleError, OSError) as error:
        raise BentoStoreError(f"{bundle} is not stored: {error}") from error
    tag = _tag(verified.model.name, verified.model.version)
    if _holds(tag, files):
        return str(tag)
    try:
        # BentoML copies this folder into its store when the block ends, and takes it out again when that fails.
        with bentoml.models.create(tag, labels=_labels(verified), metadata=_metadata(verified)) as model:
            for name, source in files.items():
                target = Path(model.path_of(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            # BentoML keeps the mode of its temporary folder, which is for its owner alone: a container's user reads it.
            shutil.copymode(model.path_of("encoders"), model.path)
    except (BentoMLException, OSError) as error:
        raise BentoStoreError(f"{tag} is not stored: {error}; make room or mend BENTOML_HOME, and try again") from error
    except KeyboardInterrupt:  # the one that BentoML does not clear up after
        with suppress(NotFound):
            bentoml.models.delete(tag)
        raise
    return str(tag)


def _files(bundle: Path, encoder: Path) -> dict[str, Path]:
    """Every file of the bundle and of its encoder, by its path in a folder of models."""
    folders = {f"{bundle.parent.name}/{bundle.name}": bundle, f"encoders/{encoder.name}": encoder}
    return {
        f"{inside}/{path.name}": path
        for inside, folder in folders.items()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def _tag(name: str, version: str) -> bentoml.Tag:
    """BentoML's rules are narrower than ours: at most 63 characters, a letter or digit at the end."""
    if version == "latest":
        raise BentoStoreError("version latest is BentoML's word for the newest; export with another --version")
    try:
        return bentoml.Tag(name, version)
    except ValueError as error:
        raise BentoStoreError(f"{error}; choose another name (`models train --name`) or --version") from error


def _holds(tag: bentoml.Tag, files: dict[str, Path]) -> bool:
    """Whether the store has this tag with the same bytes; BentoStoreError when it has it with others."""
    try:
        held = bentoml.models.list(tag)  # `get` would take 10 for 1 where there is no 1
    except BentoMLException as error:  # such a folder is what a killed process leaves; BentoML's command can't read it
        raise BentoStoreError(
            f"{tag} is in BentoML's store, but not whole ({error}); remove it with "
            f"`python -c \"import bentoml; bentoml.models.delete('{tag}')\"`, and try again"
        ) from error
    if not held:
        return False
    folder = Path(held[0].path)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {_BENTOML_FILE}
    differing = there.symmetric_difference(files)
    differing |= {name for name in there & set(files) if file_sha256(folder / name) != file_sha256(files[name])}
    if differing:
        raise BentoStoreError(
            f"{tag} is in BentoML's store with other bytes ({', '.join(sorted(differing))}); export with another "
            f"--version, or remove it first with `bentoml models delete {tag}`"
        )
    return True


def _proven(bundle: Bundle) -> str:
    pairs = sorted({(row.runtime, row.precision) for row in bundle.certificate.rows})
    return ", ".join(" ".join(pair) for pair in pairs if bundle.certificate.covers(*pair, bundle.model))


def _labels(bundle: Bundle) -> dict[str, str]:
    """To find models by, in words; BentoML takes no other."""
    return {
        "task": bundle.model.task,
        "encoder": bundle.model.encoder.name,
        "proven": _proven(bundle),
    }


def _metadata(bundle: Bundle) -> dict[str, Any]:
    """What identifies the model and what it scored; numbers only of `training`, which may hold anything."""
    metrics = bundle.model.training.get("metrics", {})
    return {
        "sha256": {
            "model": bundle.sha256,
            "encoder": bundle.model.encoder.sha256,
            "head": bundle.model.head_sha256,
        },
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, (int, float))},
        "created": bundle.model.created,
        "versions": dict(bundle.certificate.versions),
    }
