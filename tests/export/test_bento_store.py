"""Bundles in BentoML's model store: what is stored, what is refused, and serving from it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore
from typer.testing import CliRunner

from export.write.bento import BentoStoreError, store
from service.bundle import canonical_sha256, file_sha256
from service.cli import app
from service.errors import BundleError
from service.registry import Registry
from tests.bundles import ROW, ROWS, copy_of_the_zoo, flip_a_byte, proven, sealed
from tests.drawn import Drawn
from tests.real_clips import real_clip
from tests.server import ROOT, environment, problem, serve, wait_until
from tests.zoo import ENCODERS, MODEL, TRAINED, TRAINED_ENCODER, ZOO

# BentoML's own use of pathspec, when it is first imported in this process.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

TAG = f"{MODEL}:{TRAINED.name}"


@pytest.fixture(autouse=True)
def models(tmp_path: Path) -> Iterator[Path]:
    """The store's folder, in the BENTOML_HOME that `tests.server.serve(tmp_path)` sets for its server.

    BentoML reads BENTOML_HOME once a process, so the store of this process is set in its own container.
    """
    folder = tmp_path / "bentoml" / "models"
    folder.mkdir(parents=True)
    BentoMLContainer.model_store.set(ModelStore(folder))
    yield folder
    BentoMLContainer.model_store.reset()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle of a few bytes; its encoder is beside it, in `encoders`."""
    return sealed(tmp_path / "zoo")


def keep(bundle: Path) -> str:
    return store(bundle, bundle.parents[1] / "encoders")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scanned(tag: str) -> Registry:
    registry = Registry(ZOO, bento_model=tag)
    registry.scan()
    return registry


def test_the_zoos_bundle_is_stored_with_labels_and_metadata(models: Path) -> None:
    assert store(TRAINED, ENCODERS) == TAG
    [held] = bentoml.models.list()
    document = json.loads((TRAINED / "model.json").read_text())
    encoder = document["encoder"]["name"]
    assert str(held.tag) == TAG
    assert Path(held.path) == models / MODEL / TRAINED.name
    pairs = "onnxruntime-cpu fp32, openvino-cpu bf16, openvino-cpu fp32"
    assert held.info.labels == {"task": "clip", "encoder": encoder, "proven": pairs}
    assert held.info.metadata == {
        "sha256": {
            "model": canonical_sha256(TRAINED / "model.json"),
            "encoder": file_sha256(ENCODERS / encoder / "encoder.onnx"),
            "head": file_sha256(TRAINED / "head.onnx"),
        },
        "metrics": document["training"]["metrics"],
        "created": document["created"],
        "versions": json.loads((TRAINED / "certificate.json").read_text())["versions"],
    }
    assert str(ROOT) not in (models / MODEL / TRAINED.name / "model.yaml").read_text()


def test_what_is_stored_is_a_folder_of_models(models: Path) -> None:
    store(TRAINED, ENCODERS)
    there = files(models / MODEL / TRAINED.name)
    assert there.pop("model.yaml")
    encoder = TRAINED_ENCODER
    ours = {f"{MODEL}/{TRAINED.name}/{name}": blob for name, blob in files(TRAINED).items()}
    assert f"{MODEL}/{TRAINED.name}/MODEL_CARD.md" in ours
    assert there == ours | {f"encoders/{encoder.name}/{name}": blob for name, blob in files(encoder).items()}
    registry = Registry(models / MODEL / TRAINED.name)
    registry.scan()
    assert list(registry.bundles) == [MODEL]
    assert registry.refused == {}


def test_another_user_may_read_it_where_ours_may_be_read(models: Path, tiny: Path) -> None:
    keep(tiny)
    folder = models / "tiny" / "1"
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / "encoders").stat().st_mode)


def test_labels_name_every_proven_pair(tmp_path: Path) -> None:
    cuda, half = proven("onnxruntime-cuda"), proven("onnxruntime-cuda", "fp16")
    cast_on_a_cpu = proven("onnxruntime-cuda", "bf16", measured_on="cpu")
    keep(sealed(tmp_path / "zoo", rows=half + cuda + ROWS + ROWS + cast_on_a_cpu))
    label = bentoml.models.get("tiny:1").info.labels["proven"]
    assert label == "onnxruntime-cpu fp32, onnxruntime-cuda fp16, onnxruntime-cuda fp32"


def test_the_same_bytes_once_more_change_nothing(models: Path, tiny: Path) -> None:
    keep(tiny)
    before = files(models)
    assert keep(tiny) == "tiny:1"
    assert files(models) == before


def test_other_bytes_under_a_tag_are_refused(models: Path, tiny: Path, tmp_path: Path) -> None:
    keep(tiny)
    before = files(models)
    other = sealed(tmp_path / "other", rows=(*ROWS, ROW.model_copy(update={"measured": 2e-6})))
    (other / "MODEL_CARD.md").write_text("A card.")
    with pytest.raises(BentoStoreError) as caught:
        keep(other)
    assert "tiny:1 is in BentoML's store with other bytes" in str(caught.value)
    assert "(tiny/1/MODEL_CARD.md, tiny/1/certificate.json)" in str(caught.value)
    assert "`bentoml models delete tiny:1`" in str(caught.value)
    assert files(models) == before
    bentoml.models.delete("tiny:1")
    assert keep(other) == "tiny:1"


def test_versions_lie_side_by_side(tmp_path: Path) -> None:
    for version in ("10", "11", "1"):
        keep(sealed(tmp_path / "zoo", version=version))
    assert sorted(str(held.tag) for held in bentoml.models.list("tiny")) == ["tiny:1", "tiny:10", "tiny:11"]


def test_a_bundle_that_does_not_verify_is_not_stored(models: Path, tiny: Path) -> None:
    flip_a_byte(tiny / "head.onnx")
    with pytest.raises(BentoStoreError, match=r"head\.onnx does not match the certificate"):
        keep(tiny)
    assert files(models) == {}


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("tiny", "latest", "BentoML's word for the newest"),
        ("tiny-", "1", "tiny- is not a valid BentoML tag"),
        ("t" * 64, "1", "at most 63 characters"),
    ],
)
def test_a_name_that_makes_no_tag(models: Path, tmp_path: Path, name: str, version: str, words: str) -> None:
    bundle = sealed(tmp_path / "zoo", name, version)
    with pytest.raises(BentoStoreError, match=f"{words}.*--version"):
        keep(bundle)
    assert files(models) == {}


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("where", ["copyfile", "copytree"], ids=["gathering", "storing"])
def test_an_error_half_way_leaves_nothing(
    models: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, where: str
) -> None:
    def half_way(_source: Path, target: Path, **_: object) -> None:
        (target / "half" if target.is_dir() else target).write_bytes(b"half")
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(shutil, where, half_way)
        with pytest.raises((BentoStoreError, KeyboardInterrupt)) as caught:
            keep(tiny)
    if isinstance(fault, OSError):
        assert "tiny:1 is not stored: [Errno 28] No space left on device" in str(caught.value)
    assert files(models) == {}
    assert bentoml.models.list() == []
    assert keep(tiny) == "tiny:1"


def test_what_a_killed_process_left_is_not_taken_for_a_model(models: Path, tiny: Path) -> None:
    (models / "tiny" / "1").mkdir(parents=True)
    (models / "tiny" / "1" / "half").touch()
    with pytest.raises(BentoStoreError, match=r"not whole .*bentoml\.models\.delete\('tiny:1'\)"):
        keep(tiny)
    with pytest.raises(BundleError, match=r"bento_model tiny:1 can't be read .*model\.yaml"):
        scanned("tiny:1")
    bentoml.models.delete("tiny:1")
    assert keep(tiny) == "tiny:1"


def test_the_registry_reads_from_the_store(models: Path, tiny: Path) -> None:
    registry = scanned(keep(tiny))
    assert registry.models_dir == models / "tiny" / "1"
    assert registry.get(None).head_path == models / "tiny" / "1" / "tiny" / "1" / "head.onnx"


@pytest.mark.parametrize("tag", ["tiny", "tiny:latest"])
def test_without_a_version_it_is_the_one_stored_last(tmp_path: Path, tag: str) -> None:
    for version in ("2", "1"):
        keep(sealed(tmp_path / "zoo", version=version))
    assert scanned(tag).get("tiny").model.version == "1"


@pytest.mark.parametrize("tag", ["tiny:1", "tinier", "tinier:latest", "tiny:100"])
def test_a_tag_that_is_not_there(tmp_path: Path, tag: str) -> None:
    keep(sealed(tmp_path / "zoo", version="10"))
    with pytest.raises(BundleError) as caught:
        scanned(tag)
    assert f"bento_model {tag} is not in BentoML's model store" in caught.value.detail
    assert "`bentoml models list`" in caught.value.detail
    assert caught.value.value == tag


@pytest.mark.parametrize("tag", ["not a tag", "a:b:c", ":1", "../tiny:1"])
def test_a_tag_that_is_none(tag: str) -> None:
    with pytest.raises(BundleError, match=r"bento_model .* can't be read"):
        scanned(tag)


def test_a_model_of_someone_elses() -> None:
    with bentoml.models.create("foreign:1") as model:
        Path(model.path_of("weights.bin")).touch()
    with pytest.raises(BundleError, match="bento_model foreign:1 holds no bundle"):
        scanned("foreign:1")


def test_a_server_answers_from_the_store(tmp_path: Path) -> None:
    tag = keep(copy_of_the_zoo(tmp_path / "zoo", "kept"))
    with serve(tmp_path, bento_model=tag) as server, server.client() as client:
        names = [line["name"] for line in client.get("/v1/models").json()["models"]]
        answer = client.post("/v1/predict", files={"video": real_clip("bikes.mp4").read_bytes()})
    assert names == ["kept"]
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["name"] == "kept"
    assert answer.json()["receipt"]["frames_used"] > 0


def test_a_server_says_which_tag_is_missing(tmp_path: Path) -> None:
    with serve(tmp_path, "/livez", bento_model="none:7") as server, server.client() as client:
        wait_until(lambda: "being verified" not in client.get("/readyz").json()["detail"], "the end of loading")
        detail = problem(client.get("/readyz"), 503, "not_ready")["detail"]
        assert client.get("/livez").status_code == 200
    assert "bento_model none:7 is not in BentoML's model store" in detail
    assert "--bento" in detail
    assert "REELSERVE_BENTO_MODEL" in detail


@pytest.mark.parametrize("command", ["predict", "probe"])
def test_the_command_line_reads_from_the_store(tmp_path: Path, clip: Drawn, command: str) -> None:
    tag = keep(copy_of_the_zoo(tmp_path / "zoo", "kept"))
    run = CliRunner().invoke
    good = run(app, [command, "--json", "--model", "kept", str(clip.path)], env={"REELSERVE_BENTO_MODEL": tag})
    assert good.exit_code == 0, good.output
    missing = run(app, [command, "--json", str(clip.path)], env={"REELSERVE_BENTO_MODEL": "none:7"})
    assert missing.exit_code == 2
    assert "bento_model none:7 is not in BentoML's model store" in missing.stderr


def test_reading_bundles_does_not_load_bentoml(tmp_path: Path) -> None:
    program = "import sys, service.cli, service.serving; print('bentoml' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=environment(tmp_path, {}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "False"
