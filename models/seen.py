"""Clips that an encoder's weights were trained on before, with another head: no figure of them is one of new clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.data.parts import Parts
from models.encoders import ImageEncoder
from models.errors import DatasetError


def validation_clips_seen(encoder: ImageEncoder, weights: str, parts: Parts, sha256: Mapping[Path, str]) -> int:
    """How many clips of validation the encoder knows. Raises DatasetError where it knows some of test.

    weights: what the encoder's were asked for as, for the message. sha256: of the clips' bytes.
    """
    seen = encoder.origin.seen if encoder.origin else frozenset()
    tested = [clip.path.name for clip in parts.test_clips if sha256[clip.path] in seen]
    if tested:
        raise DatasetError(
            f"{weights}: its encoder was trained on {len(tested)} of the {len(parts.test_clips)} test clips, "
            f"{tested[0]} among them: their figures would tell of clips that it knows; take the split that it was "
            "trained on, or other weights"
        )
    return sum(sha256[clip.path] in seen for clip in parts.validation_clips)
