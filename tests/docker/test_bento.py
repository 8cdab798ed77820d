"""`bentoml build` packs the service, and the bento serves a clip from a folder where no checkout is in reach."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.drawn import draw
from tests.real_clips import real_clip
from tests.zoo import ENCODERS, MODEL, TRAINED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "serve-cpu.txt"
DEADLINE_SECONDS = 120.0


def environment(home: Path) -> dict[str, str]:
    """Ours without settings and import paths; BentoML's store in `home`, and the venv's uv, which `build` calls."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REELSERVE_", "BENTOML_")) and name not in ("PORT", "PYTHONPATH")
    }
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "REELSERVE_SPOOL_DIR": str(home / "spool"),
        "REELSERVE_JOBS_DIR": str(home / "jobs"),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME of its own."""
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def bento(home: Path) -> Path:
    """The folder of the built bento."""
    run(ROOT, home, "-m", "bentoml", "build", "--version", "test", ".")
    return home / "bentos" / "video_service" / "test"


def run(folder: Path, home: Path, *arguments: str) -> None:
    """Python with these arguments, in `folder`."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment(home), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def serving(bento: Path, home: Path, folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`bentoml serve` of the bento, run in `folder`: the process and its address, which may not yet answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=environment(home) | settings, stdout=log, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)  # its workers lead sessions of their own
                process.send_signal(signal.SIGTERM)
                process.wait(DEADLINE_SECONDS)
                assert psutil.wait_procs(family, timeout=5)[1] == []


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when /readyz answers 200; fail with the log when the process ends or time is up."""
    wait_until_readyz_says('"ready"', client, process, log)


def wait_until_readyz_says(words: str, client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the answer of /readyz has these words; fail with the log when the process ends or time is up."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if words in client.get("/readyz").text:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"/readyz does not say {words}:\n{log.read_text()}")


def test_holds_the_service_and_the_models_and_nothing_else(bento: Path) -> None:
    source = bento / "src"
    assert {path.name for path in source.iterdir()} == {"bentofile.yaml", "service", "models", "LICENSE", "NOTICE"}
    assert [path.name for path in (source / "models").iterdir()] == ["zoo"]
    assert not list(source.rglob("__pycache__"))
    for folder in ("service", "models/zoo"):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        packed = {path.relative_to(source) for path in (source / folder).rglob("*") if path.is_file()}
        assert packed == {path for path in ours if "__pycache__" not in path.parts}


def test_keeps_the_lock_with_its_hashes(bento: Path) -> None:
    def pins_and_hashes(file: Path) -> set[str]:
        return set(re.findall(r"^[\w.-]+==[\w.+-]+|sha256:\w+", file.read_text(), re.MULTILINE))

    assert pins_and_hashes(bento / "env" / "python" / "requirements.txt") == pins_and_hashes(LOCK)


def test_serves_a_clip_and_stops_on_sigterm(bento: Path, home: Path, tmp_path: Path) -> None:
    clip = draw(tmp_path / "clip.mp4").path
    with serving(bento, home, tmp_path) as (process, url):
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client:
            wait_until_ready(client, process, tmp_path / "log")
            answer = client.post("/v1/predict", files={"video": clip.read_bytes()})
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.json()["predictions"]
        assert answer.json()["receipt"]["frames_used"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()


TAG = f"{MODEL}:{TRAINED.name}"
BUNDLES = f'models: ["{TAG}"]'
STORE = "import pathlib, sys, export.write.bento; export.write.bento.store(*map(pathlib.Path, sys.argv[1:]))"


def build_naming(models: str, version: str, home: Path, folder: Path) -> None:
    """`bentoml build` of what bentofile.yaml packs, with its line of `models:` in use, in place of models/zoo."""
    text = (ROOT / "bentofile.yaml").read_text()
    assert f"\n# {BUNDLES}\n" in text
    assert '\n  - "/models/zoo/**"\n' in text
    for name in ("service", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    text = text.replace(f"# {BUNDLES}", models).replace('  - "/models/zoo/**"\n', "")
    (folder / "bentofile.yaml").write_text(text)
    run(folder, home, "-m", "bentoml", "build", "--version", version, ".")


@pytest.fixture(scope="module")
def naming(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bento that names the zoo's model, which is in the store of `home`, and packs no models/zoo."""
    run(ROOT, home, "-c", STORE, str(TRAINED), str(ENCODERS))
    build_naming(BUNDLES, "naming", home, tmp_path_factory.mktemp("naming"))
    return home / "bentos" / "video_service" / "naming"


@pytest.mark.parametrize("packed", [False, True], ids=["in the store", "packed"])
def test_a_bento_serves_the_model_that_it_names(naming: Path, home: Path, tmp_path: Path, packed: bool) -> None:
    assert not (naming / "src" / "models").exists()
    if packed:  # as in an image: the model's files in the bento's folder, and no store with them
        archive = tmp_path / "reelserve.bento"
        run(tmp_path, home, "-m", "bentoml", "export", "video_service:naming", str(archive))
        naming, home = tmp_path / "bento", tmp_path / "home"
        with tarfile.open(archive) as tar:
            tar.extractall(naming, filter="data")
        assert (naming / "models" / MODEL / TRAINED.name / "model.yaml").is_file()
        home.mkdir()
    with (
        serving(naming, home, tmp_path) as (process, url),
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client,
    ):
        wait_until_ready(client, process, tmp_path / "log")
        answer = client.post("/v1/predict", files={"video": real_clip("bikes.mp4").read_bytes()})
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.json()["model"]["name"] == "actions-lstm"
        assert answer.json()["receipt"]["frames_used"] > 0
    assert not list(home.glob("models/*")) or not packed, "it was not the bento's own"


def test_a_setting_comes_before_what_the_bento_names(naming: Path, home: Path, tmp_path: Path) -> None:
    for settings, words in (
        ({"REELSERVE_BENTO_MODEL": "none:7"}, "bento_model none:7 is not in BentoML's model store"),
        ({"REELSERVE_MODELS_DIR": str(tmp_path / "none")}, "none is not a folder"),
    ):
        with (
            serving(naming, home, tmp_path, **settings) as (process, url),
            httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client,
        ):
            wait_until_readyz_says(words, client, process, tmp_path / "log")


@pytest.mark.usefixtures("naming")
def test_of_several_models_that_a_bento_names_one_is_chosen(home: Path, tmp_path: Path) -> None:
    run(tmp_path, home, "-c", "import bentoml\nwith bentoml.models.create('other:1'): pass")
    (tmp_path / "tree").mkdir()
    build_naming(f'models: ["{TAG}", "other:1"]', "two", home, tmp_path / "tree")
    bento, log = home / "bentos" / "video_service" / "two", tmp_path / "log"
    with (
        serving(bento, home, tmp_path) as (process, url),
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client,
    ):
        words = f"the bento names 2 models ({TAG}, other:1); set REELSERVE_BENTO_MODEL"
        wait_until_readyz_says(words, client, process, log)
    with (
        serving(bento, home, tmp_path, REELSERVE_BENTO_MODEL=TAG) as (process, url),
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client,
    ):
        wait_until_ready(client, process, log)
