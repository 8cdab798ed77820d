"""The certificate: every graph against PyTorch in float64, over a grid and on real clips, on every runtime here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch

from export.errors import CheckFailed
from export.prove.clips import ProofClip
from export.prove.frames import RunEncoder, prove_clips, prove_encoder, random_batches, reference_of
from export.prove.grid import RunHead, prove_head, prove_longest
from export.prove.placement import misplaced, openvino_placement, placement, runtimes_here
from export.prove.proof import Proof, Report, Stage
from export.prove.reference import Reference
from export.prove.structure import faults
from export.source import VideoModel
from export.trace.encoder import ENCODER_AXES
from export.trace.head import HeadGraph
from service.bundle import EncoderDocument, ModelDocument, head_runtime
from service.certificate import Placement
from service.engine.heads import Head
from service.engine.known_answer import KnownAnswer
from service.engine.sessions import open_session
from service.video.pool import DecodePool

_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Graphs:
    """The files that are proven."""

    head: Path
    encoder: Path
    known_answer: Path
    encoder_fp16: Path | None = None


def certify(
    model: VideoModel,
    document: ModelDocument,
    encoder: EncoderDocument,
    graph: HeadGraph,
    graphs: Graphs,
    clips: Sequence[ProofClip],
    report: Report = lambda row: None,
    stage: Stage = lambda text: None,
    *,
    openvino: bool = False,
) -> Proof:
    """Prove every line. Takes minutes. Raises CheckFailed.

    `report` hears of each line as it is done, `stage` of what is being worked on. openvino: also try OpenVINO, and
    leave it out where a line fails there.
    """
    proof, reference = Proof(report), Reference(model, graph)
    known = KnownAnswer.read(graphs.known_answer, document, encoder)
    _prove_structure(graph, document, graphs, proof)
    stage("PyTorch in float64 on random frames")
    batches, references = random_batches(reference), []
    with DecodePool(num_credits=1) as pool:
        for number, clip in enumerate(clips, start=1):
            stage(f"PyTorch in float64 on clip {number} of {len(clips)}")
            references.append(reference_of(clip, reference, pool))

    def prove_pair(proof: Proof) -> None:
        stage(f"{proof.runtime}: encoder in {proof.precision}, {len(clips)} clips")
        run = RunEncoder(graphs.encoder, encoder, proof.runtime, proof.precision)
        prove_encoder(run, batches, proof)
        head = Head(open_session(graphs.head, head_runtime(proof.runtime)), document)
        prove_clips(head, run, references, proof)
        run.check(known, head)
        _prove_placement(_placed(graphs, document, graph, proof), proof)

    for proof.runtime in runtimes_here(graphs.head):
        proof.precision = "fp32"
        stage(f"{proof.runtime}: head over the grid")
        run_head = RunHead(open_session(graphs.head, proof.runtime), document)
        prove_head(run_head, reference, graph.feature_size, proof)
        if document.state and document.spec.window_frames is None:
            stage(f"{proof.runtime}: head over the longest clip")
            prove_longest(run_head, document, reference, graph.feature_size, proof)
        prove_pair(proof)
        if graphs.encoder_fp16 is not None:
            proof.precision = "fp16"
            prove_pair(proof)
    if openvino:
        proof.attempt("openvino-cpu", "fp32", prove_pair)
        proof.attempt("openvino-cpu", "bf16", prove_pair)
    return proof


def versions(*more: str) -> dict[str, str]:
    """Of what made and what proved the bundle; `more`: packages that not every bundle meets."""
    return {"python": platform.python_version()} | {name: version(name) for name in (*_VERSIONS, *more)}


def devices() -> dict[str, str]:
    """Names of the CPU and, where there is one, the GPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    found = {"cpu": cpu or platform.machine()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def _prove_structure(graph: HeadGraph, document: ModelDocument, graphs: Graphs, proof: Proof) -> None:
    half = [("encoder", graphs.encoder_fp16, ENCODER_AXES, 0)] if graphs.encoder_fp16 else []
    for name, path, axes, states in (
        ("encoder", graphs.encoder, ENCODER_AXES, 0),
        *half,
        ("head", graphs.head, graph.axes, len(document.state)),
    ):
        proof.precision = "fp16" if path is graphs.encoder_fp16 else "fp32"
        found = faults(onnx.load(path), axes, states)
        proof.line(f"{name} graph, faults", len(found), 1, found[0] if found else "")


def _placed(graphs: Graphs, document: ModelDocument, graph: HeadGraph, proof: Proof) -> list[Placement]:
    """Where the nodes of a runtime's and precision's graphs are; the head's with those of the encoder in fp32."""
    if proof.runtime == "openvino-cpu":
        return openvino_placement(graphs.encoder, "encoder", proof.precision)
    spec = document.spec
    frames = {"frames": np.zeros((2, spec.frame_height, spec.frame_width, 3), np.uint8)}
    if proof.precision == "fp16" and graphs.encoder_fp16 is not None:
        return placement(graphs.encoder_fp16, "encoder.fp16", proof.runtime, frames)
    clips = {"features": np.zeros((2, 3, graph.feature_size), np.float32), "lengths": np.array([3, 2])}
    clips |= {state.name: np.zeros((2, state.size), np.float32) for state in document.state}
    encoder = placement(graphs.encoder, "encoder", proof.runtime, frames)
    return encoder + placement(graphs.head, "head", proof.runtime, clips)


def _prove_placement(lines: list[Placement], proof: Proof) -> None:
    if not lines:
        raise CheckFailed(
            f"{proof.runtime} in {proof.precision} computes no convolution, no product and no recurrent layer of these "
            "graphs: there is nothing of which its place could be told"
        )
    proof.placement += lines
    wrong = misplaced(lines, proof.precision)
    said = f"{wrong[0].op_type} of the {wrong[0].graph} on {wrong[0].provider}" if wrong else ""
    proof.line("nodes misplaced", sum(line.nodes for line in wrong), sum(line.nodes for line in lines), said)
