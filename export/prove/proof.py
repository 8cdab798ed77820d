"""Lines of a certificate as they are proven; the first that fails ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.errors import CheckFailed
from service.bundle import GPU_RUNTIMES, Precision, Runtime
from service.certificate import CertificateRow, Placement
from service.tolerances import holds, tolerance_of

Array = NDArray[np.float32]
Report = Callable[[CertificateRow], None]
Stage = Callable[[str], None]


@dataclass
class Proof:
    """What has been proven so far, for one runtime and precision at a time."""

    report: Report
    runtime: Runtime = "onnxruntime-cpu"
    precision: Precision = "fp32"
    rows: list[CertificateRow] = field(default_factory=list)
    placement: list[Placement] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def measured_on(self) -> Literal["cpu", "gpu"]:
        """The kind of device that computes."""
        return "gpu" if self.runtime in GPU_RUNTIMES else "cpu"

    def line(self, check: str, measured: float, cases: int, detail: str = "", *, limit: float | None = None) -> None:
        """Hold a figure against its limit; some depend on the model. Raises CheckFailed, with the remedy."""
        tolerance = tolerance_of(check, self.precision)
        limit = tolerance.limit if limit is None else limit
        row = CertificateRow(
            check=check,
            runtime=self.runtime,
            precision=self.precision,
            measured_on=self.measured_on,
            measured=float(measured),
            limit=limit,
            comparison=tolerance.comparison,
            cases=cases,
            passed=bool(holds(measured, tolerance.comparison, limit)),
            detail=detail,
        )
        self.rows.append(row)
        self.report(row)
        if not row.passed:
            raise CheckFailed(f"{row}; {tolerance.remedy}")

    def attempt(self, runtime: Runtime, precision: Precision, prove: Callable[[Proof], None]) -> None:
        """Prove a pair that the bundle is good without: all its lines are kept, or one that says why it is left out."""
        proof = Proof(self.report, runtime, precision)
        try:
            prove(proof)
        except (CheckFailed, RuntimeError) as error:  # the second is how OpenVINO refuses a graph
            self.left_out.append(f"{runtime}, {precision}: {str(error).strip().splitlines()[0][:300]}")
        else:
            self.rows += proof.rows
            self.placement += proof.placement


@dataclass
class Worst:
    """The largest figure yet, and where it was."""

    value: float = 0.0
    where: str = ""

    def see(self, value: float, where: str) -> None:
        if not value <= self.value:  # also where it is not a number
            self.value, self.where = value, where
