"""MODEL_CARD.md, from the files beside it: no figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from models.baselines import METHODS
from service.bundle import CertificateDocument, EncoderDocument, ModelDocument, read_document


def write_card(bundle: Path) -> Path:
    """Write the card of the bundle in `bundle`; study.json and cost.json are used where they are there."""
    model = read_document(bundle / "model.json", ModelDocument)
    certificate = read_document(bundle / "certificate.json", CertificateDocument)
    encoder = read_document(bundle.parents[1] / "encoders" / model.encoder.name / "encoder.json", EncoderDocument)
    sections = [_head(model, encoder)]
    if (bundle / "confusion.csv").exists():
        sections.append("Confusion on the test part: [table](confusion.csv), [picture](confusion.png).")
    if study := _read(bundle / "study.json"):
        sections.append(_study(study))
    if cost := _read(bundle / "cost.json"):
        sections.append(_cost(cost, model))
    sections += [_certificate(certificate), _limits(bundle, certificate)]
    path = bundle / "MODEL_CARD.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _head(model: ModelDocument, encoder: EncoderDocument) -> str:
    training, spec = model.training, model.spec
    metrics = training["metrics"]
    tested = ""
    if "test_accuracy" in metrics:
        tested = f"**{metrics['test_accuracy']:.1%}** on {training['clips']['test']} test clips; "
    windows = f"windows of {spec.window_frames} every {spec.stride_frames}"
    many = "many-to-one" if model.task == "clip" else "many-to-many"
    averaged = "windows, averaged over the clip" if model.task == "clip" else "frames"
    return f"""# {model.name} {model.version}

Classifies a clip as one of {len(model.labels)} labels: {", ".join(model.labels)}.

| | |
|---|---|
| task | `{model.task}` ({many}), scores: {model.score} of {averaged} |
| accuracy | {tested}{metrics["validation_accuracy"]:.1%} on validation groups |
| data | {training["data"]}, `{training["split"]}`, {training["clips"]["train"]} training clips |
| validation | {training["validation"]}; it chose the {training["epochs"]} epochs, then all of train was used |
| encoder | {encoder.name}, {training["encoder"]}; {encoder.source} |
| head | {json.dumps(training["head"])} |
| optimisation | AdamW, {json.dumps(training["fit"])} |
| seed, commit | {training["seed"]}, `{training["commit"][:12]}` |
| clip spec | {spec.sample_fps:g} frames a second, {spec.frame_width}×{spec.frame_height}, `{spec.resize}`; {windows} |
| trained | {model.created}, PyTorch {training["torch"]} |"""


def _study(study: dict[str, Any]) -> str:
    splits = study["splits"]
    lines = [
        "## Does the LSTM earn its place?",
        "",
        f"Test accuracy, mean ± standard deviation over {study['seeds']} seeds; every method gets the same windows, "
        "loop and validation groups.",
        "",
        f"| method | {' | '.join(splits)} | all |",
        "|---|" + "---|" * (len(splits) + 1),
    ]
    for method in METHODS:
        rows = study["accuracies"][method]
        cells = []
        for split in splits:
            values = [row["accuracy"] for row in rows if row["split"] == split]
            spread = f" ± {stdev(values):.1%}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1%}{spread}")
        cells.append(f"{mean(row['accuracy'] for row in rows):.1%}")
        lines.append(f"| {method.replace('_', ' ')} | {' | '.join(cells)} |")
    paired = study["lstm_minus_mean"]
    verdict = (
        "The LSTM is better than the mean of features."
        if paired["low"] > 0
        else "The LSTM is worse than the mean of features."
        if paired["high"] < 0
        else "**The LSTM does not beat the mean of features**: the interval holds zero. "
        "These classes can be told without the order of the frames."
    )
    lines += [
        "",
        f"LSTM − mean of features, paired by clip: {paired['mean']:+.1%}, 95 % interval {paired['low']:+.1%} "
        f"to {paired['high']:+.1%} (bootstrap over {paired['groups']} groups, "
        f"{paired['clips']} test clips of all splits). {verdict}",
        "",
        "`shuffled` is the same LSTM trained and tested on windows whose frames are in random order.",
    ]
    return "\n".join(lines)


def _cost(cost: dict[str, Any], model: ModelDocument) -> str:
    best = max(row["lstm_accuracy"] for row in cost["rows"])
    error = (best * (1 - best) / cost["validation_clips"]) ** 0.5
    lines = [
        "## Frame size and sample rate",
        "",
        f"Validation accuracy, mean over {cost['folds']} cuts of the training groups of {cost['split']} "
        f"({cost['validation_clips']} validation clips in all, so a standard error of about {error:.1%}, more as clips "
        "of a group are alike); test clips were not looked at. Cost is relative to the CNN at 224 × 224 and 8 frames a "
        "second. The row that ships is in bold.",
        "",
        "| size | frames a second | cost | LSTM | mean of features |",
        "|---|---|---|---|---|",
    ]
    for row in cost["rows"]:
        ships = row["size"] == model.spec.frame_height and row["sample_fps"] == model.spec.sample_fps
        cells = [
            str(row["size"]), f"{row['sample_fps']:g}", f"{row['relative_cost']:.2f}",
            f"{row['lstm_accuracy']:.1%}", f"{row['mean_of_features_accuracy']:.1%}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(f"**{cell}**" if ships else cell for cell in cells) + " |")
    return "\n".join(lines)


def _certificate(certificate: CertificateDocument) -> str:
    lines = [
        "## Certificate",
        "",
        "PyTorch in float64 against the runtime of each line; `python -m export show` prints all of certificate.json.",
        "",
        "| line | on | measured | limit | cases |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.check} | {row.runtime}, {row.precision} | {row.measured:.3g} | {row.comparison} {row.limit:g} "
        f"| {row.cases} |"
        for row in certificate.rows
    ]
    return "\n".join(lines)


def _limits(bundle: Path, certificate: CertificateDocument) -> str:
    """What its makers say of the model (notes.md beside it), and the licences of what went in."""
    notes = bundle / "notes.md"
    said = notes.read_text(encoding="utf-8").strip() + "\n\n" if notes.exists() else ""
    sources = "\n".join(f"- {part.name}: {part.origin}; licence: {part.licence}" for part in certificate.sources)
    return f"## Limits and licence\n\n{said}{sources}"
