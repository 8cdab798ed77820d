"""What a user can set, meet or read is documented: settings, parameters, error codes, metrics, modules, benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service import errors
from service.api.error_page import error_classes
from service.api.http import create_app
from service.bundle import GPU_RUNTIMES, read_document
from service.certificate import CertificateDocument
from service.jobs.errors import FetchFailed, GaveUp, WrongKey
from service.parameters import PredictParameters
from service.registry import newest_versions
from service.settings import Settings
from tests.bench import __main__ as bench
from tests.server import ROOT
from tests.write_operator_page import (
    DEPENDS_ON_THE_MACHINE,
    PAGE,
    all_metrics,
    metric_name,
    written,
)
from tests.zoo import ZOO

OPERATOR = PAGE.read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {"README.md": README, "service/README.md": OPERATOR, "CONTRIBUTING.md": CONTRIBUTING}
LONGEST_LINES = 250


def test_the_tables_are_those_of_the_code() -> None:
    assert written(OPERATOR) == OPERATOR, "python -m tests.write_operator_page, and look at what it changes"


def test_the_operator_page_is_short() -> None:
    assert len(OPERATOR.splitlines()) < LONGEST_LINES


def test_every_setting_code_and_metric_has_a_row() -> None:
    """Held against the code itself, not against what wrote the page."""
    for name in Settings.model_fields:
        assert f"\n| `{name}` |" in OPERATOR
    for line in (ROOT / "service" / "metrics.py").read_text(encoding="utf-8").splitlines():
        if found := re.search(r'"(reelserve_\w+)"', line):
            assert f"\n| `{found[1]}` |" in OPERATOR
    for code in re.findall(r'^    code(?:: ClassVar\[str\])? = "(\w+)"', _sources_of_errors(), re.MULTILINE):
        assert f"| `{code}` |" in OPERATOR or code == errors.RequestError.code


def test_each_error_has_words_of_its_own() -> None:
    """Title and status stand for the type (RFC 9457, 3.1): no two share a code or a title, and all say what to do."""
    every = list(error_classes())
    for name in ("code", "title", "__doc__"):
        assert len({getattr(error, name) for error in every}) == len(every), name
    for error in every:
        assert "remedy" in vars(error), error


def test_defaults_of_the_machine_are_told_in_words() -> None:
    made = {name for name, field in Settings.model_fields.items() if field.default_factory is not None}
    paths = {name for name, field in Settings.model_fields.items() if isinstance(field.default, Path)}
    assert set(DEPENDS_ON_THE_MACHINE) == made | paths


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    assert errors.__doc__
    drawn = re.findall(r"^\W*(\w+) +(\d{3}) (\w+)", errors.__doc__, re.MULTILINE)
    tree: list[type[errors.ReelserveError]] = [errors.RequestError, *error_classes()]
    assert sorted(drawn) == sorted((error.__name__, str(error.status), error.code) for error in tree)


def test_each_code_stands_at_its_status_in_the_api(tmp_path: Path) -> None:
    nobody_reads, in_rows, at_start = errors.Cancelled, (FetchFailed, GaveUp, WrongKey), errors.BundleError
    of_no_operation = (errors.NotFound, errors.MethodNotAllowed, errors.PreflightRefused)
    paths = create_app(Settings(spool_dir=tmp_path, jobs_dir=tmp_path)).openapi()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    said = {
        (int(status), code)
        for operation in operations
        for status, response in operation["responses"].items()
        for code in re.findall(r"^- `(\w+)`: ", response["description"], re.MULTILINE)
    }
    missing = {error for error in error_classes() if (error.status, error.code) not in said}
    assert missing == {nobody_reads, *in_rows, at_start, *of_no_operation}


def test_the_configuration_file_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = re.findall(r"^```toml\n(.*?)^```", OPERATOR, re.MULTILINE | re.DOTALL)
    (tmp_path / "reelserve.toml").write_text(example)
    monkeypatch.setenv("REELSERVE_CONFIG", str(tmp_path / "reelserve.toml"))
    monkeypatch.delenv("PORT", raising=False)
    assert Settings().port == 8080


@pytest.mark.parametrize("name", [*PredictParameters.model_fields, "X-Request-Timeout", "Retry-After", "Server-Timing"])
def test_every_parameter_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    names = set(re.findall(r"`(reelserve_\w+)`?", PAGES[page]))
    assert names <= {metric_name(metric) for metric in all_metrics()}
    statuses = {error.code: error.status for error in error_classes()}
    for status, code in re.findall(r"\b([45]\d\d)\s+`(\w+)`", PAGES[page]):
        assert statuses[code] == int(status), code
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize(
    "folder",
    [
        "service", "service/engine", "service/jobs", "models", "models/data", "models/encoders", "models/report",
        "models/study", "export", "export/trace", "export/prove", "export/write",
    ],
)  # fmt: skip
def test_contributing_has_every_module(folder: str) -> None:
    names = [path.stem for path in sorted((ROOT / folder).glob("*.py")) if not path.stem.startswith("__")]
    assert [name for name in names if not re.search(rf"`{name}(\.py)?`", CONTRIBUTING)] == []


def test_contributing_has_every_benchmark() -> None:
    assert bench.__doc__
    names = re.findall(r"^([a-z-]+)\*? ", bench.__doc__.partition("\n\n")[2], re.MULTILINE)
    assert set(bench.STANDARD) < set(names)
    assert [name for name in names if name != "all" and f"tests.bench {name}" not in CONTRIBUTING] == []


def test_the_bundled_models_have_no_row_for_a_gpu() -> None:
    """Where one comes to have it, service/README.md has to change."""
    for folder in newest_versions(ZOO):
        rows = read_document(folder / "certificate.json", CertificateDocument).rows
        assert not {row.runtime for row in rows} & set(GPU_RUNTIMES)


def _sources_of_errors() -> str:
    files = [ROOT / "service" / name for name in ("errors.py", "model_errors.py", "video/errors.py", "jobs/errors.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
