"""The known answer of a bundle: a few frames, their features and one window's scores, as PyTorch computed them.

A certificate was written on another machine, perhaps, by another version of the runtime. The known answer is asked of
the sessions that serve, at start, at every batch size served: what they compute is proven again where it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.arrays import npz_bytes, read_npz
from service.bundle import EncoderDocument, ModelDocument, Precision
from service.differences import SMALL, relative_difference
from service.engine.heads import Array, Scoring, state_size
from service.engine.sessions import Encoder
from service.errors import BundleError
from service.tolerances import tolerance_of

# The lines of the certificate whose limits hold here too.
_FEATURES, _SCORES = "encoder features, real frames", "head outputs, grid"


@dataclass(frozen=True)
class KnownAnswer:
    """What a right encoder and head give.

    frames: uint8 RGB (N, H, W, 3). features: float32 (N, D), of the frames. window: int64 (T,), the frame that each of
    a window's ticks shows. scores: float32, of the window from the zero state: (K,), of a frame model (T, K).
    """

    frames: NDArray[np.uint8]
    features: Array
    window: NDArray[np.int64]
    scores: Array

    def to_bytes(self) -> bytes:
        """A compressed .npz; the same answer gives the same bytes."""
        return npz_bytes(**vars(self))

    @classmethod
    def read(cls, path: Path, model: ModelDocument, encoder: EncoderDocument) -> KnownAnswer:
        """Raises BundleError where it can't be read, or is of another encoder or head."""
        rows = (None,) if model.task == "frame" else ()
        found = cls(
            **read_npz(
                path,
                {
                    "frames": (np.uint8, (None, encoder.frame_height, encoder.frame_width, 3)),
                    "features": (np.float32, (None, encoder.feature_size)),
                    "window": (np.int64, (None,)),
                    "scores": (np.float32, (*rows, len(model.labels))),
                },
            )
        )
        if len(found.frames) != len(found.features) or (rows and len(found.scores) != len(found.window)):
            raise BundleError(f"{path}: its arrays are of unequal lengths; export the bundle again")
        if not 0 <= found.window.min() <= found.window.max() < len(found.frames):
            raise BundleError(f"{path}: window names a frame that is not there; export the bundle again")
        return found

    def check_encoders(self, encoders: Sequence[Encoder], sizes: Sequence[int]) -> None:
        """Ask the first at every size of batch and the others, which run the same graph, at the largest.

        The limit is that of the certificate's real frames, at the precision computed in. Raises BundleError with the
        difference.
        """
        for number, encoder in enumerate(encoders):
            for size in sizes if number == 0 else sizes[-1:]:
                order = np.arange(size) % len(self.frames)
                encoder.buffer[:size] = self.frames[order]
                computed_by = f"{encoder.runtime} in {encoder.precision}, in batches of {size},"
                self.check_features(encoder.run(size), computed_by, encoder.precision, order)

    def check_features(
        self, features: Array, computed_by: str, precision: Precision, order: NDArray[np.int64] | None = None
    ) -> None:
        """Features (n, D) of the frames numbered by `order` (n,); without it of all, as they come.

        Raises BundleError with the difference.
        """
        limit = tolerance_of(_FEATURES, precision).limit
        off = relative_difference(features, self.features if order is None else self.features[order], SMALL)
        if not off <= limit:
            raise BundleError(
                f"the known answer is not given: {computed_by} computes features that are {off:.3g} off, at most "
                f"{limit:g} needed (certificate's line {_FEATURES!r}); serve on the machine and versions of the "
                "certificate, or export it again here"
            )

    def check_head(self, head: Scoring) -> None:
        """Ask for the scores of the window: alone, padded beside others, and, of a state, piece by piece.

        Raises BundleError with the difference.
        """
        window = self.features[self.window]
        part = max(1, len(window) // 2)
        per_tick, longer = self.scores.ndim == 2, np.concatenate([window, window[::-1]])
        rows = len(window) if per_tick else 1
        found = {"alone": head.scores([window]), "in a batch": head.scores([window, longer, window[:part]])[:rows]}
        if head.model.state and len(window) > 1:
            first, states = head.step([window[:part]], np.zeros((1, state_size(head.model)), np.float32))
            last, _ = head.step([window[part:]], states)
            found["piece by piece"] = np.concatenate([first, last]) if per_tick else last
        limit = tolerance_of(_SCORES, "fp32").limit
        for how, scores in found.items():
            off = relative_difference(scores if per_tick else scores[0], self.scores)
            if not off <= limit:
                raise BundleError(
                    f"the known answer is not given: head.onnx computes scores that are {off:.3g} off ({how}), at most "
                    f"{limit:g} needed (certificate's line {_SCORES!r}); serve on the versions of the certificate, or "
                    "export it again"
                )
