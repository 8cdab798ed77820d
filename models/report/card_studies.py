"""Sections of MODEL_CARD.md on what was compared: methods, hyperparameters, frame sizes and rates."""

from __future__ import annotations

import json
from statistics import mean, stdev
from typing import Any

from models.report.screen import cell_name
from models.study.choose import is_made_so
from models.study.methods import METHODS
from service.bundle import ModelDocument


def study_section(study: dict[str, Any], model: ModelDocument) -> str:
    """Methods on splits × seeds, of `models study`."""
    splits, cell = study["splits"], study.get("cell", "lstm")
    name = cell_name(cell, bidirectional=study.get("head", {}).get("bidirectional", False))
    lines = [
        f"## Does the {name} earn its place?",
        "",
        f"Test accuracy, mean ± standard deviation over {study['seeds']} seeds; every method gets the same windows, "
        "loop and validation groups.",
        "",
        f"| method | {' | '.join(splits)} | all |",
        "|---|" + "---|" * (len(splits) + 1),
    ]
    for method in METHODS:
        rows = study["accuracies"][cell if method == "recurrent" else method]
        cells = []
        for split in splits:
            values = [row["accuracy"] for row in rows if row["split"] == split]
            spread = f" ± {stdev(values):.1%}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1%}{spread}")
        cells.append(f"{mean(row['accuracy'] for row in rows):.1%}")
        lines.append(f"| {name if method == 'recurrent' else method.replace('_', ' ')} | {' | '.join(cells)} |")
    paired = study[f"{cell}_minus_mean"]
    verdict = (
        f"The {name} is better than the mean of features."
        if paired["low"] > 0
        else f"The {name} is worse than the mean of features."
        if paired["high"] < 0
        else f"**The {name} does not beat the mean of features**: the interval holds zero. "
        "These classes can be told without the order of the frames."
    )
    orders = (
        f"windows whose frames are in random order, another one in every epoch; its test is a mean over "
        f"{study['permutations']} orders."
        if "permutations" in study
        else "windows whose frames are in random order."
    )
    lines += [
        "",
        f"{name} − mean of features, paired by clip: {paired['mean']:+.1%}, 95 % interval {paired['low']:+.1%} "
        f"to {paired['high']:+.1%} (bootstrap over {paired['groups']} groups, "
        f"{paired['clips']} test clips of all splits). {verdict}",
        "",
        f"`shuffled` is the same {name} trained and tested on {orders}",
        "",
        f"{_studied_features(study, model)} {_studied_head(study, model)}".lstrip(),
    ]
    return "\n".join(lines)


def _studied_features(study: dict[str, Any], model: ModelDocument) -> str:
    """Of which encoder all methods had the features; '' where the study is of before it said."""
    weights = study.get("encoder_weights")
    if not weights:
        return ""
    if weights.get("model") == model.name:
        return "All methods have the features of this model's own encoder, which was trained with its head."
    return f"All methods have features of {weights['source']}."


def _studied_head(study: dict[str, Any], model: ModelDocument) -> str:
    """A study trains heads of its own; whether they are made as the one that ships is."""
    ours = f"the one that ships (`{model.head_sha256[:12]}`)"
    if "head_sha256" not in study:
        return f"The study does not say which head shipped when it was made; {ours} may be a later one."
    theirs = study["head_sha256"]
    if study.get("head") != model.training.get("head"):
        return f"**The heads of the study have other settings than {ours}**: {json.dumps(study.get('head'))}."
    if theirs is None:
        return f"The study was made before there was a bundle; its heads have the settings of {ours}."
    if theirs != model.head_sha256:
        return f"**The study was made beside another head (`{theirs[:12]}`) than {ours}.**"
    return f"The study was made beside {ours}."


def cost_section(cost: dict[str, Any], model: ModelDocument) -> str:
    """Frame sizes and sample rates, of `models cost`."""
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


def choose_section(choose: dict[str, Any], model: ModelDocument) -> str:
    """Hyperparameters, of `models choose`."""
    chosen, training = choose["chosen"], model.training
    lines = [
        "## Hyperparameters",
        "",
        f"`python -m models choose` on {choose['folds']} validation cuts of the {choose['clips']} training clips of "
        f"{choose['split']}, mean ± standard error (folds share clips, so that it is rather too small); test clips "
        "were not looked at. The row that ships is in bold.",
        "",
        "| cell | pooling | hidden size | dropout, in and out | learning rate | accuracy | loss |",
        "|---|---|---|---|---|---|---|",
    ]
    is_there = False
    for row in choose["rows"]:
        if "accuracy" not in row:
            continue
        spread = "" if row["standard_error"] is None else f" ± {row['standard_error']:.1%}"
        cells = [
            cell_name(row["cell"]), row["pooling"], str(row["hidden_size"]),
            f"{row['input_dropout']:g}, {row['output_dropout']:g}", f"{row['learning_rate']:g}",
            f"{row['accuracy']:.1%}{spread}", f"{row['loss']:.3f}",
        ]  # fmt: skip
        bold = is_made_so(row, choose, training, model.spec, model.encoder.name)
        is_there = is_there or bold
        lines.append("| " + " | ".join(f"**{cell}**" if bold else cell for cell in cells) + " |")
    if not is_there:
        lines += ["", "**The settings that ship are none of these rows.**"]
    elif chosen is not None and not is_made_so(chosen, choose, training, model.spec, model.encoder.name):
        lines += ["", f"The best row is another one than ships: {chosen['accuracy']:.1%}."]
    return "\n".join(lines)
