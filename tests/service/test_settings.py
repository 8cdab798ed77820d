"""Priority: command line > environment > file > default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr, ValidationError

from service.settings import MIB, Settings, available_cores, available_memory_bytes
from service.terminal import read_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("REELSERVE_") or name == "PORT":
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration file, in use."""
    path = tmp_path / "reelserve.toml"
    path.touch()
    monkeypatch.setenv("REELSERVE_CONFIG", str(path))
    return path


def from_command_line(*arguments: str) -> Settings:
    return Settings(_cli_parse_args=list(arguments), _cli_kebab_case=True)


def test_command_line_over_environment_over_file_over_default(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_command_line().max_upload_bytes == 256 * 1024 * 1024
    toml.write_text("max_upload_bytes = 1000\n")
    assert from_command_line().max_upload_bytes == 1000
    monkeypatch.setenv("REELSERVE_MAX_UPLOAD_BYTES", "2000")
    assert from_command_line().max_upload_bytes == 2000
    assert from_command_line("--max-upload-bytes", "3000").max_upload_bytes == 3000


def test_each_layer_adds_to_the_others(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('default_model = "from-file"\n')
    monkeypatch.setenv("REELSERVE_LOG_LEVEL", "DEBUG")
    settings = from_command_line("--host", "0.0.0.0")  # noqa: S104
    assert (settings.default_model, settings.log_level) == ("from-file", "DEBUG")
    assert settings.host == "0.0.0.0"  # noqa: S104


def test_port_by_any_of_its_names(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_command_line().port == 3000
    toml.write_text("port = 1001\n")
    assert from_command_line().port == 1001
    monkeypatch.setenv("PORT", "1002")
    assert from_command_line().port == 1002
    assert from_command_line("--port", "1003").port == 1003
    assert Settings(port=1004).port == 1004


def test_our_own_name_for_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSERVE_PORT", "1001")
    assert from_command_line().port == 1001
    assert from_command_line("--port", "1003").port == 1003


def test_our_own_name_for_the_port_is_the_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSERVE_PORT", "1001")
    monkeypatch.setenv("PORT", "1002")
    assert from_command_line().port == 1001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "65536"),
        ("port", "http"),
        ("max_upload_bytes", "0"),
        ("spool_quota_bytes", "-1"),
        ("max_requests_in_flight", "0"),
        ("encode_batch_frames", "257"),
        ("request_timeout_seconds", "0"),
        ("max_request_timeout_seconds", "inf"),
        ("feature_cache_bytes", "-1"),
        ("shadow_one_in", "-1"),
        ("runtime", "tpu"),
        ("bento_model", ""),
        ("models", "a,,b"),
        ("models", "a/b/c"),
        ("models", "../a"),
        ("models", "a,all"),
        ("models", "a/1,a/2"),
        ("memory_limit_bytes", "1000"),
        ("log_level", "chatty"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"REELSERVE_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [problem["input"] for problem in caught.value.errors()] == [value]
    assert name in str(caught.value).lower()


LONG = "k" * 32


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"secret_key": "short"}, ["5 characters", "32", "openssl rand -base64 32"]),
        ({"secret_key": f"{LONG},short"}, ["5 characters"]),
        ({"jobs_url": "postgresql+psycopg://u:word@host/db"}, ["secret_key", "REELSERVE_SECRET_KEY", "openssl rand"]),
        ({"jobs_url": "postgresql+psycopg://u:word@host/db", "secret_key": " , "}, ["secret_key is not"]),
        ({"job_webhook_prefixes": "https://h/"}, ["job_webhook_prefixes", "job_webhook_secret is not", "openssl rand"]),
        ({"job_webhook_prefixes": "https://h/", "job_webhook_secret": ""}, ["REELSERVE_JOB_WEBHOOK_SECRET"]),
    ],
)
def test_a_key_is_long_and_there(
    settings: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said of it repeats no secret."""
    for name, value in settings.items():
        monkeypatch.setenv(f"REELSERVE_{name.upper()}", value)
    with pytest.raises(typer.Exit):
        read_settings()
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    with pytest.raises(ValidationError) as caught:
        Settings()
    for secret in ("short", "u:word", LONG):
        assert secret not in said + str(caught.value)


def test_keys_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().secret_keys() == []
    monkeypatch.setenv("REELSERVE_SECRET_KEY", f"{LONG}, {LONG}2")
    assert Settings(jobs_url=SecretStr("sqlite://")).secret_keys() == [LONG, f"{LONG}2"]
    assert LONG not in repr(Settings())


def test_an_unknown_name_in_the_file_is_refused(toml: Path) -> None:
    toml.write_text("max_uplod_bytes = 1\n")
    with pytest.raises(ValidationError, match="max_uplod_bytes"):
        Settings()


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELSERVE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(FileNotFoundError, match=r"REELSERVE_CONFIG names .*none\.toml"):
        Settings()


def test_settings_survive_the_way_to_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = from_command_line("--models-dir", str(tmp_path), "--encode-batch-frames", "3", "--models", "a/1,b")
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_in_one_line(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert "\n" not in description
    assert description.endswith((".", ")."))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_number_has_its_unit_in_its_name(name: str) -> None:
    counts = (
        "bytes",
        "frames",
        "ticks",
        "pixels",
        "seconds",
        "threads",
        "items",
        "one_in",
        "in_flight",
        "in_progress",
        "decoding",
        "walked",
        "port",
    )
    if Settings.model_fields[name].annotation in (int, float):
        assert name.endswith(counts)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_there_is_a_core() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_the_cpu_quota_counts(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr("service.settings.CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert available_cores() == cores


@pytest.mark.parametrize(
    ("file", "content", "limit_bytes"),
    [
        ("memory.max", "536870912\n", 512 * MIB),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "268435456\n", 256 * MIB),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
    ],
)
def test_the_memory_limit_counts(
    file: str, content: str, limit_bytes: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    monkeypatch.setattr("service.settings.CGROUP", tmp_path)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available_memory_bytes() == (limit_bytes or machine)
    assert Settings().max_decode_memory_bytes == min(1024 * MIB, (limit_bytes or machine) // 2)


@pytest.mark.parametrize(
    ("cores", "memory_mib", "clips"), [(2, 512, 3), (2, 1024, 8), (16, 1024, 11), (1, 65536, 4), (2, 256, 1)]
)
def test_as_many_clips_are_open_as_cores_and_memory_bear(
    cores: int, memory_mib: int, clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.settings.available_cores", lambda: cores)
    monkeypatch.setattr("service.settings.available_memory_bytes", lambda: memory_mib * MIB)
    assert Settings().max_clips_in_progress == clips


@pytest.mark.parametrize(("models", "clips"), [("", 3), ("a", 3), ("a,b", 2), ("all", 2)])
def test_a_clip_less_is_open_where_models_share_the_memory(
    models: str, clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.settings.available_memory_bytes", lambda: 512 * MIB)
    monkeypatch.setattr("service.settings.available_cores", lambda: 2)
    settings = Settings(models=models)
    assert (settings.max_clips_in_progress, settings.max_job_items_in_progress) == (clips, clips)
    assert Settings(models=models, max_clips_in_progress=5).max_clips_in_progress == 5


def test_the_default_model_is_among_those_that_are_loaded() -> None:
    with pytest.raises(ValidationError, match="default_model c is not among models a,b/2; add it there"):
        Settings(models="a,b/2", default_model="c")
    assert Settings(models="a,b/2", default_model="b").default_model == "b"
    assert Settings(models="all", default_model="c").default_model == "c"


def test_one_model_is_loaded_for_who_names_one() -> None:
    settings = Settings(models="a/1,b", default_model="b")
    assert settings.loading(None) is settings
    assert settings.loading("a").models == "a/1"
    assert settings.loading("a/2").models == "a/2"
    assert (settings.loading("c").models, settings.loading("c").default_model) == ("c", None)
