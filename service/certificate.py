"""certificate.json: what proves that ONNX = PyTorch = what was trained, and how the service reads it.

A certificate is a file that anyone can edit, so nothing in it is taken at its word but the figures that were measured:
limits, least numbers of cases and the lines that must be there are those of the service (`service.tolerances`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.bundle import (
    FORMAT,
    GPU_RUNTIMES,
    PRECISIONS,
    Document,
    ModelDocument,
    Precision,
    Runtime,
    Source,
    head_runtime,
)
from service.tolerances import (
    ACCURACY,
    AGAINST_TRAINING,
    GPU_FRAMES,
    LONGEST,
    TOLERANCES,
    Comparison,
    holds,
    least_accuracy,
    tolerance_of,
)
from service.video.limits import DecodeLimits

Device = Literal["cpu", "gpu"]
# What a certificate must hold before anything is served: of an encoder, for each runtime and precision, ...
ENCODER_LINES = frozenset(
    {
        "encoder features, random frames", "encoder batch invariance", "encoder features, real frames",
        "real clips, each window", "real clips, scores", "real clips, top-1", "real clips, mixed batches",
        AGAINST_TRAINING, "nodes misplaced",
    }
)  # fmt: skip
# ... of the head, in fp32, on the runtime that it goes with, ...
HEAD_LINES = frozenset(
    {
        "head outputs, grid", "head top-1, grid", "head batch invariance", "head permutation invariance",
        "head padding invariance",
    }
)  # fmt: skip
# ... of a head that says it can be streamed, ...
STATE_LINES = frozenset({"head state, grid", "head streaming invariance"})
# ... and of the files themselves, whatever runs them.
STRUCTURE_LINES = frozenset({"encoder graph, faults", "head graph, faults"})


def encoder_lines(model: ModelDocument) -> frozenset[str]:
    """Those of an encoder for each runtime and precision; what is claimed must be shown."""
    return ENCODER_LINES | ({ACCURACY} if model.claim else frozenset())


def head_lines(model: ModelDocument) -> frozenset[str]:
    """Those of a head for each runtime."""
    lines = HEAD_LINES | (STATE_LINES if model.state else frozenset())
    return lines | ({LONGEST} if model.state and model.spec.window_frames is None else frozenset())


_OF_GPU_BATCHES = frozenset({"encoder features, random frames", "encoder batch invariance"})
# Beyond, PyTorch's own answer would take more memory than can be asked for, of features as wide as they come.
_MOST_PROVEN_TICKS = 65_536


def longest_ticks(model: ModelDocument) -> int:
    """Ticks of the longest clip that the service takes by its default limits, as far as they can be proven."""
    limits, fps = DecodeLimits(), model.spec.sample_fps
    most = limits.max_frames_walked if fps is None else int(limits.max_duration_seconds * fps)
    return min(limits.max_ticks, most, _MOST_PROVEN_TICKS)


class CertificateRow(Document):
    """One proven line: `measured` against `limit`, for one runtime and precision."""

    check: str
    runtime: Runtime
    precision: Precision
    measured_on: Device = "cpu"
    measured: float
    limit: float
    comparison: Comparison
    cases: int = Field(ge=0, le=10**9, description="How many inputs the line covers.")
    passed: bool
    detail: str = Field(default="", description="The worst case, or what went wrong.")

    def fault(self, model: ModelDocument) -> str:
        """What is wrong with it, by the service's own limits; empty where it holds. A line it does not know: its own.

        `passed` is only what the file says.
        """
        known = TOLERANCES.get(self.check) and tolerance_of(self.check, self.precision)
        comparison, limit, least = (
            (known.comparison, known.limit, known.least_cases) if known else (self.comparison, self.limit, 1)
        )
        if self.check == LONGEST:
            least = longest_ticks(model)
        if self.measured_on == "gpu" and self.check in _OF_GPU_BATCHES:
            least = GPU_FRAMES
        if self.check == ACCURACY:
            limit = least_accuracy(model.claim.accuracy, model.claim.clips, self.cases) if model.claim else 0.0
        if self.cases < least:
            return f"{self._where}: {self.cases} cases, at least {least} needed"
        if holds(self.measured, comparison, limit) and self.passed:
            return ""
        said = f"{self._where}: {self.measured:g}, {comparison} {limit:g} needed"
        return f"{said}; {self.detail}" if self.detail else said

    def __str__(self) -> str:
        said = f"{self._where}: {self.measured:g}, {self.comparison} {self.limit:g} needed"
        return f"{said}; {self.detail}" if self.detail else said

    @property
    def _where(self) -> str:
        return f"{self.check} ({self.runtime}, {self.precision}, measured on {self.measured_on})"


class Placement(Document):
    """Where the nodes of one kind run, as the runtime's own profile or compiled graph says."""

    graph: str
    op_type: str
    nodes: int
    runtime: Runtime
    provider: str
    expected: str = Field(default="", description="Why another provider than the runtime's is right; else empty.")


class Grid(Document):
    """The batches and times over which the head is proven, every pair, with mixed lengths."""

    batches: tuple[int, ...]
    times: tuple[int, ...]


class Subjects(Document):
    """SHA-256 of all that the certificate speaks of; JSON files in canonical form."""

    encoder_onnx: str
    head_onnx: str
    model_json: str
    encoder_json: str
    known_answer: str
    statistics: str | None = None
    encoder_fp16_onnx: str | None = None


class CertificateDocument(Document):
    """certificate.json: the proof that ONNX = PyTorch."""

    format: Literal[2] = FORMAT
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

    def failing(self, model: ModelDocument) -> list[str]:
        """A sentence for each line that does not hold, and for each of the files' own that is missing."""
        found = [fault for row in self.rows if (fault := row.fault(model))]
        half = {("encoder graph, faults", "fp16")} if self.subjects.encoder_fp16_onnx else set()
        there = {(row.check, row.precision) for row in self.rows}
        wanted = {(line, "fp32") for line in STRUCTURE_LINES} | half
        found += [f"{line} ({precision}) is missing" for line, precision in sorted(wanted - there)]
        return found if found or self.passed else ["it says itself that it did not pass"]

    def covers(self, runtime: Runtime, precision: Precision, model: ModelDocument) -> bool:
        """Whether an encoder may be served so, under the head of `model`."""
        return not self.missing(runtime, precision, model)

    def missing(self, runtime: Runtime, precision: Precision, model: ModelDocument) -> str:
        """Why an encoder may not be served so: the first line that this takes and that is not here; or empty.

        Each was measured on the kind of device that serves: a CPU's word on a GPU's arithmetic is worth nothing. Where
        a CPU lacks bf16 OpenVINO falls back to fp32, which is closer than what was proven.
        """
        if precision not in PRECISIONS[runtime]:
            return f"{runtime} does not compute in {precision}"
        device: Device = "gpu" if runtime in GPU_RUNTIMES else "cpu"
        on = head_runtime(runtime)
        for lines, pair in ((encoder_lines(model), (runtime, precision)), (head_lines(model), (on, "fp32"))):
            if absent := lines - self._lines(*pair, device):
                return f"no line {min(absent)!r} for {pair[0]} {pair[1]}, measured on a {device}"
        return ""

    def _lines(self, runtime: str, precision: str, measured_on: Device) -> set[str]:
        wanted = (runtime, precision, measured_on)
        return {row.check for row in self.rows if (row.runtime, row.precision, row.measured_on) == wanted}
