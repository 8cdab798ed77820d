"""Every knob. Priority: command line > environment (`REELSERVE_<NAME>`) > file (`REELSERVE_CONFIG`, TOML) > default."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from service.engine.preferences import preferences
from service.jobs.kept import KEY_LETTERS, key_fault
from service.selection import names_several, wanted, well_formed
from service.video.limits import DecodeLimits

ROOT = Path(__file__).resolve().parent.parent
CONFIG_VARIABLE = "REELSERVE_CONFIG"
CGROUP = Path("/sys/fs/cgroup")
MIB = 1024 * 1024
# Measured: the service with one model is 290 MiB, a clip in progress 24 MiB (720p) to 60 MiB (1080p).
SERVICE_MEMORY_BYTES = 320 * MIB
CLIP_MEMORY_BYTES = 64 * MIB
_LIMITS = DecodeLimits()
# RFC 6454, 6.2: what a browser sends as Origin.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def available_cores() -> int:
    """Cores this process may use: its CPU affinity, and the quota of cgroup v2 or v1 where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((CGROUP / file).read_text(encoding="ascii") for file in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # no such cgroup, or `max`: no quota
            continue
        if quota > 0:
            return max(1, min(cores, round(quota / period)))
    return cores


def available_memory_bytes() -> int:
    """Memory this process may use: the machine's, or the limit of cgroup v2 or v1 where there is a lower one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((CGROUP / file).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such cgroup, or `max`: no limit
            continue
        return min(memory, limit)
    return memory


def clips_that_fit(*, several_models: bool = False) -> int:
    """Clips to have open at once: four a core, so that short ones pass long ones, but no more than memory holds.

    several_models: those beside the first one get the memory of a clip.
    """
    room_bytes = available_memory_bytes() - SERVICE_MEMORY_BYTES - several_models * CLIP_MEMORY_BYTES
    return max(1, min(4 * available_cores(), room_bytes // CLIP_MEMORY_BYTES))


def state_dir() -> Path:
    """Where a program of this user keeps what must outlive it (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "reelserve"


def feature_cache_that_fits() -> int:
    """Bytes for the feature cache: a twentieth of memory, at most 256 MiB."""
    return min(256 * MIB, available_memory_bytes() // 20)


def _known_runtimes(names: str) -> str:
    preferences(names)  # raises ValueError
    return names


def _known_origins(origins: str) -> str:
    for origin in _listed(origins):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin, as browsers send it; give scheme://host[:port] in lower case, without a "
                "path or a slash at the end, or * for all"
            )
    return origins


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


class Settings(BaseSettings):
    """Unit in the name, one line of documentation each."""

    model_config = SettingsConfigDict(
        env_prefix="REELSERVE_", extra="forbid", frozen=True, use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a traceback has no use for a secret
    )  # fmt: skip

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(default=3000, ge=1, le=65535, validation_alias=AliasChoices("REELSERVE_PORT", "PORT", "port"))
    """TCP port to listen on (also the plain variable PORT)."""
    cors_origins: Annotated[str, AfterValidator(_known_origins)] = ""
    """Web pages that may call, by origin, comma-separated: https://app.example.org; * for all; empty: none (CORS)."""
    models_dir: Path = ROOT / "models" / "zoo"
    """Folder where bundles are found."""
    bento_model: str | None = Field(default=None, min_length=1)
    """Tag of a model in BentoML's store to serve instead of models_dir; a bento that names a model needs none."""
    models: Annotated[str, AfterValidator(well_formed)] = ""
    """Models to load, comma-separated, NAME (its newest version) or NAME/VERSION; all; empty: the default one alone."""
    default_model: str | None = None
    """Model of requests that name none; not set: the one named in the file `default` of models_dir, or the only one."""
    memory_limit_bytes: int | None = Field(default=None, ge=MIB)
    """Memory of the process that holds the models, beyond which none is loaded; not set: the cgroup's or machine's."""
    runtime: Annotated[str, AfterValidator(_known_runtimes)] = "auto"
    """Runtimes, best first: auto, cuda, cpu, onnxruntime-tensorrt, openvino-cpu; the first here and proven serves."""
    encode_precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """What the encoder computes in; each runtime needs its rows of the certificate (fp16: CUDA; bf16: OpenVINO)."""
    require_gpu: bool = False
    """Not ready unless the encoder runs on a GPU, and is faster there than on a CPU."""
    gpu_memory_bytes: int | None = Field(default=None, ge=64 * MIB)
    """Most that ONNX Runtime may take of a GPU's memory for one encoder; not set: what it asks for."""
    max_upload_bytes: int = Field(default=256 * MIB, ge=1)
    """Largest video, bytes; beyond it 413 too_large."""
    spool_dir: Path = Path(tempfile.gettempdir()) / "reelserve-spool"
    """Folder of uploads in flight; emptied at start."""
    spool_quota_bytes: int = Field(default=2048 * MIB, ge=1)
    """Sum of all uploads in flight, bytes; beyond it 503 spool_full."""
    max_requests_in_flight: int = Field(default=64, ge=1)
    """Predictions received, waiting or running at once; beyond it 503 overloaded."""
    request_timeout_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """From an upload's end to its answer, where X-Request-Timeout says nothing; beyond it 504 deadline_exceeded."""
    max_request_timeout_seconds: float = Field(default=86400.0, gt=0, allow_inf_nan=False)
    """Largest X-Request-Timeout that a client may ask for."""
    max_clips_in_progress: int = Field(default_factory=clips_that_fit, ge=1)
    """Clips that are open at once, each with a decode process; the others wait in their spool files."""
    max_clips_decoding: int = Field(default_factory=available_cores, ge=1)
    """Open clips that decode at the same moment; they take turns."""
    encoder_threads: int | None = Field(default=None, ge=1)
    """Threads that run encoder batches, each one batch at a time; not set: one a core on a CPU, 2 on a GPU."""
    encode_batch_frames: int | None = Field(default=None, ge=1, le=256)
    """Most frames of one encoder batch, of as many clips as it takes; not set: 4 on a CPU (its cache), 64 on a GPU."""
    feature_cache_bytes: int = Field(default_factory=feature_cache_that_fits, ge=0)
    """Memory for the features of recent clips: another model or window over them decodes nothing; 0: none."""
    shadow_one_in: int = Field(default=0, ge=0)
    """One answer in so many is computed once more, alone, and compared (see the metrics); 0: none."""
    jobs_dir: Path = Field(default_factory=state_dir)
    """Folder of jobs on a local disk: their database, where jobs_url names none, and uploads that wait."""
    jobs_url: SecretStr | None = None
    """Database of jobs of several replicas, postgresql+psycopg://user:password@host/name; else SQLite in jobs_dir."""
    secret_key: SecretStr | None = None
    """Encrypts URLs of jobs, marks redacted ones; comma-separated, newest first; required with jobs_url, else made."""
    max_job_items_in_progress: int = Field(default_factory=clips_that_fit, ge=0)
    """Items of jobs in progress at once; 0: jobs are taken in here, and done by other replicas."""
    job_uri_prefixes: str = ""
    """Where items of jobs may be, comma-separated: s3://bucket/,https://host/,file:///data/; empty: uploads only."""
    job_webhook_prefixes: str = ""
    """Whom jobs may call when they have finished, comma-separated: https://host/; empty: nobody."""
    job_webhook_secret: SecretStr | None = None
    """Key of the webhooks' signatures (HMAC-SHA256, Standard Webhooks); required with job_webhook_prefixes."""
    job_uploads_quota_bytes: int = Field(default=10 * 1024 * MIB, ge=1)
    """Sum of all uploads of jobs that wait, bytes; beyond it 503 spool_full."""
    max_job_items: int = Field(default=100_000, ge=1)
    """Most items of one job; beyond it 413 too_many_items."""
    job_retention_seconds: float = Field(default=7 * 86400.0, gt=0)
    """A job that has finished, and its results, are deleted after so long."""
    job_lease_seconds: float = Field(default=30.0, ge=1)
    """A replica that says nothing for so long is dead, and others take its items over."""
    max_frame_pixels: int = Field(default=_LIMITS.max_frame_pixels, ge=1)
    """Largest width x height of a video; beyond it 413 too_many_pixels."""
    max_duration_seconds: float = Field(default=_LIMITS.max_duration_seconds, gt=0)
    """Latest time of a frame that is walked to; beyond it 413 too_long."""
    max_frames_walked: int = Field(default=_LIMITS.max_frames_walked, ge=1)
    """Most frames of a video; beyond it 413 too_many_frames."""
    max_ticks: int = Field(default=_LIMITS.max_ticks, ge=1)
    """Most samples of a video on its model's grid; beyond it 413 too_many_frames."""
    max_hold_seconds: float = Field(default=_LIMITS.max_hold_seconds, gt=0)
    """How long one picture may be shown; a clock that goes on later than that has jumped, and is bridged."""
    max_decode_stall_seconds: float = Field(default=_LIMITS.max_decode_stall_seconds, gt=0)
    """A decode process that is silent for so long hangs; it is killed, 422 decode_timeout."""
    max_decode_seconds: float = Field(default=_LIMITS.max_decode_seconds, gt=0)
    """Wall time of decoding one video, without waiting; beyond it 422 decode_timeout."""
    max_decode_cpu_seconds: int = Field(default=_LIMITS.max_decode_cpu_seconds, ge=1)
    """CPU time of one decode process (RLIMIT_CPU); beyond it 422 decode_timeout."""
    max_decode_memory_bytes: int = Field(
        default_factory=lambda: min(_LIMITS.max_decode_memory_bytes, available_memory_bytes() // 2), ge=16 * MIB
    )
    """Memory of one decode process (RLIMIT_AS above its start); beyond it 422 decode_memory."""
    upload_idle_seconds: int = Field(default=30, ge=1)
    """A client that sends nothing for so long gets 408 upload_timeout."""
    upload_seconds: int = Field(default=1800, ge=1)
    """A whole upload may take so long; beyond it 408 upload_timeout."""
    shutdown_seconds: int = Field(default=30, ge=1)
    """On SIGTERM, requests in flight may take this long to end."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Level of the service's own log."""

    @model_validator(mode="before")
    @classmethod
    def _models_share_the_memory(cls, given: dict[str, Any]) -> dict[str, Any]:
        if names_several(str(given.get("models", ""))):
            clips = clips_that_fit(several_models=True)
            return {"max_clips_in_progress": clips, "max_job_items_in_progress": clips, **given}
        return given

    @model_validator(mode="after")
    def _the_default_is_loaded(self) -> Self:
        names = [each.name for each in wanted(self.models)]
        if names and self.default_model is not None and self.default_model not in names:
            raise ValueError(
                f"default_model {self.default_model} is not among models {self.models}; add it there, or leave "
                "default_model out"
            )
        return self

    @model_validator(mode="after")
    def _timeouts_in_order(self) -> Self:
        if self.request_timeout_seconds > self.max_request_timeout_seconds:
            raise ValueError(
                f"request_timeout_seconds {self.request_timeout_seconds:g} is more than max_request_timeout_seconds "
                f"{self.max_request_timeout_seconds:g}; lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_long_and_there(self) -> Self:
        make = "make one by `openssl rand -base64 32`, the same for all replicas, and set REELSERVE_SECRET_KEY to it"
        for key in self.secret_keys():
            if len(key) < KEY_LETTERS:
                raise ValueError(f"secret_key has a key of {len(key)} characters, {KEY_LETTERS} are the least; {make}")
        if self.jobs_url is not None and not self.secret_keys():
            raise ValueError(
                f"jobs_url is set and secret_key is not: URLs of jobs are encrypted in that database by it; {make}"
            )
        if not self.secret_keys() and (fault := key_fault(self.jobs_dir)):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if _listed(self.job_webhook_prefixes) and not self.job_webhook_secret:
            raise ValueError(
                "job_webhook_prefixes is set and job_webhook_secret is not: webhooks are signed by it, and none would "
                "be sent; make one by `openssl rand -base64 32`, tell it to the receivers, and set "
                "REELSERVE_JOB_WEBHOOK_SECRET to it"
            )
        return self

    def secret_keys(self) -> list[str]:
        """Those of secret_key, the first for what is new; none where it is not set."""
        text = self.secret_key.get_secret_value() if self.secret_key else ""
        return [key for key in map(str.strip, text.split(",")) if key]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (the signature is pydantic-settings')
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the TOML file below the environment."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if file := os.environ.get(CONFIG_VARIABLE):
            if not Path(file).is_file():
                raise FileNotFoundError(f"{CONFIG_VARIABLE} names {file}, which is not a file")
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=file))
        return tuple(sources)

    def cors_allowed_origins(self) -> tuple[str, ...]:
        """Of `cors_origins`; `*` is all of them."""
        return _listed(self.cors_origins)

    def loading(self, model: str | None) -> Self:
        """The same, to load that model alone where one is named, in the version of `models`; whether there is one is
        told when it is loaded."""
        if model is None:
            return self
        [name] = [str(each) for each in wanted(self.models) if each.name == model] or [model]
        return self.model_copy(update={"models": name, "default_model": None})

    def decode_limits(self) -> DecodeLimits:
        """The settings that bound a single video."""
        return DecodeLimits(**{limit.name: getattr(self, limit.name) for limit in fields(DecodeLimits)})

    def to_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for the worker process."""
        return {
            f"REELSERVE_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in self.model_dump().items()
            if value is not None
        }
