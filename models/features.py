"""Stored feature vectors: each clip goes through decode and CNN once, so that an epoch takes seconds.

Keyed by content (SHA-256 of file), pixels (the clip spec without its windows) and encoder (its weights).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.encoders import ImageEncoder, folded, weights_sha256
from service.video.frames import REVISION
from service.video.pool import DecodePool
from service.video.spec import ClipSpec

# Small batches stay in a CPU's cache: measured 5 ms a frame at 4, 21 ms at 32.
_BATCH_FRAMES = 4


class FeatureStore:
    """A folder of `<sha256 of file + pixels + encoder>.npy`, float32 (T, D), one row a tick.

    Pixels are decided by the spec and by the revision of the code that prepares them.
    """

    def __init__(self, folder: Path, encoder: ImageEncoder, spec: ClipSpec) -> None:
        self.folder = folder
        self.encoder = encoder
        self.spec = spec
        self._key = f"{REVISION}/{spec.pixels_sha256}/{weights_sha256(encoder)}"
        self._network = folded(encoder)

    def load(self, paths: Sequence[Path], *, show_progress: bool = True) -> list[NDArray[np.float32]]:
        """Features of each clip, in order; what is not stored yet is extracted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _keep_freed_memory()
        columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not show_progress) as bar, DecodePool(num_credits=1) as pool:
            return [self._load_one(path, pool) for path in bar.track(paths)]

    def _load_one(self, path: Path, pool: DecodePool) -> NDArray[np.float32]:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        stored = self.folder / f"{hashlib.sha256(f'{content}/{self._key}'.encode()).hexdigest()}.npy"
        if stored.exists():
            features: NDArray[np.float32] = np.load(stored, allow_pickle=False)
            return features
        try:
            features = extract(path, self._network, self.spec, pool)
        except Exception as error:
            error.add_note(f"clip: {path}")
            raise
        aside = stored.with_suffix(f".{os.getpid()}.part")
        with aside.open("wb") as file:
            np.save(file, features, allow_pickle=False)
        aside.replace(stored)
        return features


def extract(path: Path, network: torch.nn.Module, spec: ClipSpec, pool: DecodePool) -> NDArray[np.float32]:
    """Decode, sample and encode one clip: float32 (T, D), a repeated frame's feature repeated.

    Decoded as served clips are, in a process that hears what FFmpeg complains of. Raises as `OpenVideo` does.
    """
    rows = []
    with torch.inference_mode(), pool.open(path, spec) as video:
        for batch in video.batches(_BATCH_FRAMES):
            encoded = network(torch.from_numpy(batch.frames)).numpy()
            rows.append(np.repeat(encoded, batch.ticks, axis=0))
    return np.concatenate(rows)


def _keep_freed_memory() -> None:
    """Let glibc reuse freed activations instead of returning them to the kernel (mallopt(3)).

    Measured on two cores: 9 ms a frame become 5, as the page faults go.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(ctypes.c_int(-3), ctypes.c_int(32 << 20))  # M_MMAP_THRESHOLD, its largest value
        libc.mallopt(ctypes.c_int(-1), ctypes.c_int(1 << 30))  # M_TRIM_THRESHOLD
