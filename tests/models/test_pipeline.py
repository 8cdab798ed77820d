"""`python -m models train` from files to a checkpoint, and what is exported of it: each task, on drawn clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from export.__main__ import app as export
from export.prove.clips import ProofClip, find_clips
from export.prove.frames import ClipReference, reference_of
from export.prove.reference import Reference, feature_size
from export.source import of_checkpoint
from export.trace.head import HeadGraph
from models import __main__ as commands
from models.checkpoint import Checkpoint
from models.data.segments import Segment, tick_labels
from models.encoders import build
from models.resume import Keeper
from service.bundle import Claim, ModelDocument, read_document
from service.video.pool import DecodePool
from tests.models.footage import film

FPS, NUM_TRAIN, NUM_TEST = 10, 10, 8
NAMES = [f"c{number}.mp4" for number in range(NUM_TRAIN + NUM_TEST)]
WHOLE = "whole_clip = true"
WINDOWS = "window_seconds = 0.8\nstride_seconds = 0.4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 1.2 s and more, each a scene of its own."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(NAMES):
        film(folder / name, number, 30 + number)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored features; what they are of is in their names."""
    return tmp_path_factory.mktemp("features")


def segments_of(number: int) -> list[Segment]:
    return [Segment(0.25, 0.55, "run"), Segment(0.55, 0.85 + number / 50, "jump")][number % 2 :]


def table(folder: Path, name: str, labels: Sequence[str] | None = None) -> Path:
    """path, label where there are some, and split: the last clips are test."""
    rows = [["path", *(["label"] if labels else []), "split"]]
    for number, clip in enumerate(NAMES):
        rows.append([clip, *([labels[number]] if labels else []), "train" if number < NUM_TRAIN else "test"])
    path = folder / name
    path.write_text("\n".join(map(",".join, rows)) + "\n")
    return path


def segments_table(path: Path, label: str = "jump") -> Path:
    rows = ["path,start_seconds,end_seconds,label"]
    for number, clip in enumerate(NAMES):
        for each in segments_of(number):
            said = label if each.label == "jump" else each.label
            rows.append(f"{clip},{each.start_seconds},{each.end_seconds},{said}")
    path.write_text("\n".join(rows) + "\n")
    return path


def recipe(path: Path, task: str, windows: str, fit: str = "epochs = 3") -> Path:
    path.write_text(
        f'name = "drawn"\n[task]\nkind = "{task}"\n[clip]\nsample_fps = {FPS}\nframe_height = 48\nframe_width = 64\n'
        f'{windows}\n[encoder]\nname = "small-16"\nweights = "random"\n[head]\ncell = "gru"\nhidden_size = 8\n'
        f"[fit]\n{fit}\n"
    )
    return path


def train(data: Path, file: Path, store: Path, out: Path, *flags: str) -> Result:
    return CliRunner().invoke(
        commands.app,
        ["train", "--data", str(data), "--recipe", str(file), "--store", str(store), "--out", str(out),
         "--device", "cpu", *flags],
    )  # fmt: skip


def trained(*arguments: Any) -> Checkpoint:
    result = train(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    out = arguments[3]
    assert not out.with_suffix(".state").exists()
    return Checkpoint.load(out)


def seen(checkpoint: Checkpoint, folder: Path, names: Sequence[str]) -> dict[str, ClipReference]:
    """What the checkpoint's networks say of files, in float64: decoded and cut as the service does, not as training."""
    model = of_checkpoint(checkpoint)
    reference = Reference(model, HeadGraph(model.head, feature_size(model), model.task))
    with DecodePool(num_credits=1) as pool:
        return {name: reference_of(ProofClip(folder / name), reference, pool) for name in names}


def assert_said_what_training_said(checkpoint: Checkpoint, found: dict[str, ClipReference]) -> None:
    assert len(checkpoint.clips) == NUM_TRAIN
    for clip in checkpoint.clips:
        wanted = [clip.scores[label] for label in checkpoint.labels]
        np.testing.assert_allclose(found[clip.name].mean, wanted, atol=1e-5, err_msg=clip.name)
        if clip.tick_scores is not None:
            np.testing.assert_allclose(found[clip.name].scores, clip.tick_scores, atol=1e-5, err_msg=clip.name)


def truth_of_ticks(name: str, num_ticks: int, labels: Sequence[str]) -> NDArray[np.int64]:
    return tick_labels(np.arange(num_ticks) / FPS, segments_of(NAMES.index(name)), labels, "none")


def test_a_label_a_tick_from_segments_to_a_bundle(folder: Path, store: Path, tmp_path: Path) -> None:
    """Whole clips, one way; the figure of test is that of the served ticks, and the certificate holds it."""
    data = table(folder, "ticks.csv")
    segments = segments_table(tmp_path / "segments.csv")
    file = recipe(
        tmp_path / "r.toml", "tick_label", WHOLE, 'epochs = 3\ntruncate_ticks = 5\nclass_weights = "balanced"'
    )
    out = tmp_path / "m.pt"
    checkpoint = trained(data, file, store, out, "--segments", str(segments))
    assert (checkpoint.task, checkpoint.labels) == ("tick_label", ("none", "jump", "run"))
    found = seen(checkpoint, folder, NAMES)
    assert_said_what_training_said(checkpoint, found)
    right = []
    for name in NAMES[NUM_TRAIN:]:
        truth = truth_of_ticks(name, len(found[name].scores), checkpoint.labels)
        right += (found[name].scores.argmax(axis=1) == truth).tolist()
    training = checkpoint.training
    assert training["metrics"]["test_figure"] == pytest.approx(np.mean(right), abs=1e-4)
    assert training["ticks"]["test"] == len(right)
    for clip in checkpoint.clips:
        assert clip.tick_labels is not None
        assert clip.tick_labels.tolist() == truth_of_ticks(clip.name, len(clip.tick_labels), checkpoint.labels).tolist()
    done = CliRunner().invoke(export, [str(out), "--out", str(tmp_path / "zoo"), "--no-openvino"])
    assert done.exit_code == 0, done.output
    document = read_document(tmp_path / "zoo" / "drawn" / "1" / "model.json", ModelDocument)
    assert (document.task, document.labels, document.spec.window_frames) == ("frame", checkpoint.labels, None)
    assert document.claim == Claim(
        accuracy=training["metrics"]["test_figure"], clips=NUM_TEST, part="test", ticks=len(right)
    )


def test_without_a_segment_in_test_no_figure_is_one_of_none(folder: Path, store: Path, tmp_path: Path) -> None:
    """The mean over no tick is no number, and no JSON."""
    segments = segments_table(tmp_path / "segments.csv")
    lines = segments.read_text().splitlines(keepends=True)
    segments.write_text("".join(line for line in lines if line.partition(",")[0] not in NAMES[NUM_TRAIN:]))
    file = recipe(tmp_path / "r.toml", "tick_label", WINDOWS, "epochs = 1")
    checkpoint = trained(table(folder, "ticks.csv"), file, store, tmp_path / "m.pt", "--segments", str(segments))
    assert "test_figure" in checkpoint.training["metrics"]
    assert all(np.isfinite(value) for value in checkpoint.training["metrics"].values())


LABELS = {
    "label": ["ab"[number % 2] for number in range(len(NAMES))],
    # One clip has none of them.
    "labels": ["" if number == 2 else ("a", "a|b", "b", "b|c", "c|a")[number % 5] for number in range(len(NAMES))],
    "value": [f"{number / 10}" for number in range(len(NAMES))],
}


@pytest.mark.parametrize("task", LABELS)
def test_a_checkpoint_says_what_training_said(task: str, folder: Path, store: Path, tmp_path: Path) -> None:
    """Also beside a clip that is broken, whose number no other clip has."""
    data = table(folder, f"{task}.csv", LABELS[task])
    (folder / "broken.mp4").write_bytes(b"no video")
    with data.open("a") as file:
        file.write("broken.mp4,99.5,train\n" if task == "value" else f"broken.mp4,{LABELS[task][0]},train\n")
    checkpoint = trained(data, recipe(tmp_path / "r.toml", task, WINDOWS), store, tmp_path / "m.pt")
    assert [row["path"] for row in checkpoint.training["left_out"]] == ["broken.mp4"]
    assert checkpoint.labels == {"label": ("a", "b"), "labels": ("a", "b", "c"), "value": ("label",)}[task]
    found = seen(checkpoint, folder, NAMES)
    assert_said_what_training_said(checkpoint, found)
    means = np.stack([found[name].mean for name in NAMES[NUM_TRAIN:]])
    metrics, wanted = checkpoint.training["metrics"], LABELS[task][NUM_TRAIN:]
    if task == "label":
        right = [checkpoint.labels[row.argmax()] == label for row, label in zip(means, wanted, strict=True)]
        assert metrics["test_accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    if task == "value":
        assert metrics["test_figure"] == pytest.approx(np.abs(means[:, 0] - np.array(wanted, float)).mean(), abs=2e-4)
    assert of_checkpoint(checkpoint).score == {"label": "softmax", "labels": "sigmoid", "value": "none"}[task]


class CutOff(Exception):
    """Where a process would have been killed."""


def cut_off_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save, left = Keeper.save, [epochs]

    def cut(keeper: Keeper, phase: str, state: dict[str, Any]) -> None:
        save(keeper, phase, state)
        left[0] -= 1
        if not left[0]:
            raise CutOff

    monkeypatch.setattr(Keeper, "save", cut)


FINE_TUNED = ("--train-from", "stage2", "--encoder-learning-rate", "0.01")


@pytest.mark.parametrize("batch_norm", ["frozen", "live"])
def test_fine_tuning_that_is_cut_off_goes_on(
    batch_norm: str, folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, file = table(folder, "label.csv", LABELS["label"]), recipe(tmp_path / "r.toml", "label", WINDOWS)
    flags = (*FINE_TUNED, "--batch-norm", batch_norm, "--head-epochs", "1")
    wanted = trained(data, file, store, tmp_path / "whole.pt", *flags)
    out = tmp_path / "m.pt"
    with monkeypatch.context() as patched:
        cut_off_after(2, patched)
        assert isinstance(train(data, file, store, out, *flags).exception, CutOff)
    assert not out.exists()
    result = train(data, file, store, out, *flags, "--resume")
    assert result.exit_code == 0, result.output
    assert "early stopping: 2 epochs were done before" in result.output
    checkpoint = Checkpoint.load(out)
    for name in ("encoder_state", "head_state"):
        found, known = getattr(checkpoint, name), getattr(wanted, name)
        assert found.keys() == known.keys()
        assert all(torch.equal(found[key], known[key]) for key in known)
    assert checkpoint.training["curve"] == wanted.training["curve"]
    assert checkpoint.training["encoder"] == "fine-tuned from stage2"
    torch.manual_seed(0)
    fresh = build("small-16", 48, 64, weights="random").state_dict()
    changed = {name.split(".")[1] for name in fresh if not torch.equal(fresh[name], checkpoint.encoder_state[name])}
    assert changed == {"2", "3"}, "stage2 and stage3, and nothing before them"
    assert_said_what_training_said(checkpoint, seen(checkpoint, folder, NAMES[:NUM_TRAIN]))


def test_weights_that_have_seen_the_test_clips_are_refused(folder: Path, store: Path, tmp_path: Path) -> None:
    """Those of a checkpoint that was trained on another split of the same clips."""
    file, labels = recipe(tmp_path / "r.toml", "label", WINDOWS, "epochs = 1"), LABELS["label"]
    data, before = table(folder, "label.csv", labels), tmp_path / "before.pt"
    first = trained(data, file, store, before, *FINE_TUNED)
    assert len(first.encoder_saw) == NUM_TRAIN
    weights = ("--weights", str(before))
    turned = folder / "turned.csv"
    turned.write_text(data.read_text().replace("train", "-").replace("test", "train").replace("-", "test"))
    refused = train(turned, file, store, tmp_path / "m.pt", *weights)
    assert refused.exit_code == 1
    said = " ".join(refused.output.split())
    assert f"its encoder was trained on {NUM_TRAIN} of the {NUM_TRAIN} test clips" in said
    again = trained(data, file, store, tmp_path / "m.pt", *weights)
    assert again.training["encoder_saw_validation"] == again.training["clips"]["validation"]
    assert again.encoder_saw == first.encoder_saw


def test_other_segments_are_another_training(
    folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, segments = table(folder, "ticks.csv"), segments_table(tmp_path / "segments.csv")
    file, out = recipe(tmp_path / "r.toml", "tick_label", WHOLE), tmp_path / "m.pt"
    flags = ("--segments", str(segments))
    with monkeypatch.context() as patched:
        cut_off_after(1, patched)
        begun = train(data, file, store, out, *flags, "--resume")
        assert isinstance(begun.exception, CutOff)
        assert "training begins at its start" in " ".join(begun.output.split())
    state = torch.load(out.with_suffix(".state"), weights_only=True)
    assert json.loads(state["key"])["device"] == "cpu"
    segments_table(segments, label="leap")
    refused = train(data, file, store, out, *flags, "--resume")
    assert refused.exit_code == 1
    assert "is of a training with another recipe, other clips" in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--truncate-ticks", "4", "--bidirectional"), "truncate_ticks is 4, and the head is bidirectional"),
        (("--mixed-precision", "bfloat16"), "mixed_precision is 'bfloat16', and the encoder is frozen"),
        (("--head-epochs", "2"), "head_epochs is 2, and the encoder is frozen"),
        ((*FINE_TUNED, "--head-epochs", "3"), "head_epochs is 3, of 3 epochs: no stage would be trained"),
        (("--flip",), "flip is true, and the encoder is frozen: what is stored is no pixels"),
        (
            ("--brightness", "0.2", "--encoder", "small-16", "--weights", "random", "--train-from", "stage2"),
            "brightness is 0.2, and training begins at stage2: what is stored is no pixels",
        ),
        (("--task", "value", "--class-weights", "balanced"), "class_weights is `balanced`, and the task `value`"),
        (("--loss", "MSELoss"), "the loss 'MSELoss' is none of the task 'label'"),
        (("--optimizer", "Adan"), "the optimizer 'Adan' is none of PyTorch's"),
        (("--schedule", "StepLR"), "the schedule StepLR can't be made with {}"),
    ],
)
def test_what_does_not_go_together_is_said_before_clips_are_decoded(
    flags: tuple[str, ...], words: str, folder: Path, tmp_path: Path
) -> None:
    data, file = table(folder, "label.csv", LABELS["label"]), recipe(tmp_path / "r.toml", "label", WINDOWS)
    refused = train(data, file, tmp_path / "store", tmp_path / "m.pt", *flags)
    assert refused.exit_code == 1
    assert words in refused.stderr
    assert not (tmp_path / "store").exists()


def test_a_manifest_without_labels_names_clips_to_prove_it_on(folder: Path) -> None:
    found = find_clips(table(folder, "ticks.csv"), len(NAMES))
    assert [(clip.path.name, clip.label) for clip in found] == [(name, None) for name in NAMES]
    assert find_clips(table(folder, "label.csv", LABELS["label"]), 2)[0].label == "a"
