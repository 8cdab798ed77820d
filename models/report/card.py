"""MODEL_CARD.md, from the files beside it: no figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.errors import ModelsError
from models.report.card_studies import choose_section, cost_section, study_section
from service.bundle import EncoderDocument, ModelDocument, read_document
from service.certificate import CertificateDocument


def write_card(bundle: Path) -> Path:
    """Write the card of the bundle in `bundle`; study.json, cost.json and choose.json are used where they are there."""
    model = read_document(bundle / "model.json", ModelDocument)
    certificate = read_document(bundle / "certificate.json", CertificateDocument)
    encoder = read_document(bundle.parents[1] / "encoders" / model.encoder.name / "encoder.json", EncoderDocument)
    sections = [_head(model, encoder)]
    if (bundle / "confusion.csv").exists():
        sections.append("Confusion on the test part: [table](confusion.csv), [picture](confusion.png).")
    if model.calibration or model.abstain:
        sections.append(_calibration(model))
    if study := _read(bundle / "study.json"):
        sections.append(study_section(study, model))
    if cost := _read(bundle / "cost.json"):
        sections.append(cost_section(cost, model))
    if choose := _read(bundle / "choose.json"):
        sections.append(choose_section(choose, model))
    sections += [_certificate(certificate), _limits(bundle, certificate)]
    path = bundle / "MODEL_CARD.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def shipped_head(folder: Path) -> str | None:
    """SHA-256, hex, of the head of the bundle in `folder`; None where there is no bundle."""
    path = folder / "model.json"
    return read_document(path, ModelDocument).head_sha256 if path.exists() else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelsError(f"{path} is not JSON: {error}; measure it anew, or remove it") from error
    return content


def _head(model: ModelDocument, encoder: EncoderDocument) -> str:
    """Rows whose figures nobody gave are left out: the training of a network of one's own may say nothing."""
    training, spec, whole = model.training, model.spec, model.spec.window_frames is None
    windows = "the whole clip at once" if whole else f"windows of {spec.window_frames} every {spec.stride_frames}"
    many = "many-to-one" if model.task == "clip" else "many-to-many"
    averaged = "frames" if model.task == "frame" else "the whole clip" if whole else "windows, averaged over the clip"
    score = "as the head gives them, of" if model.score == "none" else f"{model.score} of"
    seen = f"`{spec.resize}`{f', region {spec.region}' if spec.region else ''}; {windows}"
    rate = f"{spec.sample_fps:g} frames a second" if spec.sample_fps else "every frame"
    frozen = f", {training['encoder']}" if "encoder" in training else ""
    rows = {
        "task": f"`{model.task}` ({many}), scores: {score} {averaged}",
        "accuracy": _accuracy(model),
        "data": _data(training),
        "validation": _validation(training),
        "encoder": f"{encoder.name}{frozen}; {encoder.source}",
        "head": json.dumps(training["head"]) if "head" in training else "",
        "head's sha256": f"`{model.head_sha256}`",
        "optimisation": _optimisation(training),
        **_seed_and_commit(training),
        "clip spec": f"{rate}, {spec.frame_width}×{spec.frame_height}, {seen}",
        "trained": ", PyTorch ".join(str(part) for part in (model.created, training.get("torch")) if part),
    }
    table = "\n".join(f"| {name} | {said} |" for name, said in rows.items() if said)
    does = "Names, at every tick," if model.task == "frame" else "Classifies a clip as"
    return f"""# {model.name} {model.version}

{does} one of {len(model.labels)} labels: {", ".join(model.labels)}.

| | |
|---|---|
{table}"""


def _optimisation(training: dict[str, Any]) -> str:
    """The optimizer's name first; of before there was a choice it is AdamW."""
    if "fit" not in training:
        return ""
    fit = dict(training["fit"])
    return f"{fit.pop('optimizer', 'AdamW')}, {json.dumps(fit)}"


def _accuracy(model: ModelDocument) -> str:
    """What the certificate holds the model to; else what training measured, and that nothing proves it."""
    metrics = _metrics(model)
    if claim := model.claim:
        validated = metrics.get("validation_accuracy") if claim.part != "validation" else None
        also = f"; {validated:.1%} on validation groups" if validated is not None else ""
        if claim.part == "test" and (inside := metrics.get("test_figure_in_segments")) is not None:
            also += f"; {inside:.1%} of the ticks in segments"
        of = f"of {claim.ticks} ticks in" if claim.ticks else "on"
        return f"**{claim.accuracy:.1%}** {of} {claim.clips} {claim.part} clips{also}"
    said = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    return f"{said} (not proven by the certificate)" if said else ""


def _data(training: dict[str, Any]) -> str:
    clips = _part(training, "clips")
    left_out = training.get("left_out")
    broken = len(left_out) if isinstance(left_out, list) else 0
    parts = (
        training.get("data"),
        f"`{training['split']}`" if "split" in training else "",
        f"{clips['train']} training clips" if "train" in clips else "",
    )
    return ", ".join(str(part) for part in parts if part) + (f"; {broken} broken clips left out" if broken else "")


def _validation(training: dict[str, Any]) -> str:
    if not {"validation", "epochs"} <= training.keys():
        return ""
    epochs, cap = training["epochs"], _part(training, "fit").get("epochs")
    last = "it is the last that was allowed" if epochs == cap else f"{cap} were allowed, and it waits for more"
    capped = f" (early stopping did not stop: {last})" if training.get("epoch_cap_reached") else ""
    seen = training.get("encoder_saw_validation")
    known = f"; **the encoder was trained on {seen} of its clips before: what it says is too good**" if seen else ""
    return f"{training['validation']}; it chose the {epochs} epochs{capped}, then all of train was used{known}"


def _seed_and_commit(training: dict[str, Any]) -> dict[str, str]:
    said = {name: str(training[name]) for name in ("seed", "commit") if name in training}
    if "commit" in said:
        said["commit"] = f"`{said['commit'][:12]}`"
    return {", ".join(said): ", ".join(said.values())}


def _metrics(model: ModelDocument) -> dict[str, float]:
    metrics = _part(model.training, "metrics")
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _part(training: dict[str, Any], name: str) -> dict[str, Any]:
    """Training is what its makers wrote: a part may be missing, or something else."""
    found = training.get(name)
    return found if isinstance(found, dict) else {}


def _calibration(model: ModelDocument) -> str:
    """Either of the two may be there alone."""
    said = []
    if calibration := model.calibration:
        tested = _metrics(model).get("test_ece")
        on_test = f"; on test clips {tested:.1%}" if tested is not None else ""
        said.append(
            f"Expected calibration error on {calibration.clips} validation clips (15 bins): "
            f"{calibration.ece_before:.1%} as trained, {calibration.ece_after:.1%} at the temperature "
            f"{calibration.temperature:.2f}, which is inside head.onnx{on_test}."
        )
    if abstain := model.abstain:
        said.append(
            f"`abstained` below a best score of {abstain.threshold:.3f}: {abstain.kept:.1%} of the validation clips "
            f"reach it, {abstain.kept_accuracy:.1%} of those rightly named."
        )
    return "## Calibration\n\n" + " ".join(said)


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
