"""A probe from the file to the answer: what it really is, what a prediction would cost, what is wrong, what mends it.

Used by the API and the command line alike; nothing is inferred, and no model need be loaded.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.bundle import ModelDocument
from service.video.cost import Cost, forecast
from service.video.facts import ProbeFacts
from service.video.findings import Finding, find
from service.video.limits import DecodeLimits
from service.video.mending import mend


class Probe(BaseModel):
    """The answer for one file."""

    model_config = ConfigDict(frozen=True)

    video: ProbeFacts
    model: str | None = Field(description="The model that `cost` and `findings` speak of.")
    cost: Cost | None = Field(description="Of a prediction; null where it can't be told.")
    findings: list[Finding] = Field(description="The gravest first; none for a clean file.")
    mend: str | None = Field(description="One `ffmpeg` line for what can be mended.")

    @property
    def refused(self) -> bool:
        """Whether a prediction would be answered with an error."""
        return any(finding.severity == "error" for finding in self.findings)


def examine(
    facts: ProbeFacts,
    limits: DecodeLimits,
    model: ModelDocument | None,
    *,
    encode_frame_seconds: float | None = None,
    source: str = "INPUT",
    target: str = "OUTPUT.mp4",
) -> Probe:
    """Facts to answer; without a model no cost. source, target: file names for the `ffmpeg` line."""
    spec = model.spec if model else None
    findings = find(facts, limits, spec)
    return Probe(
        video=facts,
        model=model.name if model else None,
        cost=forecast(facts, spec, encode_frame_seconds) if spec else None,
        findings=findings,
        mend=mend(findings, facts, limits, spec, source=source, target=target),
    )
