"""The bundle format: what `export` writes and the registry reads. Validated, versioned, sealed by hashes.

<models_dir>/encoders/<name>/encoder.onnx, encoder.json
<models_dir>/<model>/<version>/head.onnx, model.json, known_answer.npz, statistics.npz, certificate.json,
    MODEL_CARD.md
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from service.errors import BundleError
from service.video.spec import ClipSpec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
KNOWN_ANSWER = "known_answer.npz"
STATISTICS = "statistics.npz"

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
# Of model.json and certificate.json. 1 had no known answer and no word of training's own scores: it proves too little.
FORMAT: Literal[2] = 2
# Fewer real clips show little: a label that is always wrong is among 8 clips of 12 labels with odds of 1 in 2.
LEAST_CLIPS = 8
# clip: many-to-one, outputs (B, K); frame: many-to-many, outputs (B, T, K).
Task = Literal["clip", "frame"]


def head_runtime(runtime: Runtime) -> Runtime:
    """What the heads of an encoder on `runtime` run on: the same, but OpenVINO would ignore their lengths."""
    return "onnxruntime-cpu" if runtime == "openvino-cpu" else runtime


class Document(BaseModel):
    """A JSON file of a bundle, or a part of one: immutable, and no field of it is passed over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderDocument(Document):
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


class EncoderReference(Document):
    """The encoder that a head was trained on."""

    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=SHA256_PATTERN)


class StateTensor(Document):
    """One state tensor: graph input `<name>` and output `<name>_out`, float32 (batch, size)."""

    name: str
    size: int


# Of a share with four decimals.
_ROUNDED = 1e-4


class Claim(Document):
    """What the model's makers say of it, which its certificate holds them to: the share of clips that it gets right.

    Of a frame model the share of ticks; its interval is that of so many clips, as the ticks of one are alike.
    """

    accuracy: float = Field(ge=0, le=1, description="Share of clips, or of ticks, whose best label is right.")
    clips: int = Field(ge=LEAST_CLIPS, description="How many clips that was measured on.")
    part: str = Field(description="Of the data: `test`, `validation`.")
    ticks: int | None = Field(default=None, ge=1, description="Of a frame model: labelled ticks of those clips.")

    @model_validator(mode="after")
    def _is_a_share_of_the_clips(self) -> Claim:
        counted, what = (self.ticks, "ticks") if self.ticks else (self.clips, "clips")
        right = round(self.accuracy * counted)
        if abs(right / counted - self.accuracy) > _ROUNDED:
            raise ValueError(f"{self.accuracy} is no share of {counted} {what}; the nearest is {right / counted:.4f}")
        return self


class Calibration(Document):
    """How far scores are from the share that is right, before and after the temperature inside head.onnx.

    Errors are expected calibration errors (Guo et al. 2017), in [0, 1].
    """

    temperature: float = Field(gt=0, description="What logits are divided by; the classifier's weights hold it.")
    ece_before: float = Field(ge=0, le=1)
    ece_after: float = Field(ge=0, le=1)
    clips: int = Field(ge=1, description="Validation clips that it was fitted and measured on.")


class Abstention(Document):
    """The score below which a clip is said to be none of the labels."""

    threshold: float = Field(description="Of the clip's best score.")
    kept: float = Field(ge=0, le=1, description="Share of validation clips that reach it.")
    kept_accuracy: float = Field(ge=0, le=1, description="Of these, the share that is right.")
    clips: int = Field(ge=1, description="Validation clips that it was chosen on.")


class ModelDocument(Document):
    """model.json. Nothing needed to reproduce a prediction lives anywhere else."""

    format: Literal[2] = FORMAT
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=NAME_PATTERN)
    task: Task
    labels: tuple[str, ...] = Field(min_length=1, description="Of numbers their names; of a softmax 2 at least.")
    encoder: EncoderReference
    head_sha256: str = Field(pattern=SHA256_PATTERN)
    spec: ClipSpec
    state: tuple[StateTensor, ...]
    score: Literal["softmax", "sigmoid", "none"]
    claim: Claim | None = Field(default=None, description="None: nothing is claimed, and no line says how good it is.")
    calibration: Calibration | None = Field(default=None, description="None: scores are as training left them.")
    abstain: Abstention | None = Field(default=None, description="None: the best label is named however low it scores.")
    training: dict[str, Any]
    created: str = Field(description="When the checkpoint was trained, ISO 8601 UTC.")

    @field_validator("score")
    @classmethod
    def _softmax_has_a_choice(cls, score: str, info: ValidationInfo) -> str:
        labels = info.data.get("labels", ())
        if score == "softmax" and len(labels) == 1:
            raise ValueError(f"the only label is {labels[0]!r}, and the softmax of one is always 1: name 2 at least")
        return score


class Source(Document):
    """Something that went into the bundle: weights, data, code."""

    name: str
    origin: str
    licence: str


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
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path.name} is missing in {path.parent}; export the bundle again") from error
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        _check_format(path, content)
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}; export the bundle again") from error


def _check_format(path: Path, content: bytes) -> None:
    """Of a file that can't be read as it is: another format is said before anything else."""
    try:
        found = json.loads(content)
    except ValueError:
        return
    if path.name == "encoder.json" or not isinstance(found, dict) or found.get("format") in (None, FORMAT):
        return
    if found["format"] == 1:
        raise BundleError(
            f"{path} is of format 1, which has no known answer and is not held against training: train it again with "
            "`python -m models train` and export it with `python -m export CHECKPOINT --replace`, or, a network of "
            "your own, export it with the scores of its training (`--scores`, export/README.md)"
        )
    raise BundleError(f"{path} is of format {found['format']!r}, this service reads {FORMAT}: update the service")


def write_document(path: Path, document: BaseModel) -> None:
    """Write JSON that a person can read; the same document gives the same bytes."""
    text = json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
