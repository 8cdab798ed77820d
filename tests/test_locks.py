"""The locks: which one `make serve` installs, what they hold, and that no address is in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("bench-bentoml", "bench-litserve", "bench-fastapi")
# What else a benchmark compares with, and what of ours it shares.
DETECTORS = {"bench-scenedetect": ("numpy", "opencv-python-headless"), "bench-transnetv2": ("av", "numpy", "torch")}
LOCKS = ("boot", "serve-cpu", "serve-gpu", "serve-openvino", "serve-ray", "train", "dev", "bench", *PEERS, *DETECTORS)


@pytest.mark.parametrize(
    ("answer", "lock", "reason"),
    [
        ("echo 580.65.06", "serve-gpu", "driver 580.65.06"),
        ("echo 581.1; echo 581.1", "serve-gpu", "driver 581.1"),
        ("echo 570.124.06", "serve-cpu", "driver 570.124.06 is older than 580"),
        ("echo no devices were found", "serve-cpu", "gave no driver version"),
        ("exit 9", "serve-cpu", "gave no driver version"),
        (None, "serve-cpu", "no nvidia-smi here"),
    ],
)
def test_the_driver_decides(answer: str | None, lock: str, reason: str, tmp_path: Path) -> None:
    if answer is not None:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{answer}\n")
        command.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(ROOT / "requirements" / "choose.py")],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"requirements/{lock}.txt\n"
    assert reason in done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text


@pytest.mark.parametrize("name", ["serve-cpu", "serve-gpu", "serve-openvino", "serve-ray", "bench"])
def test_serving_installs_no_torch(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"^(torch|triton)\b", text, re.MULTILINE)
    assert re.search(r"^onnxruntime-gpu==" if name == "serve-gpu" else r"^onnxruntime==", text, re.MULTILINE)


@pytest.mark.parametrize("name", PEERS)
def test_peers_have_our_versions_of_what_decides_their_speed(name: str) -> None:
    ours, theirs = _versions("dev"), _versions(name)
    for package in ("onnxruntime", "opencv-python-headless", "torch", "numpy"):
        assert theirs[package] == ours[package]


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_have_our_versions_of_what_they_share(name: str) -> None:
    ours, theirs = _versions("dev"), _versions(name)
    for package in DETECTORS[name]:
        assert theirs[package] == ours[package]


def _versions(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", text, re.MULTILINE))


def test_openvino_comes_on_top_of_what_serves_on_a_cpu() -> None:
    cpu, openvino = (
        set(re.findall(r"^[a-z0-9_.-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("serve-cpu", "serve-openvino")
    )
    assert cpu < openvino
    assert {pin.partition("==")[0] for pin in openvino - cpu} == {"openvino"}
