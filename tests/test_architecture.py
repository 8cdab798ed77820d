"""The arrows of DESIGN: who may import whom, and what importing the service loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, environment

OURS = ("service", "models", "export", "tests")
# A folder may import these of ours, itself apart.
ALLOWED: dict[str, tuple[str, ...]] = {
    "service": (),
    # What a file is refused for, names on a terminal and intervals of shares are the service's.
    "models": ("service.video", "service.errors", "service.intervals", "service.names"),
    "export": ("service", "models"),
}
# The card is written from the files of a bundle, whose format is the service's.
EXCEPTIONS = {
    ("models/report/card.py", "service.bundle"),
    ("models/report/card.py", "service.certificate"),
    ("models/report/card_studies.py", "service.bundle"),
}
# Of rooms of one folder: what may not import what, as arrows go the other way.
UPSTREAM = (
    ("export/trace", "export.prove"), ("export/trace", "export.write"), ("export/prove", "export.write"),
    ("models/encoders", "models.data"), ("models/data", "models.report"), ("models/data", "models.study"),
    ("models/data", "models.fit"), ("models/data", "models.pipeline"),
)  # fmt: skip
LONGEST_LINES = 300


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, in functions too; for `from a import b` both `a` and `a.b`, as b may be
    a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def allowed(name: str, folder: str, file: str) -> bool:
    packages = (folder, *ALLOWED[folder], *(module for who, module in EXCEPTIONS if who == file))
    return any(below(name, package) for package in packages) or not any(below(name, ours) for ours in OURS)


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows(folder: str) -> None:
    assert sources(folder)
    crossing = {
        (file, name)
        for path in sources(folder)
        for name in imported(path)
        if not allowed(name, folder, file := path.relative_to(ROOT).as_posix())
    }
    assert crossing == set()


@pytest.mark.parametrize(("folder", "module"), UPSTREAM)
def test_arrows_between_rooms(folder: str, module: str) -> None:
    assert sources(folder)
    assert {path.name for path in sources(folder) if any(below(name, module) for name in imported(path))} == set()


def test_the_exceptions_are_used() -> None:
    for file, module in EXCEPTIONS:
        assert module in imported(ROOT / file)


def test_importing_the_service_loads_neither_torch_nor_training(tmp_path: Path) -> None:
    program = (
        "import sys, service.app, service.cli, service.serving\n"
        "print([name for name in ('torch', 'models', 'export', 'onnx', 'av') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(tmp_path, {"spool_dir": tmp_path}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sources("service"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_the_service_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_LINES
