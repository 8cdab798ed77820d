"""A certificate says that what is served is what was trained: each kind of damage, and the line that stops it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.__main__ import app
from export.errors import CheckFailed, ExportError
from export.prove.clips import ProofClip, find_clips, matched
from export.prove.reference import Reference
from export.scores import read_scores, score_clips, scored_by, write_scores
from export.source import VideoModel
from export.write.bundle import Options, write_bundle
from export.write.known_answer import known_answer
from models.data.training_clips import TrainingClip
from models.encoders import ImageEncoder
from models.heads import HeadDims
from service.bundle import Claim, ModelDocument, read_document
from service.certificate import CertificateDocument
from service.engine.known_answer import KnownAnswer
from service.tolerances import ACCURACY, AGAINST_TRAINING, LONGEST
from tests.drawn import draw
from tests.export import damage
from tests.export.models import FEATURES, LABELS, SPEC, build, encoder, scored, sequence_head, video_model


def head(seed: int = 0) -> torch.nn.Module:
    """With weights large enough that its scores are not all a third, as those of trained networks."""
    module = sequence_head(HeadDims(FEATURES, 6, len(LABELS)))
    torch.manual_seed(seed)
    with torch.no_grad():
        module.classifier.weight.normal_(0, 3)
    return module.eval()


@pytest.fixture(scope="module")
def trained(clips: list[ProofClip]) -> VideoModel:
    return scored(video_model(head()), clips)


def untrained(model: VideoModel) -> VideoModel:
    return dataclasses.replace(model, head=head(seed=1))


def swapped_labels(model: VideoModel) -> VideoModel:
    return dataclasses.replace(model, labels=(model.labels[1], model.labels[0], *model.labels[2:]))


def trained_on_bgr(model: VideoModel) -> VideoModel:
    return dataclasses.replace(model, encoder=damage.Bgr(model.encoder).eval())


def other_normalisation(model: VideoModel) -> VideoModel:
    net = encoder()
    return dataclasses.replace(model, encoder=ImageEncoder(net.cnn, "small-net", FEATURES).eval())


def forgotten_weights(model: VideoModel) -> VideoModel:
    net = encoder()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.3)
    return dataclasses.replace(model, encoder=net)


@pytest.mark.parametrize("spoil", [untrained, swapped_labels, trained_on_bgr, other_normalisation, forgotten_weights])
def test_what_was_not_trained_is_not_certified(
    spoil: Callable[[VideoModel], VideoModel], trained: VideoModel, clips: list[ProofClip], tmp_path: Path
) -> None:
    """Each of these passed every other line: PyTorch and ONNX agree on the wrong network."""
    write_bundle(trained, tmp_path / "right", clips)
    with pytest.raises(CheckFailed, match=f"^{AGAINST_TRAINING} .*export the networks that wrote the scores"):
        write_bundle(spoil(trained), tmp_path / "wrong", clips)
    assert not (tmp_path / "wrong").exists()


def labelled(clips: list[ProofClip], model: VideoModel, num_right: int) -> list[ProofClip]:
    """Labels of which so many are what the model says."""
    found = []
    for number, (clip, known) in enumerate(zip(clips, model.clips_scored, strict=True)):
        best = max(known.scores, key=lambda label: known.scores[label])
        other = next(label for label in model.labels if label != best)
        found.append(ProofClip(clip.path, best if number < num_right else other))
    return found


def test_a_claim_that_the_clips_do_not_bear_out(trained: VideoModel, clips: list[ProofClip], tmp_path: Path) -> None:
    model = dataclasses.replace(trained, claim=Claim(accuracy=0.99, clips=400, part="test"))
    with pytest.raises(
        CheckFailed, match=rf"^{ACCURACY} .*: 0\.25, at least 0\.875 needed; 0\.9900 is claimed, on 400"
    ):
        write_bundle(model, tmp_path / "wrong", labelled(clips, model, 2))
    folder = write_bundle(model, tmp_path / "right", labelled(clips, model, 7))
    assert read_document(folder / "model.json", ModelDocument).claim == model.claim
    rows = {row.check: row for row in read_document(folder / "certificate.json", CertificateDocument).rows}
    assert (rows[ACCURACY].measured, rows[ACCURACY].limit, rows[ACCURACY].cases) == (0.875, 0.875, 8)
    with pytest.raises(ExportError, match="is claimed, and 0 of the clips have a label"):
        write_bundle(model, tmp_path / "unlabelled", [ProofClip(clip.path) for clip in clips])


def test_without_training_s_scores_nothing_is_certified(
    trained: VideoModel, clips: list[ProofClip], tmp_path: Path
) -> None:
    few = dataclasses.replace(trained, clips_scored=trained.clips_scored[:7])
    with pytest.raises(ExportError, match=r"scores of 7 clips, .* at least 8: .*`export\.scores\.write_scores`"):
        write_bundle(few, tmp_path / "zoo", clips)
    others = [ProofClip(draw(tmp_path / f"{n}.mp4", num_frames=n, width=64, height=48).path) for n in (4, 5, 6)]
    with pytest.raises(ExportError, match=r"of the 8 clips to prove it on, 5 are such as training wrote its scores of"):
        write_bundle(trained, tmp_path / "zoo", [*clips[:4], others[0], others[1], others[2], clips[5]])
    renamed = dataclasses.replace(trained.clips_scored[3], scores={"cat": 1.0, "blue": 0.0, "red": 0.0})
    model = dataclasses.replace(trained, clips_scored=(*trained.clips_scored[:3], renamed, *trained.clips_scored[4:]))
    with pytest.raises(ExportError, match=r"are of other labels than the model's: cat, green in one of the two alone"):
        write_bundle(model, tmp_path / "zoo", clips)
    assert not (tmp_path / "zoo").exists()


def test_clips_are_found_by_their_bytes_whatever_their_names(clips: list[ProofClip], tmp_path: Path) -> None:
    trained = score_clips(build(), clips)
    folder = tmp_path / "clips"
    for number, clip in enumerate(clips):
        (folder / "a label").mkdir(parents=True, exist_ok=True)
        (folder / "a label" / f"renamed {number}.mp4").write_bytes(clip.path.read_bytes())
    decoy = draw(folder / "a label" / clips[0].path.name, num_frames=3, width=64, height=48).path
    found = find_clips(folder, 8, trained)
    assert [clip.trained for clip in found] == list(trained)
    assert {clip.label for clip in found} == {"a label"}
    (folder / "a label" / "no file.mp4").mkdir()
    more = find_clips(folder, 9, trained)
    assert more[:8] == found
    assert more[8] == ProofClip(decoy, "a label")
    assert find_clips(folder, 5, trained) == found[:5]
    assert matched([ProofClip(decoy)], trained) == []


def test_a_table_of_scores_is_read_as_it_was_written(clips: list[ProofClip], tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    model = build()
    named = [dataclasses.replace(clip, label="blue") for clip in clips[:2]]
    write_scores(table, model.labels, score_clips(model, named))
    assert read_scores(table) == score_clips(model, named)
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "sha256", "label", "score:blue", "score:green", "score:red"]
    assert rows[1][:1] == ["6.mp4"]
    assert sum(map(float, rows[1][3:])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,label,score:a\n", "column 'sha256' is missing, there are ['name', 'label', 'score:a']"),
        ("name,sha256,label\n", "column 'score:<label>' is missing"),
        ("name,sha256,label,score:a\nx,0,b,much\n", "scores.csv:2: 'much' is no score"),
        ("name,sha256,label,score:a\nx,0,b\n", "scores.csv:2: None is no score"),
        ("name,label,score:a,sha256\nx,b,0.5\n", "scores of 1 clips, and the certificate"),
        ("name,sha256,label,score:a\nx,0,b,nan\n", "scores.csv:2: 'nan' is no score; write finite numbers"),
        ("\ufeffname,sha256,label,score:a\nx,0,b,1\n", "scores of 1 clips, and the certificate"),
        ('name,sha256,label,score:a\n"x', "can't be read as a table of scores"),
        ("", "column 'name' is missing, there are []"),
    ],
)
def test_a_table_that_is_none(text: str, said: str, clips_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    table.write_text(text)
    command = ["tests.export.models:build", "--clips", str(clips_folder), "--out", str(tmp_path / "zoo")]
    done = CliRunner().invoke(app, [*command, "--scores", str(table)])
    assert done.exit_code == 1
    assert done.stdout.startswith("not exported: ")
    assert said in " ".join(done.stdout.split())
    assert not (tmp_path / "zoo").exists()


def test_a_bundle_that_is_there_is_not_replaced_unasked(
    trained: VideoModel, clips: list[ProofClip], tmp_path: Path
) -> None:
    folder = write_bundle(trained, tmp_path, clips)
    for name in ("MODEL_CARD.md", "confusion.csv", "confusion.png", "notes.md", "study.json"):
        (folder / name).write_text(f"of the first head: {name}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = scored(video_model(head(seed=1)), clips)
    with pytest.raises(ExportError, match=r"mine/1 is there already, .*: give another --version, or --replace"):
        write_bundle(other, tmp_path, clips)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_bundle(trained, tmp_path, clips, Options(replace=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "the same head: its card stays"
    write_bundle(other, tmp_path, clips, Options(replace=True))
    left = {path.name for path in folder.iterdir()}
    assert left == before.keys() - {"MODEL_CARD.md", "confusion.csv", "confusion.png"}
    (folder / "MODEL_CARD.md").write_text("of the first labels")
    renamed = dataclasses.replace(other, created="2026-02-02T00:00:00+00:00")
    write_bundle(renamed, tmp_path, clips, Options(replace=True))
    assert not (folder / "MODEL_CARD.md").exists(), "the same head under another certificate"


def test_a_state_is_proven_to_the_end_of_the_longest_clip(clips: list[ProofClip], tmp_path: Path) -> None:
    """The grid ends at 300 frames, and there the second head is right."""
    whole = SPEC.model_copy(update={"window_frames": None, "stride_frames": None, "sample_fps": 2})
    model = scored(dataclasses.replace(video_model(head()), spec=whole), clips)
    folder = write_bundle(model, tmp_path / "right", clips)
    rows = {row.check: row for row in read_document(folder / "certificate.json", CertificateDocument).rows}
    assert rows[LONGEST].cases == 28800  # 4 h at 2 a second
    drifting = dataclasses.replace(model, head=Drifting(6).eval())
    with pytest.raises(CheckFailed, match=f"^{LONGEST} .*; outputs; float32 loses"):
        write_bundle(scored(drifting, clips), tmp_path / "wrong", clips)


class Drifting(torch.nn.Module):
    """A head that answers with the last frame, as the difference of two sums: float32 loses it as they grow."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = torch.nn.RNN(FEATURES, hidden_size, nonlinearity="relu", batch_first=True)
        self.classifier = torch.nn.Linear(hidden_size, len(LABELS))
        with torch.no_grad():
            of_frame, of_state = (self.rnn.get_parameter(f"weight_{kind}_l0") for kind in ("ih", "hh"))
            for weights in (of_frame, of_state, self.classifier.weight, self.rnn.get_parameter("bias_hh_l0")):
                weights.zero_()
            of_frame[[0, 2]] = torch.rand(FEATURES)  # unit 0 sums frames, unit 2 is this frame alone, and
            of_state[[0, 1, 1], [0, 1, 2]] = 1.0  # unit 1 sums those before
            self.rnn.get_parameter("bias_ih_l0")[:2] = 10.0
            self.classifier.weight[0, :2] = torch.tensor([0.03, -0.03])

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            features, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, last = self.rnn(packed)
        logits: torch.Tensor = self.classifier(last[0])
        return logits


def test_training_s_label_is_the_clip_s(clips: list[ProofClip], tmp_path: Path) -> None:
    """A flat folder's name is no label."""
    trained = [dataclasses.replace(clip, label="blue") for clip in score_clips(build(), clips)]
    (tmp_path / "flat").mkdir()
    for clip in clips:
        (tmp_path / "flat" / clip.path.name).write_bytes(clip.path.read_bytes())
    assert {clip.label for clip in find_clips(tmp_path / "flat", 8, trained)} == {"blue"}


def test_a_clip_of_no_label_is_found(clips: list[ProofClip], tmp_path: Path) -> None:
    """As training on several labels takes it."""
    rows = [f"{clip.path},{label}" for clip, label in zip(clips[:2], ("blue|red", ""), strict=True)]
    (tmp_path / "manifest.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    assert [clip.label for clip in find_clips(tmp_path / "manifest.csv", 8)] == ["blue|red", None]


def test_scores_of_a_loop_of_one_s_own(clips: list[ProofClip], tmp_path: Path) -> None:
    rows = [(clip.path, None, [0.5, 0.25, 0.25]) for clip in clips]
    found = scored_by(LABELS, rows)
    write_scores(tmp_path / "scores.csv", LABELS, found)
    assert read_scores(tmp_path / "scores.csv") == found
    assert found[0].scores == {"blue": 0.5, "green": 0.25, "red": 0.25}
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        scored_by(LABELS, [(clips[0].path, None, [1.0])])


def test_an_answer_that_the_session_does_not_give_ends_the_export(
    trained: VideoModel, clips: list[ProofClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the service would refuse what the export has written."""

    def other(reference: Reference) -> KnownAnswer:
        right = known_answer(reference)
        return dataclasses.replace(right, **{spoiled: getattr(right, spoiled) + np.float32(0.1)})

    monkeypatch.setattr("export.write.bundle.known_answer", other)
    for spoiled in ("features", "scores"):
        with pytest.raises(CheckFailed, match=f"the known answer is not given: .*{spoiled}"):
            write_bundle(trained, tmp_path / "zoo", clips)
    assert not (tmp_path / "zoo").exists()


def test_a_clip_knows_its_scores_by_name() -> None:
    clip = TrainingClip("a.mp4", "0" * 64, None, {"b": 0.25, "a": 0.75})
    assert TrainingClip(**clip.to_dict()) == clip
