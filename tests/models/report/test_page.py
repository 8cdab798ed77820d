"""`python -m models report`, and `evaluate` of every task, on drawn films: one file that asks for nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from models import pipeline, recipe
from models.__main__ import app
from models.checkpoint import Checkpoint
from models.fit import Machine
from models.report.charts import curves
from models.report.figures import figures_of
from models.report.tested import Asked, load_tested
from tests.models.footage import film

EVIL = "<script>alert(1)</script>"
NAME = "<img src=x onerror=alert(2)>&\"'$x.mp4"
# Of two kinds of pictures, six source videos each, of which one is for test; and what each task says of them.
COLUMNS = {"label": "label", "labels": "labels", "value": "speed,size", "tick_label": "label"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    lines, segments = ["path,label,labels,speed,size,split"], ["path,start_seconds,end_seconds,label"]
    for number in range(6):
        for kind, label in enumerate((EVIL, "$b$")):
            name = f"{kind}-{number}.mp4"
            # One of the test clips has a name that a page must not take at its word.
            path = film(folder / (NAME if kind == 0 and number == 5 else name), 10 * kind + number)
            quoted = '"' + path.name.replace('"', '""') + '"'
            both = f"{label}|both" if number % 2 else label
            lines.append(f"{quoted},{label},{both},{number},{kind}.5,{'test' if number == 5 else 'train'}")
            segments.append(f"{quoted},0.25,0.75,{label}")
    # Its numbers are no other clip's: that is no label that is lost.
    (folder / "broken.mp4").write_text("no")
    lines.append("broken.mp4,$b$,$b$,1,1,train")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "segments.csv").write_text("\n".join(segments) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def checkpoints(data: Path) -> dict[str, Path]:
    """One a task, each trained for two epochs."""
    found = {}
    for task, columns in COLUMNS.items():
        flags = {
            "name": f"drawn {EVIL}", "task.kind": task, "task.columns": columns, "encoder.name": "small-16",
            "encoder.weights": "random", "clip.size": 64, "fit.epochs": 2, "head.hidden_size": 4, "head.cell": "gru",
        }  # fmt: skip
        place = pipeline.Place(data, data.parent / "store")
        trained = pipeline.train(recipe.read(flags=flags), place, Console(quiet=True), Machine())
        found[task] = data.parent / f"{task}.pt"
        trained.save(found[task])
    return found


def run(data: Path, command: str, checkpoint: Path, *flags: str) -> Result:
    words = [command, str(checkpoint), "--data", str(data), "--store", str(data.parent / "store"), *flags]
    return CliRunner().invoke(app, words)


class Page(HTMLParser):
    """What a browser would find: tags, attributes by tag, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("label", ["accuracy", "GRU", "the same GRU", "single frame"]),
        ("labels", ["mean average", "no baseline without recurrence: none is trained for the task 'labels'"]),
        ("value", ["mean absolute error", "R²"]),
        ("tick_label", ["accuracy of ticks", "word error rate", "single frame"]),
    ],
)
def test_every_task_is_evaluated(
    data: Path, checkpoints: dict[str, Path], tmp_path: Path, task: str, said: list[str]
) -> None:
    result = run(data, "evaluate", checkpoints[task], "--out", str(tmp_path / "e"), "--min-segment-seconds", "0.5")
    assert result.exit_code == 0, result.output
    assert "2 test clips" in result.output
    flat = re.sub(r"[\s│]+", " ", result.output)
    assert [words for words in said if words not in flat] == []
    assert "resampled by group, of which there are 2" in flat
    assert (tmp_path / "e").exists() is (task in ("label", "tick_label"))


@pytest.mark.parametrize("task", COLUMNS)
def test_a_page_runs_nothing_and_asks_for_nothing(
    data: Path, checkpoints: dict[str, Path], tmp_path: Path, task: str
) -> None:
    out = tmp_path / "reports" / "page.html"
    result = run(data, "report", checkpoints[task], "--out", str(out), "--all")
    assert result.exit_code == 0, result.output
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "base", "form"} & {*tags}
    for _, attributes in page.tags:
        assert [name for name in attributes if name.startswith("on")] == []
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    assert str(data.parent) not in text, "a page is passed on, and folders of this machine are nobody's business"
    assert EVIL in page.text
    if task != "value":
        assert "$b$" in page.text
    assert page.text.count("broken.mp4") == 1
    assert "not_a_video" in page.text
    assert "learning rate" in page.text
    assert "encoder.name" in page.text
    assert ("calibration error" in page.text) is (task != "value")
    assert ("predicted" in page.text) is True


def test_a_page_shows_the_worst_clips(data: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert run(data, "report", checkpoints["tick_label"], "--out", str(out)).exit_code == 0
    page = Page(out.read_text(encoding="utf-8"))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    names = {(attributes["alt"] or "").rpartition(" at ")[0] for attributes in pictures}
    assert names == {NAME, "1-5.mp4"}
    assert len(pictures) == 2 * 5, "1.2 s are five ticks, fewer than a strip has"
    strips = [attributes["style"] or "" for _, attributes in page.tags if attributes.get("class") == "frames ticks"]
    assert strips == ["grid-template-columns: repeat(5, 1fr)"] * 2
    spans = [attributes for tag, attributes in page.tags if tag == "span" and "title" in attributes]
    assert {attributes["title"] for attributes in spans} >= {EVIL, "none", "$b$"}
    lengths = [int(re.findall(r"flex: (\d+)", attributes["style"] or "")[0]) for attributes in spans]
    assert sum(lengths) == 2 * 2 * 5


def test_a_label_or_numbers_that_are_not_the_checkpoints(
    data: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    segments = tmp_path / "segments.csv"
    segments.write_text("path,start_seconds,end_seconds,label\n1-5.mp4,0,1,Yoga\n")
    result = run(data, "report", checkpoints["tick_label"], "--segments", str(segments), "--out", str(tmp_path / "p"))
    assert result.exit_code == 1
    assert "label 'Yoga' (1-5.mp4) is unknown to the checkpoint" in result.output
    assert not (tmp_path / "p").exists()
    manifest = data.with_name("other.csv")
    manifest.write_text("path,labels,split\n1-5.mp4,$b$|Yoga,test\n")
    result = run(manifest, "evaluate", checkpoints["labels"], "--out", str(tmp_path / "p"))
    assert "label 'Yoga' (1-5.mp4) is unknown to the checkpoint" in result.output
    held = Checkpoint.load(checkpoints["value"])
    held.training["recipe"]["task"]["columns"] = "speed"
    held.save(tmp_path / "one.pt")
    result = run(data, "evaluate", tmp_path / "one.pt", "--out", str(tmp_path / "p"))
    assert "has 1 number(s), and the checkpoint gives 2: speed, size" in result.output


@pytest.mark.parametrize(("widen", "ticks"), [(0, 4), (1, 8)])
def test_segments_are_widened_as_in_training(
    data: Path, checkpoints: dict[str, Path], tmp_path: Path, widen: int, ticks: int
) -> None:
    held = Checkpoint.load(checkpoints["tick_label"])
    held.training["recipe"]["task"]["widen_ticks"] = widen
    held.save(tmp_path / "wide.pt")
    tested = load_tested(Asked(tmp_path / "wide.pt", data, "split", data.parent / "store"), Console(quiet=True))
    assert figures_of(tested, tested.scores)[1].of == f"{ticks} ticks"


def test_a_checkpoint_of_little_memory_has_a_page(data: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    held = Checkpoint.load(checkpoints["label"])
    held.training.clear()
    held.save(tmp_path / "bare.pt")
    out = tmp_path / "page.html"
    result = run(data, "report", tmp_path / "bare.pt", "--out", str(out))
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    assert "The checkpoint has no curve of its training." in text
    assert "The checkpoint has no recipe." in text


def test_curves_are_of_what_was_noted_and_mark_the_best_epoch() -> None:
    lines = [{"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 1.0} for epoch in (1, 2, 3)]
    [chart] = curves(lines, 2, "accuracy")
    assert chart.startswith("<svg")
    assert ">validation</text>" in chart
    assert "currentColor" in chart
    assert len(curves(lines, None, "accuracy")[0]) < len(chart), "the dotted line"
    assert len(curves([{**line, "learning_rate": 0.1, "gradient_norm": 1.0} for line in lines], 2, "accuracy")) == 3
