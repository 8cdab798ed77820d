"""Frames per second of our encoder.onnx and head.onnx against the whole model exported as tutorials do, and PyTorch.

All sides take the same clips and windows as NumPy arrays and give NumPy back; padding is not counted as frames:

ours            both graphs as the service runs them: encoder batches of 4 frames of any clip, a thread a core, no
                padding; the head with lengths, alone with its windows shared out among the cores
ours, 1 thread  the same on one thread (CPU only)
naive           `torch.onnx.export(dynamo=True)` of the model without packing as one graph, batch and time dynamic;
                ONNX Runtime's default threads and options, TF32 where CUDA has it; one padded batch
eager           PyTorch with its default threads, packed by length; one padded batch of frames
eager, folded   the same with batch norms folded and weights channels-last (`models.encoders.folded`)

Encoder alone: the frames of all clips, unpadded on all sides. Head alone: features of 32 windows of at most 16. Before
anything is timed, each side is held against PyTorch on each clip alone: on clips of one length it has to agree; on the
clips that are timed, of mixed lengths, the table says by how much it is wrong. On GPUs also CUDA fp32 and fp16 and
TensorRT fp32 and fp16. A table, and runs/export-speed.json.

Run: `python -m tests.bench export-speed [CHECKPOINT] [--rounds N] [--seconds S] [--batch-frames N] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from export.prove.certify import devices, versions
from export.prove.placement import runtimes_here
from export.trace.encoder import export_encoder, half_precision
from export.trace.head import HeadGraph, export_head
from models import encoders
from models.checkpoint import Checkpoint
from models.encoders import ImageEncoder, folded
from models.head_settings import HeadSettings
from models.heads import SequenceHead
from service.bundle import EncoderDocument, Runtime
from service.engine.batch_sizes import BatchSizes
from service.engine.batcher import FrameBatcher
from service.engine.heads import softmax
from service.engine.sessions import open_encoders, open_session, provider_of
from service.settings import available_cores
from tests.bench.slices import Side, alternate, ratio

Array = NDArray[np.float32]
# Clips of frames (T, H, W, 3) uint8 or of features (T, D) float32 → features or outputs, one row a frame or a clip.
Compute = Callable[[Sequence[NDArray[Any]]], Array]
Parts = dict[str, dict[str, Compute]]

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "runs" / "export-speed.json"
CLIP_LENGTHS = (16, 21, 9, 16)
NUM_WINDOWS, WINDOW_FRAMES = 32, 16
REFERENCE = "ours"
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2}


@dataclass(frozen=True)
class Subject:
    """The model that every side runs, in eval mode."""

    name: str
    encoder: ImageEncoder
    head: SequenceHead
    frame_height: int
    frame_width: int

    @property
    def per_frame(self) -> bool:
        """Whether every frame has its own outputs."""
        return self.head.dims.pooling == "none"

    @property
    def head_graph(self) -> HeadGraph:
        """What `export` takes."""
        return HeadGraph(self.head, self.encoder.feature_size, "frame" if self.per_frame else "clip")

    @classmethod
    def default(cls) -> Subject:
        """What ships, with a head that nobody trained: its speed is the same."""
        torch.manual_seed(0)
        encoder = encoders.build("efficientnet-lite0", 224, 224)
        return cls(
            "efficientnet-lite0 + LSTM", encoder, HeadSettings().build(encoder.feature_size, 12).eval(), 224, 224
        )

    @classmethod
    def load(cls, path: Path) -> Subject:
        """From a checkpoint of `python -m models train`."""
        saved = Checkpoint.load(path)
        return cls(saved.name, saved.encoder(), saved.head(), saved.spec.frame_height, saved.spec.frame_width)


@dataclass(frozen=True)
class Setting:
    """Where and in which precision all sides compute. On TensorRT, eager runs on CUDA."""

    runtime: Runtime
    precision: str = "fp32"

    @property
    def device(self) -> str:
        """As torch calls it."""
        return "cpu" if self.runtime == "onnxruntime-cpu" else "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return torch.float16 if self.precision == "fp16" else torch.float32

    def __str__(self) -> str:
        return f"{self.runtime.removeprefix('onnxruntime-')} {self.precision}"


@dataclass(frozen=True)
class Work:
    """What is timed (`mixed`) and what all sides have to agree on (`equal`), of one part."""

    mixed: list[NDArray[Any]]
    equal: list[NDArray[Any]]

    @property
    def num_frames(self) -> int:
        """Without padding."""
        return sum(map(len, self.mixed))


@dataclass
class Measured:
    """One side of one part. ours_ratio: `ours` over it, quartiles; errors: largest difference from PyTorch alone."""

    side: str
    rates: list[float]
    ours_ratio: list[float]
    error_equal: float
    error_mixed: float
    right_on_mixed: bool
    frames_per_second: float = field(init=False)

    def __post_init__(self) -> None:
        self.frames_per_second = statistics.median(self.rates)


class NaiveHead(nn.Module):
    """A head as tutorials write it: no lengths, no packing, no state."""

    def __init__(self, head: SequenceHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        outputs, final = self.head.rnn(features)
        match self.head.dims.pooling:
            case "mean":
                pooled = outputs.mean(dim=1)
            case "attention":
                pooled = (self.head.attention(outputs).softmax(dim=1) * outputs).sum(dim=1)
            case "last":
                hidden = final[0] if isinstance(final, tuple) else final
                pooled = torch.cat([hidden[-2], hidden[-1]], dim=1) if self.head.dims.bidirectional else hidden[-1]
            case _:
                pooled = outputs
        logits: Tensor = self.head.classifier(pooled)
        return logits


class NaiveModel(nn.Module):
    """Encoder and head in one: frames (B, T, H, W, 3) → logits."""

    def __init__(self, encoder: nn.Module, head: SequenceHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = NaiveHead(head)

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))
        return logits


def padded(clips: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(B, T, ...) with zeros past each length, and the lengths."""
    lengths = np.array([len(clip) for clip in clips], np.int64)
    batch = np.zeros((len(clips), lengths.max(), *clips[0].shape[1:]), clips[0].dtype)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, lengths


def rows_of(outputs: Array, lengths: NDArray[np.int64], *, per_frame: bool) -> Array:
    """Rows that mean something, in float32: (B, K), or those of each clip's own frames (ΣT, K)."""
    kept = outputs[np.arange(outputs.shape[1]) < lengths[:, None]] if per_frame else outputs
    return kept.astype(np.float32)


def _document(subject: Subject) -> EncoderDocument:
    return EncoderDocument(
        name="bench", sha256="0" * 64, frame_height=subject.frame_height, frame_width=subject.frame_width,
        feature_size=subject.encoder.feature_size, opset=17, exporter="bench", source="bench", licence="none",
    )  # fmt: skip


def ours(subject: Subject, setting: Setting, folder: Path, batch_frames: int, stack: ExitStack) -> Parts:
    """Both graphs as served, and on a CPU on one thread as well."""
    graph = subject.head_graph
    content = export_encoder(subject.encoder, subject.frame_height, subject.frame_width)
    encoder_path, head_path = folder / "encoder.onnx", folder / "head.onnx"
    encoder_path.write_bytes(half_precision(content) if setting.precision == "fp16" else content)
    head_path.write_bytes(export_head(graph))
    encoder_session, head_session = (open_session(path, setting.runtime) for path in (encoder_path, head_path))

    def encode(frames: NDArray[np.uint8]) -> Array:
        features: Array = encoder_session.run(["features"], {"frames": frames})[0]
        return features

    def decide(windows: Sequence[NDArray[Any]]) -> Array:
        features, lengths = padded(windows)
        feeds = {"features": features, "lengths": lengths}
        feeds |= {state.name: np.zeros((len(windows), state.size), np.float32) for state in graph.state}
        return rows_of(head_session.run(["outputs"], feeds)[0], lengths, per_frame=subject.per_frame)

    def one_by_one(clips: Sequence[NDArray[Any]]) -> Array:
        frames = np.concatenate(clips)
        return np.concatenate([encode(frames[at : at + batch_frames]) for at in range(0, len(frames), batch_frames)])

    def split(features: Array, clips: Sequence[NDArray[Any]]) -> list[Array]:
        return np.split(features, np.cumsum([len(clip) for clip in clips])[:-1])

    num_threads = available_cores()
    encoders = open_encoders(
        encoder_path, _document(subject), setting.runtime, "fp32", count=num_threads, max_batch_frames=batch_frames
    )  # whatever the graph's precision: this file is read
    batcher = FrameBatcher(encoders, BatchSizes.timed(encoders, (1, 2, batch_frames)))
    stack.callback(batcher.close)
    lease = stack.enter_context(batcher.lease())
    pool = stack.enter_context(ThreadPoolExecutor(num_threads))

    def batched(clips: Sequence[NDArray[Any]]) -> Array:
        return np.concatenate([future.result().features for future in [lease.submit(clip) for clip in clips]])

    def shared_out(windows: Sequence[NDArray[Any]]) -> Array:
        size = -(-len(windows) // num_threads)
        parts = [windows[at : at + size] for at in range(0, len(windows), size)]
        return np.concatenate(list(pool.map(decide, parts)))

    sides = {
        REFERENCE: {
            "encoder": batched,
            "head": shared_out,
            "whole": lambda clips: decide(split(batched(clips), clips)),
        }
    }
    if setting.device == "cpu":
        sides["ours, 1 thread"] = {
            "encoder": one_by_one,
            "head": decide,
            "whole": lambda clips: decide(split(one_by_one(clips), clips)),
        }
    return _by_part(sides)


def naive(subject: Subject, setting: Setting) -> Parts:
    """One graph each, from `torch.onnx.export`. Parts that it can't export are left out, with a line that says so.

    Exported in a fresh process, as a tutorial's is: what our own exporter does to torch must not reach it.
    """
    encoder, head = copy.deepcopy(subject.encoder).to(setting.dtype), copy.deepcopy(subject.head).to(setting.dtype)
    frames = torch.zeros((2, 5, subject.frame_height, subject.frame_width, 3), dtype=torch.uint8)
    features = torch.zeros((2, 5, subject.encoder.feature_size), dtype=setting.dtype)
    asked: dict[str, tuple[nn.Module, Tensor, tuple[str, ...]]] = {
        "encoder": (encoder, frames[0], ("batch",)),
        "head": (NaiveHead(head), features, ("batch", "time")),
        "whole": (NaiveModel(encoder, head), frames, ("batch", "time")),
    }
    parts: Parts = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        exports = {part: fresh.submit(export_naively, *given) for part, given in asked.items()}
    for part, export in exports.items():
        content = export.result()
        if isinstance(content, str):
            print(f"naive {part} is left out: {content}")
            continue
        session = _session(content, setting)
        shape = session.get_inputs()[0].shape
        if any(isinstance(size, int) for size in shape[: len(asked[part][2])]):
            print(f"naive {part} is left out: the exporter fixed its input to {shape}")
            continue
        parts[part] = {"naive": _run_naive(session, part, per_frame=subject.per_frame, dtype=setting.dtype)}
    return parts


def export_naively(module: nn.Module, example: Tensor, axes: tuple[str, ...]) -> bytes | str:
    """As the tutorials call it, the leading axes dynamic; or what the exporter says against it.

    What it prints and warns of is left out.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    shapes = ({axis: torch.export.Dim(name) for axis, name in enumerate(axes)},)
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(module.eval(), (example,), dynamo=True, dynamic_shapes=shapes, verbose=False)
        except Exception as fault:  # noqa: BLE001  (whatever the exporter raises)
            cause = fault.__cause__ or fault
            return f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:200]}"
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def eager(subject: Subject, setting: Setting) -> Parts:
    """PyTorch as it is, and folded."""
    sides: dict[str, dict[str, Compute]] = {}
    fast = folded(subject.encoder, subject.frame_height, subject.frame_width)
    for name, encoder in (("eager", subject.encoder), ("eager, folded", fast)):
        sides[name] = _eager_side(subject, setting, encoder)
    del sides["eager, folded"]["head"]  # the head has nothing to fold
    return _by_part(sides)


def draw(subject: Subject) -> dict[str, Work]:
    """Random frames and features by part; what is timed is of mixed lengths."""
    random = np.random.default_rng(0)
    size = (subject.frame_height, subject.frame_width, 3)
    clips = [random.integers(0, 256, (length, *size), np.uint8) for length in CLIP_LENGTHS]
    equal_clips = [clip[: min(CLIP_LENGTHS)] for clip in clips]
    width = subject.encoder.feature_size
    windows = [np.abs(random.normal(0, 0.5, (WINDOW_FRAMES, width))).astype(np.float32) for _ in range(NUM_WINDOWS)]
    lengths = [WINDOW_FRAMES, *random.integers(1, WINDOW_FRAMES + 1, NUM_WINDOWS - 1)]
    mixed = [window[:length] for window, length in zip(windows, lengths, strict=True)]
    whole = Work(clips, equal_clips)
    return {"encoder": whole, "head": Work(mixed, windows), "whole": whole}


def errors(part: str, sides: dict[str, Compute], subject: Subject, clips: Sequence[NDArray[Any]]) -> dict[str, float]:
    """The largest difference of each side from PyTorch in float32 on the CPU, each clip alone.

    Of scores; of features in units of the largest.
    """
    alone = _eager_side(subject, Setting("onnxruntime-cpu"), subject.encoder)[part]
    wanted = np.concatenate([alone([clip]) for clip in clips])
    found = {name: compute(clips) for name, compute in sides.items()}
    if part == "encoder":
        largest = float(np.abs(wanted).max())
        return {name: float(np.abs(values - wanted).max()) / largest for name, values in found.items()}
    return {name: float(np.abs(softmax(values) - softmax(wanted)).max()) for name, values in found.items()}


def measure(
    subject: Subject, setting: Setting, rounds: int, seconds: float, batch_frames: int
) -> dict[str, list[Measured]]:
    """By part, each side. RuntimeError where sides disagree on clips of one length."""
    results: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        parts = ours(subject, setting, Path(folder), batch_frames, stack)
        for more in (naive(subject, setting), eager(subject, setting)):
            for part, sides in more.items():
                parts[part] |= sides
        for part, work in draw(subject).items():
            sides, allowed = parts[part], TOLERANCES[setting.precision]
            equal = errors(part, sides, subject, work.equal)
            if wrong := {name: error for name, error in equal.items() if not error <= allowed}:
                raise RuntimeError(f"{setting}, {part}: sides differ from PyTorch on clips of one length: {wrong}")
            mixed = errors(part, sides, subject, work.mixed)
            runs = [Side(name, _counted(compute, work)) for name, compute in sides.items()]
            rates = alternate(runs, rounds, seconds)
            results[part] = [
                Measured(
                    name,
                    values,
                    np.percentile(np.divide(rates[REFERENCE], values), (25, 50, 75)).tolist(),
                    equal[name],
                    mixed[name],
                    mixed[name] <= allowed,
                )
                for name, values in rates.items()
            ]
    return results


def settings_here(subject: Subject) -> list[Setting]:
    """The CPU, and what else this machine can run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.onnx"
        path.write_bytes(export_head(subject.head_graph))
        found = runtimes_here(path)
    return [Setting(runtime, "fp32") for runtime in found] + [
        Setting(runtime, "fp16") for runtime in found if runtime != "onnxruntime-cpu"
    ]


def table(setting: Setting, results: dict[str, list[Measured]]) -> Table:
    """Median rates, our ratio to each, and what each makes of mixed lengths."""
    grid = Table(title=f"{setting}: median frames/s; ours ÷ side, median and quartiles of pairs")
    for heading, justify in (("part", "left"), ("side", "left"), ("frames/s", "right"), ("ours ÷ side", "right")):
        grid.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    grid.add_column("mixed lengths", no_wrap=True)
    for part, sides in results.items():
        reference = next(side.rates for side in sides if side.side == REFERENCE)
        for number, side in enumerate(sides):
            grid.add_row(
                part if number == 0 else "",
                side.side,
                f"{side.frames_per_second:.{1 if side.frames_per_second < 100 else 0}f}",
                "" if side.side == REFERENCE else ratio(reference, side.rates),
                "right" if side.right_on_mixed else f"WRONG by {side.error_mixed:.2g}",
                end_section=number == len(sides) - 1,
            )
    return grid


def document(
    subject: Subject, options: dict[str, Any], load: list[float], results: dict[str, dict[str, list[Measured]]]
) -> dict[str, Any]:
    """For the JSON file: no path and no name of this machine."""
    return {
        "model": {"name": subject.name, "head": subject.head.dims.to_dict()},
        "frame_size": [subject.frame_height, subject.frame_width],
        "clip_lengths": list(CLIP_LENGTHS),
        "windows": [NUM_WINDOWS, WINDOW_FRAMES],
        **options,
        "machine": {**devices(), "cores": available_cores(), "torch_threads": torch.get_num_threads()},
        "load_before_and_after": load,
        "versions": versions(),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "results": {
            name: {part: [asdict(side) for side in sides] for part, sides in parts.items()}
            for name, parts in results.items()
        },
    }


def main(arguments: list[str]) -> None:
    """Print a table for each runtime and precision; write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench export-speed")
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a slice; whole passes over all clips")
    parser.add_argument("--batch-frames", type=int, default=4, help="of our encoder, as `encode_batch_frames`")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    subject = Subject.load(options.checkpoint) if options.checkpoint else Subject.default()
    run(subject, options.rounds, options.seconds, options.batch_frames, options.out)


def run(subject: Subject, rounds: int, seconds: float, batch_frames: int, out: Path) -> None:
    """All settings that this machine has."""
    load = [os.getloadavg()[0]]
    results = {}
    console = Console(width=100)
    for setting in settings_here(subject):
        results[str(setting)] = measure(subject, setting, rounds, seconds, batch_frames)
        console.print(table(setting, results[str(setting)]))
    load.append(os.getloadavg()[0])
    options = {"rounds": rounds, "slice_seconds": seconds, "batch_frames": batch_frames}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document(subject, options, load, results), indent=1) + "\n", encoding="utf-8")
    print(f"{subject.name}; {rounds} rounds of slices of {seconds:g} s; all in {out.name}")


def _by_part(sides: dict[str, dict[str, Compute]]) -> Parts:
    """Sides by part, from parts by side."""
    parts: Parts = {"encoder": {}, "head": {}, "whole": {}}
    for side, computes in sides.items():
        for part, compute in computes.items():
            parts[part][side] = compute
    return parts


def _counted(compute: Compute, work: Work) -> Callable[[], int]:
    def once() -> int:
        compute(work.mixed)
        return work.num_frames

    return once


def _session(content: bytes, setting: Setting) -> ort.InferenceSession:
    """With ONNX Runtime's default options; its CUDA provider below TensorRT's, as its documentation has it."""
    wanted = [provider_of(setting.runtime), "CUDAExecutionProvider", "CPUExecutionProvider"]
    present = ort.get_available_providers()
    return ort.InferenceSession(content, providers=[name for name in dict.fromkeys(wanted) if name in present])


def _run_naive(session: ort.InferenceSession, part: str, *, per_frame: bool, dtype: torch.dtype) -> Compute:
    [given] = session.get_inputs()

    def compute(clips: Sequence[NDArray[Any]]) -> Array:
        if part == "encoder":
            features: Array = session.run(None, {given.name: np.concatenate(clips)})[0].astype(np.float32)
            return features
        batch, lengths = padded(clips)
        if part == "head" and dtype == torch.float16:
            batch = batch.astype(np.float16)
        return rows_of(session.run(None, {given.name: batch})[0], lengths, per_frame=per_frame)

    return compute


def _eager_side(subject: Subject, setting: Setting, encoder: nn.Module) -> dict[str, Compute]:
    encoder = copy.deepcopy(encoder).to(setting.device, setting.dtype)
    head = copy.deepcopy(subject.head).to(setting.device, setting.dtype)

    def outputs_of(features: Tensor, lengths: NDArray[np.int64]) -> Array:
        outputs = head(features, torch.from_numpy(lengths).to(setting.device))
        return rows_of(outputs.cpu().numpy(), lengths, per_frame=subject.per_frame)

    @torch.inference_mode()
    def encode(clips: Sequence[NDArray[Any]]) -> Array:
        features: Array = encoder(torch.from_numpy(np.concatenate(clips)).to(setting.device)).float().cpu().numpy()
        return features

    @torch.inference_mode()
    def decide(windows: Sequence[NDArray[Any]]) -> Array:
        features, lengths = padded(windows)
        return outputs_of(torch.from_numpy(features).to(setting.device, setting.dtype), lengths)

    @torch.inference_mode()
    def whole(clips: Sequence[NDArray[Any]]) -> Array:
        frames, lengths = padded(clips)
        given = torch.from_numpy(frames).to(setting.device)
        return outputs_of(encoder(given.flatten(0, 1)).unflatten(0, given.shape[:2]), lengths)

    return {"encoder": encode, "head": decide, "whole": whole}


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip()
