"""The bundle format: what `export` writes and the registry reads. Validated, versioned, sealed by hashes.

<models_dir>/encoders/<name>/encoder.onnx, encoder.json
<models_dir>/<model>/<version>/head.onnx, model.json, certificate.json, MODEL_CARD.md
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BundleError
from service.video.spec import ClipSpec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

Runtime = Literal["onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino-cpu"]
Precision = Literal["fp32", "fp16", "bf16"]
# What a runtime computes in. ONNX Runtime's CPU kernels are fp32, with casts around them for anything else, and ONNX's
# Conv takes no bf16; OpenVINO computes an fp32 graph in bf16 where the CPU can, and in no fp16 on x86.
PRECISIONS: dict[Runtime, tuple[Precision, ...]] = {
    "onnxruntime-cpu": ("fp32",),
    "onnxruntime-cuda": ("fp32", "fp16"),
    "onnxruntime-tensorrt": ("fp32", "fp16"),
    "openvino-cpu": ("fp32", "bf16"),
}
GPU_RUNTIMES: tuple[Runtime, ...] = ("onnxruntime-cuda", "onnxruntime-tensorrt")
# The lines that a certificate must hold before anything is served: of an encoder, for each runtime and precision, ...
ENCODER_LINES = frozenset(
    {
        "encoder features, random frames", "encoder batch invariance", "encoder features, real frames",
        "real clips, each window", "real clips, scores", "real clips, top-1", "real clips, mixed batches",
        "nodes misplaced",
    }
)  # fmt: skip
# ... and of the head, in fp32, on the runtime that it goes with.
HEAD_LINES = frozenset(
    {
        "head outputs, grid", "head top-1, grid", "head batch invariance", "head permutation invariance",
        "head padding invariance",
    }
)  # fmt: skip
# clip: many-to-one, outputs (B, K); frame: many-to-many, outputs (B, T, K).
Task = Literal["clip", "frame"]


def head_runtime(runtime: Runtime) -> Runtime:
    """What the heads of an encoder on `runtime` run on: the same, but OpenVINO would ignore their lengths."""
    return "onnxruntime-cpu" if runtime == "openvino-cpu" else runtime


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderDocument(_Document):
    """encoder.json. The graph: `frames` uint8 RGB (N, frame_height, frame_width, 3) → `features` float32 (N, D)."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=SHA256_PATTERN, description="Of encoder.onnx.")
    frame_height: int
    frame_width: int
    feature_size: int
    opset: int
    exporter: str
    source: str
    licence: str
    fp16_sha256: str | None = Field(
        default=None, pattern=SHA256_PATTERN, description="Of encoder.fp16.onnx, for GPUs, where there is one."
    )


class EncoderReference(_Document):
    """The encoder that a head was trained on."""

    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=SHA256_PATTERN)


class StateTensor(_Document):
    """One state tensor: graph input `<name>` and output `<name>_out`, float32 (batch, size)."""

    name: str
    size: int


class ModelDocument(_Document):
    """model.json. Nothing needed to reproduce a prediction lives anywhere else."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=NAME_PATTERN)
    task: Task
    labels: tuple[str, ...] = Field(min_length=2)
    encoder: EncoderReference
    head_sha256: str = Field(pattern=SHA256_PATTERN)
    spec: ClipSpec
    state: tuple[StateTensor, ...]
    score: Literal["softmax", "sigmoid", "none"]
    training: dict[str, Any]
    created: str = Field(description="When the checkpoint was trained, ISO 8601 UTC.")


class CertificateRow(_Document):
    """One proven line: `measured` against `limit`, for one runtime and precision."""

    check: str
    runtime: Runtime
    precision: Precision
    measured_on: Literal["cpu", "gpu"] = "cpu"
    measured: float
    limit: float
    comparison: Literal["at most", "at least"]
    cases: int = Field(description="How many inputs the line covers.")
    passed: bool
    detail: str = Field(default="", description="The worst case, or what went wrong.")

    @property
    def holds(self) -> bool:
        """Whether the figure keeps its limit: computed, as `passed` is only what the file says."""
        return self.measured <= self.limit if self.comparison == "at most" else self.measured >= self.limit

    def __str__(self) -> str:
        where = f"{self.runtime}, {self.precision}, measured on {self.measured_on}"
        said = f"{self.check} ({where}): {self.measured:g}, {self.comparison} {self.limit:g} needed"
        return f"{said}; {self.detail}" if self.detail else said


class Placement(_Document):
    """Where the nodes of one kind run, as the runtime's own profile or compiled graph says."""

    graph: str
    op_type: str
    nodes: int
    runtime: Runtime
    provider: str
    expected: str = Field(default="", description="Why another provider than the runtime's is right; else empty.")


class Source(_Document):
    """Something that went into the bundle: weights, data, code."""

    name: str
    origin: str
    licence: str


class Grid(_Document):
    """The batches and times over which the head is proven, every pair, with mixed lengths."""

    batches: tuple[int, ...]
    times: tuple[int, ...]


class Subjects(_Document):
    """SHA-256 of all that the certificate speaks of; JSON files in canonical form."""

    encoder_onnx: str
    head_onnx: str
    model_json: str
    encoder_json: str
    encoder_fp16_onnx: str | None = None


class CertificateDocument(_Document):
    """certificate.json: the proof that ONNX = PyTorch."""

    format: Literal[1] = 1
    passed: bool
    subjects: Subjects
    versions: dict[str, str]
    exporters: dict[str, str] = Field(default_factory=dict, description="What wrote each graph.")
    opset: int | None = None
    devices: dict[str, str] = Field(default_factory=dict, description="Names of the CPU and GPU that measured.")
    grid: Grid | None = None
    rows: tuple[CertificateRow, ...]
    placement: tuple[Placement, ...] = ()
    sizes_bytes: dict[str, int] = Field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    left_out: tuple[str, ...] = Field(
        default=(), description="Optional runtimes that were tried and are not proven, each with the line that failed."
    )

    def failing(self) -> list[str]:
        """One line for each row that does not hold."""
        return [str(row) for row in self.rows if not (row.passed and row.holds)]

    def covers(self, runtime: Runtime, precision: Precision) -> bool:
        """Whether an encoder may be served so: every line that this takes is here, for it and for the head.

        Each was measured on the kind of device that serves: a CPU's word on a GPU's arithmetic is worth nothing. Where
        a CPU lacks bf16 OpenVINO falls back to fp32, which is closer than what was proven.
        """
        device = "gpu" if runtime in GPU_RUNTIMES else "cpu"
        return (
            precision in PRECISIONS[runtime]
            and self._lines(runtime, precision, device) >= ENCODER_LINES
            and self._lines(head_runtime(runtime), "fp32", device) >= HEAD_LINES
        )

    def _lines(self, runtime: Runtime, precision: Precision, measured_on: str) -> set[str]:
        wanted = (runtime, precision, measured_on)
        return {row.check for row in self.rows if (row.runtime, row.precision, row.measured_on) == wanted}


_D = TypeVar("_D", bound=BaseModel)


def canonical_sha256(path: Path) -> str:
    """SHA-256 of a JSON file in canonical form: sorted keys, no white space, UTF-8.

    Of the file, not of the parsed document: a field that a later version adds must not break older seals.
    """
    content = json.loads(path.read_bytes())
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_document(path: Path, kind: type[_D]) -> _D:
    """Parse and validate one JSON file of a bundle; BundleError names the file and the first wrong field."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path.name} is missing in {path.parent}; export the bundle again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}; export the bundle again") from error


def write_document(path: Path, document: BaseModel) -> None:
    """Write JSON that a person can read; the same document gives the same bytes."""
    text = json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
