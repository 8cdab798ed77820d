"""What can't be exported is refused with the module and the remedy, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from export.errors import CheckFailed, ExportError, UnsupportedModule
from export.prove.clips import ProofClip
from export.trace.encoder import export_encoder
from export.write.bundle import Options
from models.encoders import ImageEncoder
from service.registry import verify
from tests.export import stateful, unsupported, unsupported_encoders
from tests.export.models import FEATURES, PackedGRU, build, encoder, video_model, write_scored

# The head (of tests.export.unsupported or stateful) → who is at fault, what it does, what to do about it.
HEADS: dict[str, tuple[type[ExportError], str, str, str]] = {
    "CellInALoop": (UnsupportedModule, "cell (LSTMCell)", "steps in a Python loop", "run nn.RNN, nn.LSTM, nn.GRU"),
    "LoopOverTime": (
        UnsupportedModule,
        "decay (Decay)",
        "it fixes time to the size it was traced with, or to a range of sizes, at unsupported.py:61 "
        "`for step in range(features.shape[1]):`",
        "use tensor operations on the whole sequence",
    ),
    "IfOnTime": (UnsupportedModule, "the head's own forward", "`scale = 2.0 if features.shape[1] > 40", "use tensor"),
    "PositionTable": (UnsupportedModule, "the head's own forward", "self.positions[: features.shape[1]]", "use tensor"),
    "DataDependentIf": (
        UnsupportedModule,
        "gate (Gate)",
        "its control flow depends on the data (an `if`, a loop or an `.item()` on a tensor's values), at unsuppo",
        "choose with torch.where or a mask",
    ),
    "Item": (UnsupportedModule, "the head's own forward", "`longest = int(lengths.max().item())`", "torch.where"),
    "Projected": (UnsupportedModule, "lstm (LSTM)", "no projection (proj_size)", "follow it by nn.Linear"),
    "Subclassed": (UnsupportedModule, "lstm (ScaledLSTM)", "overrides the forward of LSTM", "in the module around it"),
    "BatchStatistics": (UnsupportedModule, "norm (BatchNorm1d)", "mixes the clips of a batch", "running statistics"),
    "SoftmaxOverBatch": (UnsupportedModule, "attend (Softmax)", "mixes the clips of a batch", "softmax, mean or atten"),
    "MeanOfTheBatch": (UnsupportedModule, "the head's own forward (MeanOfTheBatch)", "mixes the clips", "no norm"),
    "MeanOverPadding": (
        UnsupportedModule,
        "the head (MeanOverPadding)",
        "it reads past a clip's length",
        "mask what pools their outputs",
    ),
    "FunctionalDropout": (
        UnsupportedModule,
        "the head's own forward (FunctionalDropout)",
        "it gives another answer the second time",
        "F.dropout with `training=self.training`",
    ),
    "OneLabelTooMany": (ExportError, "the head", "(3, 4) for 3 clips of 6 frames, not (3, 3)", "as wide as `labels`"),
    "EveryFrame": (ExportError, "the head", "(3, 6, 3) for 3 clips of 6 frames, not (3, 3)", "pool over time"),
    "TwoAnswers": (ExportError, "the head", "returns a tuple, not a tensor", "return the logits alone"),
    "OnlyFloat32": (
        UnsupportedModule,
        "the head's own forward (OnlyFloat32)",
        "it does not run in float64, in which it is proven",
        "features.new_zeros(…)",
    ),
    "OnlySorted": (UnsupportedModule, "the head's own forward (OnlySorted)", "`enforce_sorted=False`", "in any order"),
    "WithoutLengths": (
        UnsupportedModule,
        "the head's own forward (WithoutLengths)",
        "takes 2 positional arguments but 3 were given",
        "it takes features (B, T, D) and lengths (B) int64",
    ),
    "RunsTwice": (UnsupportedModule, "lstm (LSTM)", "it runs twice in one forward", "`initial_state` and `step`"),
    "LearnedStart": (UnsupportedModule, "lstm (LSTM)", "starts from a state of the head's own", "start it from zero"),
    "NoStep": (UnsupportedModule, "the head (NoStep)", "`initial_state` but no `step`", "or return {}"),
    "StartsFromOnes": (UnsupportedModule, "the head (StartsFromOnes)", "does not start as zeros", "by `step`"),
    "ReadsBatchSizes": (UnsupportedModule, "the head", "uses `_replace` of a packed sequence", "pad_packed_sequence"),
    "Unknown": (UnsupportedModule, "the head's own forward", "bessel_j0", "use operations that ONNX has"),
    "MeanWithoutStep": (
        CheckFailed,
        "head streaming invariance",
        "the head keeps more over time than its recurrent layers' state",
        "give it `initial_state` and `step`, or an `initial_state` that returns {}",
    ),
}


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "a folder"])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_refused_with_module_and_remedy(
    name: str, there: bool, clips: list[ProofClip], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kind, module, fault, remedy = HEADS[name]
    out = _out(tmp_path, there)
    torch.manual_seed(0)
    head = _head(name)
    with pytest.raises(ExportError) as refused:
        write_scored(video_model(head), out, clips)
    message = str(refused.value)
    assert type(refused.value) is kind
    assert message.startswith(module)
    assert fault in message
    assert remedy in message[message.index(fault) :]
    assert re.search(r"[/\\](?:work|tmp|home)[/\\]|site-packages|Traceback|\n", message) is None
    _is_as_it_was(out, there)
    assert capfd.readouterr() == ("", "")  # no dump of the exporter's


@pytest.mark.parametrize("name", ["Head", "ZeroStart", "MeanNotStreamed", "MeanInStep"])
def test_the_remedies_work(name: str, clips: list[ProofClip], tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = write_scored(video_model(_head(name)), tmp_path, clips)
    assert (folder / "certificate.json").exists()


@pytest.mark.parametrize(
    ("broken", "module", "fault", "remedy"),
    [
        (
            unsupported_encoders.FloatEncoder(),
            "the encoder",
            "does not take uint8 RGB frames (1, 32, 32, 3)",
            "ImageEncoder",
        ),
        (
            ImageEncoder(unsupported_encoders.BatchStatisticsNet(), "small-net", FEATURES),
            "cnn.norm (BatchNorm2d)",
            "it mixes the frames of a batch",
            "BatchNorm with running statistics",
        ),
        (
            ImageEncoder(unsupported_encoders.BranchingNet(), "small-net", FEATURES),
            "cnn.gate (Gate)",
            "its control flow depends on the data",
            "torch.where",
        ),
        (
            ImageEncoder(unsupported_encoders.MapOfMaps(), "small-net", FEATURES),
            "the encoder",
            "gives (1, 8, 16) for one frame, not (1, D)",
            "",
        ),
    ],
    ids=["wants floats", "batch statistics", "data-dependent", "wrong shape"],
)
def test_an_encoder_is_refused_with_module_and_remedy(
    broken: nn.Module, module: str, fault: str, remedy: str, clips: list[ProofClip], tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as refused:
        write_scored(replace(build(), encoder=broken.eval()), tmp_path / "zoo", clips)
    message = str(refused.value)
    assert message.startswith(module)
    assert fault in message
    assert remedy in message
    assert list(tmp_path.iterdir()) == []


def test_without_clips_nothing_is_certified(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the certificate is proven on real clips.*--clips"):
        write_scored(build(), tmp_path / "zoo", [])
    assert list(tmp_path.iterdir()) == []


def test_another_encoder_of_the_same_name_is_not_overwritten(clips: list[ProofClip], tmp_path: Path) -> None:
    write_scored(build(), tmp_path, clips)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = encoder()
    with torch.no_grad():
        other.get_parameter("cnn.project.weight").mul_(1.01)
    first = build().name
    with pytest.raises(ExportError, match=rf"holds another encoder.*{first} 1 uses it too: export to an empty folder"):
        write_scored(
            replace(video_model(PackedGRU(), name="second"), encoder=other), tmp_path, clips, Options(replace=True)
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_encoder_that_one_model_alone_has_is_replaced_with_it(clips: list[ProofClip], tmp_path: Path) -> None:
    """As of a model that was trained again, its encoder with it."""
    write_scored(build(), tmp_path, clips)
    [before] = [path.read_bytes() for path in tmp_path.glob("encoders/*/encoder.onnx")]
    other = encoder()
    with torch.no_grad():
        other.get_parameter("cnn.project.weight").mul_(1.01)
    bundle = write_scored(replace(build(), encoder=other), tmp_path, clips, Options(replace=True))
    [after] = [path.read_bytes() for path in tmp_path.glob("encoders/*/encoder.onnx")]
    assert after != before
    assert verify(bundle, tmp_path / "encoders").model.encoder.sha256 == hashlib.sha256(after).hexdigest()
    shutil.rmtree(bundle)
    with pytest.raises(
        ExportError, match=r"holds another encoder.*no other model uses it, and --replace puts this one"
    ):
        write_scored(build(), tmp_path, clips)


def test_an_unknown_operation_of_an_encoder_names_the_other_exporter() -> None:
    with pytest.raises(UnsupportedModule, match=r"cnn\.bessel \(Bessel\).*bessel_j0.*or try `--exporter torchscript`"):
        export_encoder(ImageEncoder(unsupported_encoders.BesselNet(), "small-net", FEATURES).eval(), 32, 32)


def _head(name: str) -> nn.Module:
    head: nn.Module = (vars(unsupported) | vars(stateful))[name]()
    return head


def _out(folder: Path, there: bool) -> Path:
    out = folder / "zoo"
    if there:
        (out / "mine" / "0").mkdir(parents=True)
        (out / "mine" / "0" / "card.md").write_text("kept")
    return out


def _is_as_it_was(out: Path, there: bool) -> None:
    assert out.exists() == there
    if there:
        assert [path.relative_to(out).as_posix() for path in sorted(out.rglob("*"))] == [
            "mine",
            "mine/0",
            "mine/0/card.md",
        ]
