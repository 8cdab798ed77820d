"""Does the recurrent head earn its place? The methods of `models.study.methods` on splits × seeds, into study.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from models import encoders
from models.data.loading import load_clips
from models.data.manifests import DatasetError, labels_to_learn, read
from models.data.parts import cut
from models.data.targets import Targets
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.intervals import ratio_interval
from models.recipe import DataSettings, EncoderSettings
from models.report.card import shipped_head
from models.report.screen import cell_name, say, write_json
from models.seen import validation_clips_seen
from models.served import PERMUTATIONS
from models.study.methods import METHODS, correct, train_method
from models.tasks import LABEL
from service.video.spec import ClipSpec


def study(
    data: Path,
    splits: tuple[str, ...],
    seeds: int,
    out: Path,
    store: Path,
    spec: ClipSpec,
    head: HeadSettings,
    fit: FitSettings,
    source: EncoderSettings,
    console: Console,
) -> None:
    """Write `out`: accuracies by method, split and seed, and recurrent − mean of features with a 95 % interval.

    The recurrent head goes by the name of its cell. Beside a bundle the study names that bundle's head. All methods get
    the features of one encoder, as it is: one that was fine-tuned on a split (`weights` of a checkpoint) has seen test
    clips of the others, and they are refused.
    """
    encoder = encoders.build(source.name, spec.frame_height, spec.frame_width, weights=source.weights)
    loaded = load_clips(read(data, splits[0]), spec, encoder, store, console)
    labels = labels_to_learn(loaded.clips)
    names = {method: head.cell if method == "recurrent" else method for method in METHODS}
    accuracies: dict[str, list[dict[str, float | int | str]]] = {name: [] for name in names.values()}
    differences: list[float] = []
    groups: list[str] = []
    fraction, validation_seed = DataSettings.validation_fraction, DataSettings.validation_seed
    for split in splits:
        clips = loaded.of(read(data, split))
        parts = cut(clips, loaded.features, Targets(LABEL, labels), spec, fraction, validation_seed)
        if parts.test is None:
            raise DatasetError(f"{data}: no clip is `test` in column {split}; a study needs some")
        validation_clips_seen(encoder, source.weights, parts, loaded.sha256)
        right = {method: np.zeros((seeds, len(parts.test_clips))) for method in METHODS}
        for method in METHODS:
            for seed in range(seeds):
                model, _ = train_method(method, parts, len(labels), head, fit, seed)
                right[method][seed] = correct(method, model, parts, seed)
                share = float(right[method][seed].mean())
                accuracies[names[method]].append({"split": split, "seed": seed, "accuracy": round(share, 4)})
                say(console, f"{split} seed {seed} {names[method]}: {share:.1%}")
        differences += (right["recurrent"].mean(axis=0) - right["mean_of_features"].mean(axis=0)).tolist()
        groups += [clip.group for clip in parts.test_clips]
    found = ratio_interval(np.array(differences), np.ones(len(differences)), groups)
    result: dict[str, Any] = {
        "head_sha256": shipped_head(out.parent),
        "cell": head.cell, "head": vars(head), "fit": fit.to_dict(), "permutations": PERMUTATIONS,
        "splits": list(splits), "seeds": seeds, "sample_fps": spec.sample_fps, "size": spec.frame_height,
        "region": str(spec.region) if spec.region else None,
        "encoder_weights": encoder.origin.to_dict() if encoder.origin else {},
        "accuracies": accuracies,
        f"{head.cell}_minus_mean": {
            "mean": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4),
            "clips": len(differences), "groups": len(set(groups)),
        },
    }  # fmt: skip
    write_json(out, result, console)
    name = cell_name(head.cell, bidirectional=head.bidirectional)
    say(console, f"{name} − mean of features: {found.value:+.1%}, 95 % interval {found.low:+.1%} to {found.high:+.1%}")
